"""Weights files: against the safetensors library, hand-made headers, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from densevision.errors import DenseVisionError, WeightsError
from densevision.io.weights import SCHEMA, Card, load_card, load_weights, save_weights
from densevision.version import __version__

CARD = Card(
    task="detection",
    config={"task": "detection", "backbone": {"name": "resnet18", "mean": [0.5, 0.25]}},
    classes=("cat", "Hündin", "鳥"),
    preprocessing={"mean": [0.5]},
    data={"path": "scenes:200", "images": 200},
    metrics={"metrics": {"AP": 0.5}, "protocol": {"iou": "0.50:0.95"}},
    license="Apache-2.0",
    source="trained here",
)
TENSORS = {
    "weight": torch.linspace(-2, 2, 24).reshape(2, 3, 4),
    "steps": torch.tensor(2**40),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file by hand: the length of the JSON, the JSON, the numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def with_card(**fields: object) -> dict:
    card = {**json.loads(CARD.to_json()), **fields}
    return {"__metadata__": {"densevision": json.dumps({k: v for k, v in card.items() if v != "absent"})}}


def test_weights__return_as_they_were(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", TENSORS, CARD)
    tensors, card = load_weights(tmp_path / "a.safetensors", "detection")
    assert card == CARD == load_card(tmp_path / "a.safetensors")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_weights__are_plain_safetensors(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", TENSORS, CARD)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert set(file.keys()) == set(TENSORS)
        assert torch.equal(file.get_tensor("weight"), TENSORS["weight"])
        assert json.loads(file.metadata()["densevision"])["classes"] == list(CARD.classes)


def test_weights__same_weights_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_weights(tmp_path / name, TENSORS, CARD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights__half_keeps_integers_and_returns_as_float32(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", TENSORS, CARD, half=True)
    stored = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {name: tensor.dtype for name, tensor in stored.items()} == {
        "weight": torch.float16,
        "steps": torch.int64,
        "mask": torch.bool,
        "empty": torch.float16,
    }
    tensors, _ = load_weights(tmp_path / "a.safetensors")
    assert tensors["weight"].dtype == torch.float32 and tensors["steps"] == 2**40
    assert torch.equal(tensors["weight"], TENSORS["weight"].half().float())


def test_weights__half_refuses_what_would_overflow(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"running_var: too large for half precision \(got 70000"):
        save_weights(tmp_path / "a", {"running_var": torch.tensor([1.0, 7e4])}, CARD, half=True)
    assert not list(tmp_path.iterdir())
    save_weights(tmp_path / "a", {"bound": torch.tensor([torch.inf, torch.nan])}, CARD, half=True)


def test_weights__shared_turned_and_other_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "tied": base,
        "tied_again": base,
        "row": base[1],
        "turned": base.t(),
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bfloat16": torch.ones(2, dtype=torch.bfloat16),
        "double": torch.ones(2, dtype=torch.float64),
        "numpy": np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2].copy(),
    }
    save_weights(tmp_path / "a", tensors, CARD)
    found, _ = load_weights(tmp_path / "a")
    for name, tensor in tensors.items():
        expected = torch.as_tensor(tensor).detach()
        expected = expected.float() if name == "bfloat16" else expected
        assert found[name].dtype == expected.dtype and torch.equal(found[name], expected), name
    found["tied"].zero_()
    assert torch.equal(found["tied_again"], base), "each has memory of its own"


def test_weights__state_dict_of_a_network(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    save_weights(tmp_path / "a", net.state_dict(), CARD)
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    other.load_state_dict(load_weights(tmp_path / "a")[0], strict=True, assign=True)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))


def test_card__values_that_json_does_not_know(tmp_path: Path) -> None:
    metrics = {"AP": float("nan"), "count": np.int64(3), "mean": np.float32(0.5), "sizes": (1, 2), 7: None}
    save_weights(tmp_path / "a", {}, CARD.replace(metrics=metrics))
    assert load_card(tmp_path / "a").metrics == {"AP": None, "count": 3, "mean": 0.5, "sizes": [1, 2], "7": None}


def test_card__says_which_version_made_it() -> None:
    card = Card(task="depth", config={})
    assert card.versions["densevision"] == __version__ and card.schema == SCHEMA
    assert card.replace(license="MIT").license == "MIT" and card.license == ""


def test_load_card__needs_no_torch(tmp_path: Path) -> None:
    save_weights(tmp_path / "a", TENSORS, CARD)
    program = (
        "import sys; from densevision.io.weights import load_card\n"
        "print(load_card(sys.argv[1]).task, 'torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["detection", "False", "False"]


# Refusals

LOADERS = pytest.mark.parametrize("load", [load_card, load_weights])


@LOADERS
def test_load__missing_empty_or_folder(load, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: no such file") as caught:
        load(tmp_path / "absent.safetensors")
    assert caught.value.exit_code == 4
    (tmp_path / "empty.safetensors").touch()
    with pytest.raises(WeightsError, match="empty"):
        load(tmp_path / "empty.safetensors")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        load(tmp_path)


@LOADERS
def test_load__truncated_at_any_length(load, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", TENSORS, CARD)
    data = (tmp_path / "a.safetensors").read_bytes()
    for length in [1, 7, 8, *range(9, len(data), 37), len(data) - 1]:
        (tmp_path / "a.safetensors").write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"a\.safetensors: (truncated|not safetensors)"):
            load(tmp_path / "a.safetensors")


@LOADERS
@pytest.mark.parametrize("zipped", [True, False])
def test_load__pickle(load, zipped: bool, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"PyTorch checkpoint, not safetensors.*convert-weights"):
        load(tmp_path / "model.safetensors")


@LOADERS
@pytest.mark.parametrize("data", [b"some text that is not weights", b"\xff" * 100, struct.pack("<Q", 10**12) + b"{}"])
def test_load__not_safetensors(load, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="not safetensors"):
        load(tmp_path / "a.safetensors")


@LOADERS
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_load__foreign_safetensors(load, metadata: dict | None, tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(WeightsError, match=r"without a densevision card.*convert-weights"):
        load(tmp_path / "a.safetensors")


@LOADERS
@pytest.mark.parametrize(
    "header",
    [b"{not json}", b'{"a": 1}', b'{"a": {"data_offsets": "x"}}', b'{"__metadata__": []}', b'{"a":' * 50_000 + b"1"],
    ids=range(5),
)
def test_load__damaged_head(load, header: bytes, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="damaged"):
        load(raw(tmp_path / "a.safetensors", header))


def test_load_weights__numbers_that_do_not_fit_their_head(tmp_path: Path) -> None:
    header = {**with_card(), "a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 8]}}
    with pytest.raises(WeightsError, match="damaged"):
        load_weights(raw(tmp_path / "a.safetensors", header, b"\0" * 8))


def test_load__head_whose_length_begins_like_a_pickle(tmp_path: Path) -> None:
    header = with_card()
    padding = 0x0280 - len(json.dumps(header))
    header = with_card(license=CARD.license + "x" * padding)
    path = raw(tmp_path / "a.safetensors", header)
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert load_weights(path)[1].task == "detection"


@LOADERS
@pytest.mark.parametrize("card", ["{", "[]", "null", '"text"', "[" * 100_000], ids=range(5))
def test_load__card_that_is_not_json(load, card: str, tmp_path: Path) -> None:
    path = raw(tmp_path / "a.safetensors", {"__metadata__": {"densevision": card}})
    with pytest.raises(WeightsError, match=r"a\.safetensors: densevision: the card is not a JSON object"):
        load(path)


@LOADERS
@pytest.mark.parametrize("name", list(json.loads(CARD.to_json())))
def test_load__card_without_a_field(load, name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"a\.safetensors: {name}: the card lacks this field"):
        load(raw(tmp_path / "a.safetensors", with_card(**{name: "absent"})))


@LOADERS
@pytest.mark.parametrize(
    ("name", "value"), [("task", 3), ("config", []), ("classes", "cat"), ("metrics", 0.5), ("schema", "1")]
)
def test_load__card_with_a_wrong_type(load, name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{name}: .*wrong type .*got"):
        load(raw(tmp_path / "a.safetensors", with_card(**{name: value})))


@LOADERS
def test_load__newer_schema(load, tmp_path: Path) -> None:
    header = with_card(schema=SCHEMA + 1, versions={"densevision": "9.1"}, task="absent")
    pattern = rf"schema: .*newer schema.*got {SCHEMA + 1}.*Update densevision: this is {__version__}.*9\.1"
    with pytest.raises(WeightsError, match=pattern):
        load(raw(tmp_path / "a.safetensors", header))


def test_load__unknown_field_of_a_card_is_left_aside(tmp_path: Path) -> None:
    assert load_card(raw(tmp_path / "a.safetensors", with_card(extra=1))) == CARD


def test_load_weights__another_task(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", TENSORS, CARD)
    with pytest.raises(WeightsError, match=r"a\.safetensors: task: weights of another task \(got 'detection'\).*depth"):
        load_weights(tmp_path / "a.safetensors", "depth")


# Writing whole or not at all


def test_save_weights__a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, TENSORS, CARD)
    before = path.read_bytes()
    program = (
        "import resource, sys, torch\n"
        "from densevision.errors import DenseVisionError\n"
        "from densevision.io.weights import Card, save_weights\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: save_weights(sys.argv[1], {'a': torch.rand(100_000)}, Card('depth', {}))\n"
        "except DenseVisionError as failure: print(failure)"
    )
    command = [sys.executable, "-c", program, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a.safetensors: cannot write" in answer.stdout
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_save_weights__folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DenseVisionError, match="cannot write"):
        save_weights(tmp_path / "file" / "a.safetensors", TENSORS, CARD)
