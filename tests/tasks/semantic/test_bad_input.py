"""Invalid masks end in one message with file, field, value and hint, and the exit code of bad data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.cli.main import run
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import complete_config, open_split

SIZE = (40, 48)
SETTINGS = ("data.size=32", "train.epochs=1", "train.batch=2", "backbone.name=test_resnet", "arch=fcn32s")
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two training images and one validation image; sky above, road below."""
    for path in ("train/{}/a.png", "train/{}/b.png", "val/{}/c.png"):
        write_image(tmp_path / path.format("images"), np.full((*SIZE, 3), 90, np.uint8))
        write_image(tmp_path / path.format("masks"), make_mask(0, 1))
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    return tmp_path


def make_mask(above: Any, below: Any, size: tuple[int, int] = SIZE) -> np.ndarray:
    rows = np.arange(size[0]).reshape(-1, *[1] * np.ndim([above])) >= size[0] // 2
    if np.ndim(above):
        return np.broadcast_to(np.where(rows, np.uint8(below), np.uint8(above)), (*size, 3)).copy()
    return np.broadcast_to(np.where(rows, np.uint8(below), np.uint8(above)), size).copy()


FAULTS: dict[str, tuple[np.ndarray, list[str]]] = {
    "size": (make_mask(0, 1, (40, 47)), ["train/masks/a.png", "40 x 47", "40 x 48"]),
    "value": (make_mask(0, 7), ["train/masks/a.png", "pixel (20, 0)", "7", "data.unknown"]),
    "color image": (make_mask(RED, BLUE), ["train/masks/a.png", "data.colors"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_train__names_the_fault(fault: str, dataset: Path, capsys: pytest.CaptureFixture) -> None:
    mask, parts = FAULTS[fault]
    write_image(dataset / "train/masks/a.png", mask)
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    with pytest.raises(SystemExit) as ending:
        run(["semantic", "train", "--data", str(dataset), "--out", str(dataset / "run"), "--quiet", *sets])
    message = capsys.readouterr().err
    assert ending.value.code == 3 and "Traceback" not in message
    assert all(part in message for part in parts), message


def config(dataset: Path, **settings: Any) -> SemanticConfig:
    return SemanticConfig.resolve(None, {"data.path": str(dataset), **settings})


def test_color__that_is_not_in_the_palette(dataset: Path) -> None:
    for file in dataset.glob("*/masks/*.png"):
        write_image(file, make_mask(RED, BLUE))
    colored = config(dataset, **{"data.colors": [list(RED), list(BLUE)]})
    np.testing.assert_array_equal(open_split(colored, "train")[0].truth.labels, make_mask(0, 1))
    write_image(dataset / "train/masks/a.png", make_mask(RED, (0, 9, 255)))
    with pytest.raises(DataError, match=r"a\.png: pixel \(20, 0\): .*not in the palette \(got \(0, 9, 255\)\)"):
        open_split(colored, "train")[0]
    fixed = open_split(colored.replace(data__on_error="fix"), "train")
    np.testing.assert_array_equal(fixed[0].truth.labels, make_mask(0, 255))
    assert any("a.png" in note for note in fixed.notes)


@pytest.mark.parametrize(("policy", "count"), [("fix", 2), ("skip", 1)])
def test_invalid_value__is_counted_under_fix_and_skip(policy: str, count: int, dataset: Path) -> None:
    write_image(dataset / "train/masks/a.png", make_mask(0, 7))
    samples = open_split(config(dataset, **{"data.on_error": policy}), "train")
    assert len(samples) == count and any("images/a.png" in note for note in samples.notes)


def test_unknown_masks__are_refused_for_training(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    write_image(dataset / "train/masks/a.png", make_mask(255, 255))
    write_image(dataset / "val/masks/c.png", make_mask(255, 255))
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    command = ["semantic", "train", "--data", str(dataset), "--quiet", *sets, "--out"]
    run([*command, str(dataset / "run")])
    assert "mIoU is undefined on the validation split" in capsys.readouterr().err
    samples = open_split(config(dataset, **{"data.on_error": "fix"}), "train")
    assert len(samples) == 2 and any("without a known pixel" in note for note in samples.notes)
    write_image(dataset / "train/masks/b.png", make_mask(255, 255))
    with pytest.raises(SystemExit) as ending:
        run([*command, str(dataset / "other")])
    assert ending.value.code == 3 and "no pixel of the training masks is known" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["multiclass", "binary"])
def test_255_as_the_only_foreground__is_refused(mode: str, dataset: Path) -> None:
    for file in dataset.glob("*/masks/*.png"):
        write_image(file, make_mask(0, 255))
    for split in ("train", "val"):
        with pytest.raises(DataError, match=r"data\.values"):
            open_split(config(dataset, mode=mode), split)
        stated = config(dataset, **{"mode": mode, "data.values": [0, 255]})
        np.testing.assert_array_equal(open_split(stated, split)[0].truth.labels, make_mask(0, 1))
        assert not open_split(config(dataset, **{"mode": mode, "data.values": [0, 1]}), split)[0].truth.mask(1).any()


def test_class_names__must_be_known(dataset: Path) -> None:
    with pytest.raises(DataError, match="class names"):
        (dataset / "classes.txt").unlink()
        complete_config(config(dataset))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "mask missing": lambda root: (root / "train/masks/a.png").unlink(),
    "mask is no image": lambda root: (root / "train/masks/a.png").write_text("no"),
    "image is no image": lambda root: (root / "train/images/a.png").write_text("no"),
}


@pytest.mark.parametrize("fault", DAMAGES)
def test_damaged_file__is_named(fault: str, dataset: Path) -> None:
    DAMAGES[fault](dataset)
    with pytest.raises(DataError, match=r"a\.png"):
        samples = open_split(config(dataset), "train")
        [samples[index] for index in range(len(samples))]
