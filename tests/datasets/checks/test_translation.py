"""Checks of translation datasets, tested by planting one fault at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.datasets.checks.context import Location
from densevision.datasets.checks.pair_alignment import measure_pair
from densevision.datasets.checks.registration import correlate_edges, measure_edge_shift
from densevision.io.image import read_image, write_image
from densevision.tasks import load_check


def draw_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawing of labels in few colors, and a noisy image with the same edges, 96 x 96."""
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
            for side, image in zip("AB", draw_pair(seed)):
                write_image(root / split / side / f"{seed}.png", image)
    return root


def change_image(root: Path, change: Callable[[np.ndarray], np.ndarray], side: str = "B") -> None:
    path = root / "train" / side / "3.png"
    write_image(path, change(read_image(path)))


def swap(root: Path) -> None:
    a, b = (root / "train" / side / "3.png" for side in "AB")
    images = read_image(a), read_image(b)
    write_image(a, images[1])
    write_image(b, images[0])


FAULTS: dict[str, Callable[[Path], object]] = {
    "pair-misaligned": lambda root: change_image(root, lambda image: np.roll(image, (4, -6), (0, 1))),
    "pair-swapped": swap,
    "pair-alike": lambda root: write_image(root / "train/B/3.png", read_image(root / "train/A/3.png")),
    "target-blank": lambda root: change_image(root, np.zeros_like),
    "partner-missing": lambda root: (root / "train/B/3.png").unlink(),
    "partner-size": lambda root: change_image(root, lambda image: image[:-2]),
}


def names(report) -> set[str]:
    return {finding.check.name for finding in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_translation__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("translation", dataset)
    assert names(report) == {name}, report.findings
    assert report.findings[0].count == 1 and "3.png" in report.findings[0].locations[0].file


def test_translation__no_findings_in_clean_data(dataset, check) -> None:
    report = check("translation", dataset)
    assert report.findings == [] and report.counts["train"]["pairs"] == 10


def test_translation__odd_halves(tmp_path, check) -> None:
    for split, seeds in (("train", range(8)), ("val", range(20, 24))):
        (tmp_path / "data" / split).mkdir(parents=True)
        for seed in seeds:
            write_image(tmp_path / "data" / split / f"{seed}.png", np.concatenate(draw_pair(seed), 1))
    assert check("translation", tmp_path / "data").findings == []
    path = tmp_path / "data/train/3.png"
    write_image(path, read_image(path)[:, :-1])
    assert names(check("translation", tmp_path / "data")) == {"halves-odd"}
    for path in (tmp_path / "data/train").iterdir():
        write_image(path, read_image(path)[:, :191])
    report = check("translation", tmp_path / "data")
    assert names(report) == {"halves-odd", "split-missing"} and report.findings[0].count == 8


def test_translation__tests_every_check() -> None:
    names_of_task = {check.name for check in load_check("translation").CHECKS} - {check.name for check in FILE_CHECKS}
    assert names_of_task == FAULTS.keys() | {"halves-odd"}


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-8, 6)])
def test_measure_edge_shift__across_kinds_of_image(shift: tuple[int, int]) -> None:
    labels, photo = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in draw_pair(0))
    moved = np.roll(photo, shift[::-1], (0, 1))
    x, y, peak = measure_edge_shift(labels, moved)
    assert (x, y) == pytest.approx(shift, abs=0.7) and peak > 0.12


def test_measure_edge_shift__tiny_images() -> None:
    assert measure_edge_shift(*np.zeros((2, 5, 5), np.uint8)) == (0, 0, 0)


def test_fix__excludes_both_sides_of_a_pair(dataset, check, tmp_path) -> None:
    (dataset / "train/B/3.png").write_bytes((dataset / "train/B/3.png").read_bytes()[:-200])
    (dataset / "train/A/5.png").write_bytes(b"")
    for side in "AB":
        shutil.copy(dataset / "train" / side / "4.png", dataset / "train" / side / "9b.png")
    check("translation", dataset, fix=tmp_path / "clean")
    assert check("translation", tmp_path / "clean").findings == []
    for side in "AB":
        remaining = {path.stem for path in (tmp_path / "clean/train" / side).iterdir()}
        assert remaining == {str(seed) for seed in range(10) if seed not in (3, 5)}


@pytest.mark.parametrize("shift", [(5, -3), (-8, 6), (0, 9)])
def test_correlate_edges__is_high_when_the_shift_is_undone(shift: tuple[int, int]) -> None:
    _, photo = draw_pair(0)
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    moved = np.roll(gray, shift[::-1], (0, 1))
    assert correlate_edges(gray, gray) == pytest.approx(1)
    assert correlate_edges(gray, moved, shift) > 0.95 > 0.5 > correlate_edges(gray, moved)
    assert correlate_edges(gray, moved, (500, 0)) == 0


def test_measure_pair__periodic_structures_are_not_misaligned() -> None:
    """Edges of a facade also correlate at a shift by one row of windows."""
    labels, photo = np.full((128, 128, 3), 40, np.uint8), np.full((128, 128, 3), 150, np.uint8)
    for row in range(4, 124, 16):
        for column in range(6, 120, 20):
            cv2.rectangle(labels, (column, row), (column + 9, row + 9), (220, 30, 30), -1)
            cv2.rectangle(photo, (column, row + (row < 20)), (column + 9, row + 9), (60, 60, 60), -1)
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25, photo.shape), 0, 255).astype(np.uint8)
    assert measure_pair(Location("a"), labels, noisy).shift == (0, 0)
