"""Depth and pairs that do not fit: the command ends with the exit code of bad data, and one message that tells all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.cli.main import run
from densevision.io.image import write_image

SIZE = (64, 96)
SUPERVISED = ("data.scale=1000",)
STEREO = ("loss.silog=0", "loss.photometric=1", "output=disparity")


def put(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        write_image(path, array)
    return path


def colors(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((*size, 3), 90, np.uint8)


def millimeters(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full(size, 2000, np.uint16)


def spoilt(value: float) -> np.ndarray:
    depth = np.full(SIZE, 2.0, np.float32)
    depth[3, 4] = value
    return depth


def truth_as_array(root: Path, value: float) -> None:
    (root / "train/depth/0.png").unlink()
    put(root / "train/depth/0.npy", spoilt(value))


def as_pairs(root: Path, right: tuple[int, int] = SIZE) -> None:
    for split in ("train", "val"):
        put(root / split / "left" / "0.png", colors())
        put(root / split / "right" / "0.png", colors(right))
        for name in ("rgb", "depth"):
            for file in (root / split / name).iterdir():
                file.unlink()
            (root / split / name).rmdir()


Fault = tuple[Callable[[Path], Any], tuple[str, ...], list[str]]
FAULTS: dict[str, Fault] = {
    "size": (
        lambda root: put(root / "train/depth/0.png", millimeters((64, 95))),
        SUPERVISED,
        ["train/depth/0.png", "size differs from its image", "(64, 95)", "(64, 96)"],
    ),
    "8 bits": (
        lambda root: put(root / "train/depth/0.png", np.full(SIZE, 9, np.uint8)),
        SUPERVISED,
        ["train/depth/0.png", "8 bits"],
    ),
    "no scale": (lambda root: None, (), ["depth/0.png", "data.scale"]),
    "negative": (lambda root: truth_as_array(root, -1.0), SUPERVISED, ["train/depth/0.npy", "negative"]),
    "pair": (lambda root: as_pairs(root, (64, 95)), STEREO, ["train/right/0.png", "size differs"]),
    "calibration": (as_pairs, (*STEREO[:2], "output=metric"), ["camera", "focal", "baseline"]),
    "no such folder": (lambda root: None, ("data.train=elsewhere",), ["elsewhere"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_train__fault_is_named(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for split in ("train", "val"):
        put(tmp_path / split / "rgb" / "0.png", colors())
        put(tmp_path / split / "depth" / "0.png", millimeters())
    spoil, settings, words = FAULTS[fault]
    spoil(tmp_path)
    small = ("data.size=[64,96]", "backbone.name=test_resnet", "model.width=8", "train.epochs=1", "train.batch=1")
    sets = [word for setting in (*small, *settings) for word in ("--set", setting)]
    with pytest.raises(SystemExit) as ending:
        run(["depth", "train", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--quiet", *sets])
    message = capsys.readouterr().err
    assert ending.value.code == 3 and "Traceback" not in message, message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("verb", ["check", "train"])
def test_formats__that_need_conversion_are_named(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    put(tmp_path / "images" / "0.png", colors())
    (tmp_path / "depth").mkdir()
    (tmp_path / "depth" / "0.exr").write_bytes(b"v/1\x01" + bytes(100))
    source = [str(tmp_path)] if verb == "check" else ["--data", str(tmp_path)]
    with pytest.raises(SystemExit) as ending:
        run(["depth", verb, *source])
    message = capsys.readouterr().err
    assert ending.value.code == 3 and str(Path("depth", "0.exr")) in message and ".npy" in message
