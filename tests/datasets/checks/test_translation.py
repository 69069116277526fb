"""Faults of pairs of two kinds of image, planted one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.catalog import SHARED
from densevision.datasets.checks.context import Place
from densevision.datasets.checks.pair_alignment import compare
from densevision.datasets.checks.registration import outline_agreement, outline_shift
from densevision.io.image import read_image, write_image
from densevision.tasks import load_check


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawing of labels in few colors, and a noisy image with the same outlines, 96 x 96."""
    rng = np.random.default_rng(seed)
    labels, photo = np.full((96, 96, 3), 40, np.uint8), np.full((96, 96, 3), 120, np.float32)
    for _ in range(9):
        x, y, width, height = (int(value) for value in [*rng.integers(0, 70, 2), *rng.integers(12, 30, 2)])
        color = [(220, 30, 30), (30, 30, 220), (30, 200, 30)][int(rng.integers(3))]
        cv2.rectangle(labels, (x, y), (x + width, y + height), color, -1)
        cv2.rectangle(photo, (x, y), (x + width, y + height), float(rng.integers(40, 220)), -1)
    gray = photo[..., :1] + rng.normal(0, 6, (96, 96, 1))
    return labels, np.clip(gray, 0, 255).astype(np.uint8).repeat(3, 2)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for split, seeds in (("train", range(10)), ("val", range(20, 24))):
        for side in "AB":
            (root / split / side).mkdir(parents=True)
        for seed in seeds:
            for side, image in zip("AB", drawn(seed)):
                write_image(root / split / side / f"{seed}.png", image)
    return root


def spoil(root: Path, change: Callable[[np.ndarray], np.ndarray], side: str = "B") -> None:
    path = root / "train" / side / "3.png"
    write_image(path, change(read_image(path)))


def exchange(root: Path) -> None:
    a, b = (root / "train" / side / "3.png" for side in "AB")
    images = read_image(a), read_image(b)
    write_image(a, images[1])
    write_image(b, images[0])


FAULTS: dict[str, Callable[[Path], object]] = {
    "pair-misaligned": lambda root: spoil(root, lambda image: np.roll(image, (4, -6), (0, 1))),
    "pair-swapped": exchange,
    "pair-alike": lambda root: write_image(root / "train/B/3.png", read_image(root / "train/A/3.png")),
    "answer-blank": lambda root: spoil(root, np.zeros_like),
    "partner-missing": lambda root: (root / "train/B/3.png").unlink(),
    "partner-size": lambda root: spoil(root, lambda image: image[:-2]),
}


def names(report) -> set[str]:
    return {found.check.name for found in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_translation__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("translation", dataset)
    assert names(report) == {name}, report.findings
    assert report.findings[0].count == 1 and "3.png" in report.findings[0].places[0].file


def test_translation__clean_data_is_silent(dataset, check) -> None:
    report = check("translation", dataset)
    assert report.findings == [] and report.counts["train"]["pairs"] == 10


def test_translation__odd_halves(tmp_path, check) -> None:
    for split, seeds in (("train", range(8)), ("val", range(20, 24))):
        (tmp_path / "data" / split).mkdir(parents=True)
        for seed in seeds:
            write_image(tmp_path / "data" / split / f"{seed}.png", np.concatenate(drawn(seed), 1))
    assert check("translation", tmp_path / "data").findings == []
    path = tmp_path / "data/train/3.png"
    write_image(path, read_image(path)[:, :-1])
    assert names(check("translation", tmp_path / "data")) == {"halves-odd"}
    for path in (tmp_path / "data/train").iterdir():
        write_image(path, read_image(path)[:, :191])
    report = check("translation", tmp_path / "data")
    assert names(report) == {"halves-odd", "split-missing"} and report.findings[0].count == 8


def test_translation__every_check_is_planted() -> None:
    known = {one.name for one in load_check("translation").CHECKS} - {one.name for one in SHARED}
    assert known == FAULTS.keys() | {"halves-odd"}


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-8, 6)])
def test_outline_shift__across_kinds_of_image(shift: tuple[int, int]) -> None:
    labels, photo = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in drawn(0))
    moved = np.roll(photo, shift[::-1], (0, 1))
    x, y, peak = outline_shift(labels, moved)
    assert (x, y) == pytest.approx(shift, abs=0.7) and peak > 0.12


def test_outline_shift__too_small_to_tell() -> None:
    assert outline_shift(*np.zeros((2, 5, 5), np.uint8)) == (0, 0, 0)


def test_fix__partners_leave_together(dataset, check, tmp_path) -> None:
    (dataset / "train/B/3.png").write_bytes((dataset / "train/B/3.png").read_bytes()[:-200])
    (dataset / "train/A/5.png").write_bytes(b"")
    for side in "AB":
        shutil.copy(dataset / "train" / side / "4.png", dataset / "train" / side / "9b.png")
    check("translation", dataset, fix=tmp_path / "clean")
    assert check("translation", tmp_path / "clean").findings == []
    for side in "AB":
        left = {path.stem for path in (tmp_path / "clean/train" / side).iterdir()}
        assert left == {str(seed) for seed in range(10) if seed not in (3, 5)}


@pytest.mark.parametrize("shift", [(5, -3), (-8, 6), (0, 9)])
def test_outline_agreement__is_found_again_by_undoing_the_shift(shift: tuple[int, int]) -> None:
    _, photo = drawn(0)
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    moved = np.roll(gray, shift[::-1], (0, 1))
    assert outline_agreement(gray, gray) == pytest.approx(1)
    assert outline_agreement(gray, moved, shift) > 0.95 > 0.5 > outline_agreement(gray, moved)
    assert outline_agreement(gray, moved, (500, 0)) == 0


def test_misaligned__rows_of_windows_are_not_a_storey_off() -> None:
    """A facade agrees with itself a storey off nearly as well: what lies right is not called misaligned."""
    labels, photo = np.full((128, 128, 3), 40, np.uint8), np.full((128, 128, 3), 150, np.uint8)
    for row in range(4, 124, 16):
        for column in range(6, 120, 20):
            cv2.rectangle(labels, (column, row), (column + 9, row + 9), (220, 30, 30), -1)
            cv2.rectangle(photo, (column, row + (row < 20)), (column + 9, row + 9), (60, 60, 60), -1)
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
    assert compare(Place("a"), labels, noisy).shift == (0, 0)
