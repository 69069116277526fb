"""Checkpoints of other projects: what is read, how it is unwrapped, and that nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from densevision.errors import WeightsError
from densevision.io.checkpoint import check_state_dict, read_state_dict, rename_state_dict

HINT = "Give the file."
TENSORS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7)}


def assert_same(state: dict[str, torch.Tensor]) -> None:
    assert sorted(state) == sorted(TENSORS)
    assert all(torch.equal(state[name], tensor) for name, tensor in TENSORS.items())


def add_prefix(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in TENSORS.items()}


@pytest.mark.parametrize("file_name", ["zip.pth", "old.pth", "half.PTH", "safe.safetensors", "safe.pth"])
def test_read_state_dict__every_serialization(file_name: str, tmp_path: Path) -> None:
    file = tmp_path / file_name
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in TENSORS.items()}
    writers: dict[str, Callable[[], Any]] = {
        "zip.pth": lambda: torch.save(TENSORS, file),
        "old.pth": lambda: torch.save(TENSORS, file, _use_new_zipfile_serialization=False),
        "half.PTH": lambda: torch.save(half, file),
        "safe.safetensors": lambda: save_file(TENSORS, file),
        "safe.pth": lambda: save_file(TENSORS, file),
    }
    writers[file_name]()
    state = read_state_dict(file, HINT)
    assert_same(state)
    assert state["layer.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    "content",
    [
        {"model": TENSORS, "epoch": 1},
        {"state_dict": TENSORS, "optimizer": {"lr": 0.1}},
        {"params_ema": TENSORS, "params": {"other": torch.zeros(1)}},
        {"model_ema": {"state_dict": TENSORS}, "model": {"other": torch.zeros(1)}},
        {"model": {"state_dict": add_prefix("module.")}},
        add_prefix("module."),
        add_prefix("_orig_mod.module."),
        {**TENSORS, "version": 3},
    ],
)
def test_read_state_dict__unwraps_what_training_programs_save(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "wrapped.pth")
    assert_same(read_state_dict(tmp_path / "wrapped.pth", HINT))


def test_read_state_dict__data_parallel_module(tmp_path: Path) -> None:
    torch.save(nn.DataParallel(nn.Linear(3, 2)).state_dict(), tmp_path / "parallel.pth")
    assert sorted(read_state_dict(tmp_path / "parallel.pth", HINT)) == ["bias", "weight"]


def test_read_state_dict__part_of_a_file(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "part.pth")
    stream = io.BytesIO((tmp_path / "part.pth").read_bytes())
    assert_same(read_state_dict(tmp_path / "archive.zip", HINT, stream))


class Malicious:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_read_state_dict__runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "pickled.pth").write_bytes(pickle.dumps({"weight": Malicious(tmp_path / "ran")}, protocol=2))
    torch.save({"weight": Malicious(tmp_path / "ran")}, tmp_path / "zipped.pth")
    for file in ("pickled.pth", "zipped.pth"):
        with pytest.raises(WeightsError) as error:
            read_state_dict(tmp_path / file, HINT)
        assert "weights_only" not in str(error.value)  # torch's own advice is to load it all the same
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", [0, 9, 0.5, 0.99])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_read_state_dict__damaged(save: Callable[..., Any], part: float, tmp_path: Path) -> None:
    save(TENSORS, tmp_path / "intact")
    content = (tmp_path / "intact").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(part * len(content)) if part < 1 else int(part)])
    with pytest.raises(WeightsError) as error:
        read_state_dict(tmp_path / "cut", HINT)
    assert Path(str(error.value.file)).name == "cut"


@pytest.mark.parametrize("content", [[1], {}, {"model": 3}, {"names": ["a"]}])
def test_read_state_dict__something_else(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "other.pth", HINT)


def test_read_state_dict__missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "absent", HINT)


def test_rename_state_dict__rules_in_order_and_ignored_names() -> None:
    rules = ((r"^layer\.", "blocks.0."), (r"weight$", "kernel"), (r"^count$", ""))
    assert list(rename_state_dict(TENSORS, rules)) == ["blocks.0.kernel"]
    assert list(rename_state_dict(TENSORS, (), ignore="count")) == ["layer.weight"]
    with pytest.raises(WeightsError):
        rename_state_dict(TENSORS, ((r".*", "same"),))


def test_check_state_dict__reports_missing_unknown_and_misshapen() -> None:
    with torch.device("meta"):
        expected = nn.Linear(3, 2).state_dict()
    sound = {"bias": torch.zeros(2), "weight": torch.zeros(2, 3)}
    assert list(check_state_dict(sound, expected, "x", Path("f"))) == ["weight", "bias"]
    for wrong, word in (
        ({"weight": sound["weight"]}, "bias"),
        ({**sound, "extra": torch.zeros(1)}, "extra"),
        ({**sound, "bias": torch.zeros(3)}, "(3,)"),
    ):
        with pytest.raises(WeightsError) as error:
            check_state_dict(wrong, expected, "x", Path("f"))
        assert word in str(error.value)
