"""Checks of flow datasets, tested by planting one fault at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.io.flow import read_flow, write_flow
from densevision.io.image import read_image, write_image
from densevision.tasks import load_check

MOVE = (7, 3)
"""Motion to the right and down in pixels."""


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    """Pairs of frames with a common motion; its ground truth differs slightly at the right border."""
    root = tmp_path / "data"
    for split, seeds in (("train", range(6)), ("val", range(20, 23))):
        for seed in seeds:
            folder = root / split / f"scene{seed}"
            folder.mkdir(parents=True)
            scene = texture(seed, (90, 120), 12)
            write_image(folder / "frame10.png", scene[10:74, 10:106])
            write_image(folder / "frame11.png", scene[10 - MOVE[1] : 74 - MOVE[1], 10 - MOVE[0] : 106 - MOVE[0]])
            write_flow(folder / "flow10.flo", make_flow())
    return root


def make_flow() -> np.ndarray:
    flow = np.empty((2, 64, 96), np.float32)
    flow[0], flow[1] = MOVE
    flow[0, :, 90:] += 0.01
    return flow


def change_flow(root: Path, change: Callable[[np.ndarray], np.ndarray], known: np.ndarray | None = None) -> None:
    path = root / "train/scene3/flow10.flo"
    write_flow(path, change(read_flow(path)[0]), known)


def swap_frames(root: Path) -> None:
    first, second = (root / "train/scene3" / name for name in ("frame10.png", "frame11.png"))
    images = read_image(first), read_image(second)
    write_image(second, images[0])
    write_image(first, images[1])


def crop_frame(root: Path) -> None:
    path = root / "train/scene3/frame11.png"
    write_image(path, read_image(path)[:-1])


FAULTS: dict[str, Callable[[Path], object]] = {
    "flow-broken": lambda root: (root / "train/scene3/flow10.flo").write_bytes(b"broken"),
    "flow-size": lambda root: change_flow(root, lambda flow: flow[:, :-1]),
    "frame-size": crop_frame,
    "flow-magnitude": lambda root: change_flow(root, lambda flow: flow * 20),
    "flow-constant": lambda root: change_flow(root, lambda flow: np.round(flow)),
    "flow-invalid": lambda root: change_flow(root, lambda flow: flow, np.arange(64 * 96).reshape(64, 96) % 97 == 50),
    "flow-frames-swapped": swap_frames,
    "flow-components-swapped": lambda root: change_flow(root, lambda flow: flow[::-1]),
    "flow-unexplained": lambda root: change_flow(root, lambda flow: flow * [[[-0.5]], [[2]]]),
}


def names(report) -> set[str]:
    return {finding.check.name for finding in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_flow__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("flow", dataset)
    assert names(report) == {name}, report.findings
    assert report.findings[0].count == 1 and "scene3" in report.findings[0].locations[0].file


def test_flow__no_findings_in_clean_data(dataset, check) -> None:
    report = check("flow", dataset)
    assert report.findings == [] and report.counts["train"] == {"images": 12, "pairs": 6}


def test_flow__identical_frames_explain_any_flow(dataset, check) -> None:
    """Nothing can be concluded from two identical frames."""
    folder = dataset / "train/scene3"
    write_image(folder / "frame11.png", read_image(folder / "frame10.png"))
    assert not names(check("flow", dataset)) & {"flow-frames-swapped", "flow-components-swapped", "flow-unexplained"}


def test_flow__tests_every_check() -> None:
    names_of_task = {check.name for check in load_check("flow").CHECKS} - {check.name for check in FILE_CHECKS}
    assert names_of_task == FAULTS.keys()


def test_one_sequence__is_checked_once_without_leak(dataset, check, tmp_path) -> None:
    """Both splits use it, as a note says, and so does its cleaned copy."""
    root = tmp_path / "one"
    shutil.copytree(dataset / "train/scene0", root)
    assert check("flow", root).findings == []
    write_flow(root / "flow10.flo", np.round(make_flow()))
    report = check("flow", root, fix=tmp_path / "clean")
    assert names(report) == {"flow-constant"} and report.findings[0].count == 1
    assert report.counts["train"] == report.counts["val"] == {"images": 2, "pairs": 1}
    assert report.notes
    assert names(check("flow", tmp_path / "clean")) == {"flow-constant"}


def test_fix__excludes_flow_and_keeps_frames(dataset, check, tmp_path) -> None:
    FAULTS["flow-size"](dataset)
    check("flow", dataset, fix=tmp_path / "clean")
    assert not (tmp_path / "clean/train/scene3/flow10.flo").exists()
    assert (tmp_path / "clean/train/scene3/frame10.png").exists()
    report = check("flow", tmp_path / "clean")
    assert report.findings == [] and report.counts["train"]["pairs"] == 5


def test_fix__split_list_of_flying_chairs(tmp_path, texture, check) -> None:
    """The list has one line per pair, so the line of an excluded pair is removed."""
    root = tmp_path / "chairs"
    (root / "data").mkdir(parents=True)
    marks = [1, 1, 2, 1, 2]
    for number in range(5):
        scene = texture(number, (90, 120), 12)
        for frame, (y, x) in ((1, (10, 10)), (2, (10 - MOVE[1], 10 - MOVE[0]))):
            cv2.imwrite(str(root / "data" / f"{number:05d}_img{frame}.ppm"), scene[y : y + 64, x : x + 96])
        write_flow(root / "data" / f"{number:05d}_flow.flo", make_flow())
    (root / "chairs_split.txt").write_text("".join(f"{mark}\n" for mark in marks))
    (root / "data/00001_flow.flo").write_bytes(b"broken")
    report = check("flow", root, fix=tmp_path / "clean")
    assert report.counts["train"]["pairs"] == 3
    assert (tmp_path / "clean/chairs_split.txt").read_text().split() == ["1", "2", "1", "2"]
    again = check("flow", tmp_path / "clean")
    assert again.findings == [] and again.counts["val"]["pairs"] == 2


def test_fix__keeps_identical_frames(dataset, check, tmp_path) -> None:
    """Without one of them, other frames of the video would become pairs."""
    folder = dataset / "train/scene3"
    write_image(folder / "frame11.png", read_image(folder / "frame10.png"))
    assert "image-duplicate" in names(check("flow", dataset, fix=tmp_path / "clean"))
    assert (tmp_path / "clean/train/scene3/frame11.png").exists()
