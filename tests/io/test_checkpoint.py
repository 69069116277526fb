"""Foreign state dicts: what is read, and that nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state

HINT = "Give the file."
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "seen": torch.tensor(7)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return list(found) == sorted(TENSORS) and all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_state__pickle_zip_safetensors_and_half_precision_alike(tmp_path: Path) -> None:
    ordered = dict(sorted(TENSORS.items()))
    torch.save(ordered, tmp_path / "zip.pth")
    torch.save(ordered, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(
        {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in ordered.items()},
        tmp_path / "half.pth",
    )
    save_file(ordered, tmp_path / "safe.pth")
    for file in sorted(tmp_path.iterdir()):
        found = read_state(file, HINT)
        assert same(dict(sorted(found.items()))) and found["weight"].dtype == torch.float32, file.name


def test_state__within_and_as_a_part_of_a_file(tmp_path: Path) -> None:
    torch.save({"params": {"weight": torch.zeros(1)}, "params_ema": TENSORS, "epoch": 3}, tmp_path / "nested.pth")
    assert read_state(tmp_path / "nested.pth", HINT, ("params_ema", "params"))["weight"].shape == (2, 3)
    with pytest.raises(WeightsError, match=r"no state dict.*\['params', 'params_ema', 'epoch'\].*Give the file"):
        read_state(tmp_path / "nested.pth", HINT)
    stream = io.BytesIO((tmp_path / "nested.pth").read_bytes())
    assert "weight" in read_state(tmp_path / "archive.zip", HINT, ("params",), stream)


class Harmful:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_state__runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "harm.pth").write_bytes(pickle.dumps({"weight": Harmful(tmp_path / "ran")}, protocol=2))
    torch.save({"weight": Harmful(tmp_path / "ran")}, tmp_path / "zipped.pth")
    for file in ("harm.pth", "zipped.pth"):
        with pytest.raises(WeightsError, match="not a checkpoint that can be read") as raised:
            read_state(tmp_path / file, HINT)
        # torch's own advice is to read it all the same.
        assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", [0, 9, 0.5, 0.99])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_state__damaged(save, part: float, tmp_path: Path) -> None:
    save(TENSORS, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(part * len(content)) if part < 1 else part])
    with pytest.raises(WeightsError, match=r"cut: not a checkpoint.*Give the file; if it is that, the file is damaged"):
        read_state(tmp_path / "cut", HINT)


def test_state__missing_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="absent: there is no such file"):
        read_state(tmp_path / "absent", HINT)
    torch.save([1], tmp_path / "list")
    with pytest.raises(WeightsError, match=r"is no state dict.*'list'"):
        read_state(tmp_path / "list", HINT)
