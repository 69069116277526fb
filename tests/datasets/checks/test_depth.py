"""Faults of depth maps and stereo pairs, planted one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.catalog import SHARED
from densevision.datasets.checks.registration import point_offsets
from densevision.errors import DataError
from densevision.io.depth import read_numbers, write_depth
from densevision.io.image import write_image
from densevision.tasks import load_check

MILLIMETRES = {"data.scale": 1000.0}


def ramp(least: float = 1.0, most: float = 4.0) -> np.ndarray:
    depth = np.linspace(least, most, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[:5] = 0
    return depth


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    """Images with depth in millimeters."""
    root = tmp_path / "data"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for seed in seeds:
            write_image(_made(root / split / "rgb") / f"{seed}.png", texture(seed))
            depth = ramp()
            write_depth(_made(root / split / "depth") / f"{seed}.png", depth, depth > 0, scale=1000)
    return root


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rewritten(root: Path, depth: np.ndarray, known: np.ndarray | None = None, suffix: str = ".png") -> None:
    (root / "train/depth/3.png").unlink()
    path = root / f"train/depth/3{suffix}"
    write_depth(path, depth, depth > 0 if known is None else known, scale=1000)


FAULTS: dict[str, Callable[[Path], object]] = {
    "depth-broken": lambda root: (root / "train/depth/3.png").write_bytes(b"broken"),
    "depth-bits": lambda root: cv2.imwrite(str(root / "train/depth/3.png"), np.full((48, 64), 9, np.uint8)),
    "depth-size": lambda root: rewritten(root, ramp()[:-1]),
    "depth-scale": lambda root: rewritten(root, ramp(0.001, 0.004), suffix=".npy"),
    "depth-negative": lambda root: rewritten(root, ramp() - 2, np.ones((48, 64), bool), ".npy"),
    "depth-constant": lambda root: rewritten(root, np.full((48, 64), 2.0)),
    "depth-invalid": lambda root: rewritten(root, ramp(), np.arange(48 * 64).reshape(48, 64) > 48 * 64 - 20),
}


def names(report) -> set[str]:
    return {found.check.name for found in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_depth__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("depth", dataset, settings=MILLIMETRES)
    assert names(report) == {name}
    assert report.findings[0].count == 1 and "depth/3." in report.findings[0].places[0].file


def test_depth__clean_data_is_silent(dataset, check) -> None:
    report = check("depth", dataset, settings=MILLIMETRES)
    assert report.findings == [] and report.counts["train"] == {"images": 12, "depth_maps": 12}


def test_depth__nothing_to_look_at_is_an_error(check, tmp_path: Path) -> None:
    _made(tmp_path / "empty/depth")
    with pytest.raises(DataError, match="neither split has an image"):
        check("depth", tmp_path / "empty")


def test_depth__scale_is_not_stated(dataset, check) -> None:
    report = check("depth", dataset)
    assert names(report) == {"depth-scale-unstated"} and report.findings[0].count == 16


def test_depth__millimetres_taken_for_meters(dataset, check) -> None:
    report = check("depth", dataset, settings={"data.scale": 1.0})
    assert names(report) == {"depth-scale"} and "median 2" in report.findings[0].places[0].value


def test_depth__every_check_is_planted() -> None:
    known = {one.name for one in load_check("depth").CHECKS} - {one.name for one in SHARED}
    stereo = {"stereo-size", "stereo-unrectified", "stereo-swapped"}
    assert known == FAULTS.keys() | stereo | {"depth-scale-unstated"}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif"])
def test_fix__negative_is_unknown_and_the_rest_leaves(suffix: str, dataset, check, tmp_path) -> None:
    rewritten(dataset, ramp() - 2, np.ones((48, 64), bool), suffix)
    (dataset / "train/depth/5.png").write_bytes(b"broken")
    check("depth", dataset, tmp_path / "clean", MILLIMETRES)
    before, after = (read_numbers(root / f"train/depth/3{suffix}").depth for root in (dataset, tmp_path / "clean"))
    np.testing.assert_array_equal(after, np.where(before > 0, before, 0))
    assert not (tmp_path / "clean/train/rgb/5.png").exists()
    assert check("depth", tmp_path / "clean", settings=MILLIMETRES).findings == []


@pytest.fixture
def stereo(tmp_path: Path, texture) -> Path:
    """Pairs whose right images see everything 6 pixels further left, and their disparity."""
    root = tmp_path / "stereo"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for seed in seeds:
            scene = texture(seed, (120, 166), 5)
            write_image(_made(root / split / "left") / f"{seed}.png", scene[:, :160])
            write_image(_made(root / split / "right") / f"{seed}.png", scene[:, 6:])
            disparity = np.full((120, 160), 6.0, np.float32)
            disparity[:, 80:] = 6.01
            write_depth(_made(root / split / "disparity") / f"{seed}.pfm", disparity)
    return root


def test_stereo__clean_pairs_are_silent(stereo, check) -> None:
    report = check("depth", stereo)
    assert report.findings == [] and report.counts["train"]["stereo_pairs"] == 12


def test_stereo__not_rectified(stereo, check, texture) -> None:
    write_image(stereo / "train/right/3.png", np.roll(texture(3, (120, 166), 5)[:, 6:], 3, axis=0))
    report = check("depth", stereo)
    assert names(report) == {"stereo-unrectified"} and report.findings[0].count == 1
    assert report.findings[0].places[0].value.startswith("+3.0 px")


def test_stereo__left_is_right(stereo, check, texture) -> None:
    scene = texture(3, (120, 166), 5)
    write_image(stereo / "train/left/3.png", scene[:, 6:])
    write_image(stereo / "train/right/3.png", scene[:, :160])
    assert names(check("depth", stereo)) == {"stereo-swapped"}


def test_stereo__sizes_differ(stereo, check, texture, tmp_path) -> None:
    write_image(stereo / "train/right/3.png", texture(3, (119, 160)))
    assert names(check("depth", stereo, tmp_path / "clean")) == {"stereo-size"}
    assert check("depth", tmp_path / "clean").findings == []


def test_stereo__right_image_is_broken(stereo, check) -> None:
    (stereo / "train/right/3.png").write_bytes(b"broken")
    assert names(check("depth", stereo)) == {"image-broken"}


def test_stereo__pairs_without_truth_are_looked_at(stereo, check, texture) -> None:
    for split in ("train", "val"):
        for path in (stereo / split / "disparity").iterdir():
            path.unlink()
    assert check("depth", stereo).findings == []
    write_image(stereo / "train/right/3.png", np.roll(texture(3, (120, 166), 5)[:, 6:], 3, axis=0))
    assert names(check("depth", stereo)) == {"stereo-unrectified"}


@pytest.mark.parametrize(("x", "y"), [(-9, 0), (-4, 2), (5, -3)])
def test_point_offsets__measure_a_known_shift(x: int, y: int, texture) -> None:
    scene = cv2.cvtColor(texture(1, (160, 200), 5), cv2.COLOR_RGB2GRAY)
    first, second = scene[20:140, 20:180], scene[20 - y : 140 - y, 20 - x : 180 - x]
    found = point_offsets(first, second)
    assert (found.horizontal, found.vertical) == pytest.approx((x, y), abs=0.2)


def test_point_offsets__nothing_to_see() -> None:
    assert point_offsets(*np.zeros((2, 64, 64), np.uint8)) is None


def test_fix__times_of_tum_forget_what_is_left_out(tmp_path, texture, check) -> None:
    for split, seeds in (("train", range(8)), ("val", range(20, 24))):
        folder = tmp_path / "data" / split / "room"
        lists = dict.fromkeys(("rgb", "depth"), "# timestamp filename\n")
        for seed in seeds:
            write_image(_made(folder / "rgb") / f"{seed}.png", texture(seed))
            write_depth(_made(folder / "depth") / f"{seed}.png", ramp(), ramp() > 0, scale=5000)
            for name in lists:
                lists[name] += f"{seed}.0 {name}/{seed}.png\n"
        for name, text in lists.items():
            (folder / f"{name}.txt").write_text(text)
    settings = {"data.train": "train", "data.val": "val"}
    assert check("depth", tmp_path / "data", settings=settings).findings == []
    (tmp_path / "data/train/room/depth/3.png").write_bytes(b"broken")
    check("depth", tmp_path / "data", tmp_path / "clean", settings)
    for name in ("rgb", "depth"):
        assert "3.0" not in (tmp_path / "clean/train/room" / f"{name}.txt").read_text()
    assert check("depth", tmp_path / "clean", settings=settings).findings == []
