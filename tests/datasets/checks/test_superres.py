"""Checks of super-resolution datasets, tested by planting one fault at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.datasets.checks.compression import estimate_jpeg_quality, measure_blockiness
from densevision.io.image import read_image, write_image
from densevision.tasks import load_check


def draw_detailed(texture, seed: int) -> np.ndarray:
    """An image with edges of all sizes, 128 x 128."""
    return (0.6 * texture(seed, (128, 128), 16) + 0.4 * texture(seed + 500, (128, 128), 3)).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    root = tmp_path / "data"
    for split, seeds in (("train", range(6)), ("val", range(20, 23))):
        for kind in ("HR", "LR"):
            (root / split / kind).mkdir(parents=True)
        for seed in seeds:
            target = draw_detailed(texture, seed)
            write_image(root / split / "HR" / f"{seed}.png", target)
            write_reduced(target, root / split / "LR" / f"{seed}.png")
    return root


def write_reduced(target: np.ndarray, path: Path, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> None:
    Image.fromarray(target).resize((64, 64), kernel).save(path)


def change_image(root: Path, change: Callable[[np.ndarray], np.ndarray], kind: str = "LR") -> None:
    path = root / "train" / kind / "3.png"
    write_image(path, change(read_image(path)))


def compress(target: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", target, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)


def add_noise(image: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def compress_target(root: Path) -> None:
    change_image(root, compress, "HR")
    write_reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png")


def replace_input(root: Path) -> None:
    write_image(root / "train/LR/3.png", read_image(root / "train/LR/4.png"))


def downscale_by_nearest(root: Path) -> None:
    write_reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png", Image.Resampling.NEAREST)


def downscale_by_box(root: Path) -> None:
    write_reduced(read_image(root / "train/HR/3.png"), root / "train/LR/3.png", Image.Resampling.BOX)


FAULTS: dict[str, Callable[[Path], object]] = {
    "partner-missing": lambda root: (root / "train/LR/3.png").unlink(),
    "pair-size": lambda root: change_image(root, lambda image: image[:-2]),
    "input-other-kernel": downscale_by_box,
    "input-not-reduced": lambda root: change_image(root, add_noise),
    "pair-shifted": lambda root: change_image(root, lambda image: np.roll(image, 2, axis=1)),
    "pair-unrelated": replace_input,
    "target-compressed": compress_target,
}


def names(report) -> set[str]:
    return {finding.check.name for finding in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_superres__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("superres", dataset)
    assert names(report) == {name}, report.findings
    assert report.findings[0].count == 1


def test_superres__nearest_neighbor_is_not_bicubic(dataset, check) -> None:
    """Every second pixel: shifted by half a pixel of the target, and not filtered."""
    downscale_by_nearest(dataset)
    assert names(check("superres", dataset)) & {"input-other-kernel", "pair-shifted"}


def test_superres__no_findings_in_clean_data(dataset, check) -> None:
    report = check("superres", dataset)
    assert report.findings == [] and report.counts["train"]["images"] == 6


def test_superres__targets_without_inputs(dataset, check) -> None:
    for path in sorted(dataset.glob("*/LR/*"), reverse=True):
        path.unlink()
    for path in dataset.glob("*/LR"):
        path.rmdir()
    assert check("superres", dataset).findings == []


def test_superres__matlab_bicubic_is_bicubic(dataset, check) -> None:
    """The inputs come from `resize_bicubic`, which follows MATLAB's imresize."""
    from densevision.datasets.degradations import resize_bicubic

    for path in dataset.glob("*/HR/*.png"):
        write_image(path.parents[1] / "LR" / path.name, resize_bicubic(read_image(path), (64, 64)))
    assert check("superres", dataset).findings == []


def test_superres__tests_every_check() -> None:
    names_of_task = {check.name for check in load_check("superres").CHECKS} - {check.name for check in FILE_CHECKS}
    assert names_of_task == FAULTS.keys() | {"image-small"}


def test_superres__no_matching_names(tmp_path, check) -> None:
    for side, name in (("HR", "1.png"), ("LR", "2.png")):
        write_image(tmp_path / "data" / side / name, np.zeros((40, 40, 3), np.uint8))
    report = check("superres", tmp_path / "data")
    assert names(report) == {"partner-missing", "split-missing"} and report.findings[0].count == 2


def test_superres__image_smaller_than_the_crop(dataset, check) -> None:
    report = check("superres", dataset, settings={"data.crop": 72})
    assert names(report) == {"image-small"} and report.findings[0].count == 6


def test_sizes__are_reported_as_width_and_height(dataset, check) -> None:
    FAULTS["pair-size"](dataset)
    values = {finding.check.name: finding.locations[0].value for finding in check("superres", dataset).findings}
    assert values["pair-size"] == "64 x 62 to 128 x 128 at scale 2"


def test_fix__excludes_both_images_of_a_pair(dataset, check, tmp_path) -> None:
    FAULTS["pair-size"](dataset)
    check("superres", dataset, fix=tmp_path / "clean")
    for kind in ("HR", "LR"):
        assert {path.stem for path in (tmp_path / "clean/train" / kind).iterdir()} == {"0", "1", "2", "4", "5"}
    assert check("superres", tmp_path / "clean").findings == []


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 95])
def test_estimate_jpeg_quality__as_written(quality: int, tmp_path, texture) -> None:
    Image.fromarray(draw_detailed(texture, 0)).save(tmp_path / "a.jpg", quality=quality)
    assert estimate_jpeg_quality(tmp_path / "a.jpg") == pytest.approx(quality, abs=1)


@pytest.mark.parametrize("offset", [0, 3])
def test_measure_blockiness__any_block_offset(offset: int, texture) -> None:
    clean = draw_detailed(texture, 0)
    blocks = compress(clean)[offset:, offset:]
    gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (clean, blocks))
    low, high = map(measure_blockiness, gray)
    assert low < 1.1 < 1.15 < high


def test_measure_blockiness__flat_and_small() -> None:
    assert measure_blockiness(np.zeros((100, 100), np.uint8)) == 1
    assert measure_blockiness(np.zeros((9, 9), np.uint8)) == 1


def test_fix__excludes_inputs_of_duplicate_targets(dataset, check, tmp_path) -> None:
    for kind in ("HR", "LR"):
        shutil.copy(dataset / "train" / kind / "3.png", dataset / "train" / kind / "9.png")
    assert names(check("superres", dataset, fix=tmp_path / "clean")) == {"image-duplicate"}
    assert check("superres", tmp_path / "clean").findings == []
