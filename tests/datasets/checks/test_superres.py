"""Faults of targets and their inputs, planted one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.datasets.checks.catalog import SHARED
from densevision.datasets.checks.compression import blockiness, jpeg_quality
from densevision.io.image import read_image, write_image
from densevision.tasks import load_check


def detailed(texture, seed: int) -> np.ndarray:
    """An image with edges of all sizes, 128 x 128."""
    return (0.6 * texture(seed, (128, 128), 16) + 0.4 * texture(seed + 500, (128, 128), 3)).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    root = tmp_path / "data"
    for split, seeds in (("train", range(6)), ("val", range(20, 23))):
        for kind in ("HR", "LR"):
            (root / split / kind).mkdir(parents=True)
        for seed in seeds:
            target = detailed(texture, seed)
            write_image(root / split / "HR" / f"{seed}.png", target)
            reduced(target, root / split / "LR" / f"{seed}.png")
    return root


def reduced(target: np.ndarray, path: Path, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> None:
    Image.fromarray(target).resize((64, 64), kernel).save(path)


def spoil(root: Path, change: Callable[[np.ndarray], np.ndarray], kind: str = "LR") -> None:
    path = root / "train" / kind / "3.png"
    write_image(path, change(read_image(path)))


def squeezed(target: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", target, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)


def noisy(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def compressed(root: Path) -> None:
    spoil(root, squeezed, "HR")
    reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png")


def of_another(root: Path) -> None:
    write_image(root / "train/LR/3.png", read_image(root / "train/LR/4.png"))


def by_nearest(root: Path) -> None:
    reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png", Image.Resampling.NEAREST)


def averaged(root: Path) -> None:
    reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png", Image.Resampling.BOX)


FAULTS: dict[str, Callable[[Path], object]] = {
    "partner-missing": lambda root: (root / "train/LR/3.png").unlink(),
    "pair-size": lambda root: spoil(root, lambda image: image[:-2]),
    "input-other-kernel": averaged,
    "input-not-reduced": lambda root: spoil(root, noisy),
    "pair-shifted": lambda root: spoil(root, lambda image: np.roll(image, 2, axis=1)),
    "pair-unrelated": of_another,
    "target-compressed": compressed,
}


def names(report) -> set[str]:
    return {found.check.name for found in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_superres__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("superres", dataset)
    assert names(report) == {name}, report.findings
    assert report.findings[0].count == 1


def test_superres__pixels_picked_are_no_reduction_by_bicubic(dataset, check) -> None:
    """Every second pixel: half a pixel of the target off, and not filtered."""
    by_nearest(dataset)
    assert names(check("superres", dataset)) & {"input-other-kernel", "pair-shifted"}


def test_superres__clean_data_is_silent(dataset, check) -> None:
    report = check("superres", dataset)
    assert report.findings == [] and report.counts["train"]["images"] == 6


def test_superres__targets_alone(dataset, check) -> None:
    for path in sorted(dataset.glob("*/LR/*"), reverse=True):
        path.unlink()
    for path in dataset.glob("*/LR"):
        path.rmdir()
    assert check("superres", dataset).findings == []


def test_superres__matlab_reductions_are_bicubic(dataset, check) -> None:
    """Inputs made by our own imresize, which follows MATLAB's, are taken for what they are."""
    from densevision.datasets.degradations import bicubic

    for path in dataset.glob("*/HR/*.png"):
        write_image(path.parents[1] / "LR" / path.name, bicubic(read_image(path), (64, 64)))
    assert check("superres", dataset).findings == []


def test_superres__every_check_is_planted() -> None:
    known = {one.name for one in load_check("superres").CHECKS} - {one.name for one in SHARED}
    assert known == FAULTS.keys() | {"image-small"}


def test_superres__no_partner_at_all(tmp_path, check) -> None:
    for side, name in (("HR", "1.png"), ("LR", "2.png")):
        write_image(tmp_path / "data" / side / name, np.zeros((40, 40, 3), np.uint8))
    report = check("superres", tmp_path / "data")
    assert names(report) == {"partner-missing", "split-missing"} and report.findings[0].count == 2


def test_superres__smaller_than_a_training_sample(dataset, check) -> None:
    report = check("superres", dataset, settings={"data.crop": 72})
    assert names(report) == {"image-small"} and report.findings[0].count == 6


def test_sizes__are_told_as_width_and_height(dataset, check) -> None:
    FAULTS["pair-size"](dataset)
    told = {finding.check.name: finding.places[0].value for finding in check("superres", dataset).findings}
    assert told["pair-size"] == "64 x 62 to 128 x 128 at scale 2"


def test_fix__pairs_leave_together(dataset, check, tmp_path) -> None:
    FAULTS["pair-size"](dataset)
    check("superres", dataset, fix=tmp_path / "clean")
    for kind in ("HR", "LR"):
        assert {path.stem for path in (tmp_path / "clean/train" / kind).iterdir()} == {"0", "1", "2", "4", "5"}
    assert check("superres", tmp_path / "clean").findings == []


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 95])
def test_jpeg_quality__as_it_was_written(quality: int, tmp_path, texture) -> None:
    Image.fromarray(detailed(texture, 0)).save(tmp_path / "a.jpg", quality=quality)
    assert jpeg_quality(tmp_path / "a.jpg") == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("offset", [0, 3])
def test_blockiness__wherever_the_blocks_begin(offset: int, texture) -> None:
    clean = detailed(texture, 0)
    blocks = squeezed(clean)[offset:, offset:]
    gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (clean, blocks))
    low, high = map(blockiness, gray)
    assert low < 1.1 < 1.15 < high


def test_blockiness__flat_and_small() -> None:
    assert blockiness(np.zeros((100, 100), np.uint8)) == 1
    assert blockiness(np.zeros((9, 9), np.uint8)) == 1


def test_fix__inputs_leave_with_targets_that_are_twice(dataset, check, tmp_path) -> None:
    for kind in ("HR", "LR"):
        shutil.copy(dataset / "train" / kind / "3.png", dataset / "train" / kind / "9.png")
    assert names(check("superres", dataset, fix=tmp_path / "clean")) == {"image-twice"}
    assert check("superres", tmp_path / "clean").findings == []
