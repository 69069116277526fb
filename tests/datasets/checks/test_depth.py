"""Checks of depth maps and stereo pairs, tested by planting one fault at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.datasets.checks.registration import measure_point_offsets
from densevision.errors import DataError
from densevision.io.depth import read_numbers, write_depth
from densevision.io.image import write_image
from densevision.tasks import load_check

MILLIMETERS = {"data.scale": 1000.0}


def make_ramp(low: float = 1.0, high: float = 4.0) -> np.ndarray:
    depth = np.linspace(low, high, 48 * 64, dtype=np.float32).reshape(48, 64)
    depth[:5] = 0
    return depth


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    """Images with depth in millimeters."""
    root = tmp_path / "data"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for seed in seeds:
            write_image(_make_folder(root / split / "rgb") / f"{seed}.png", texture(seed))
            depth = make_ramp()
            write_depth(_make_folder(root / split / "depth") / f"{seed}.png", depth, depth > 0, scale=1000)
    return root


def _make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rewrite_depth(root: Path, depth: np.ndarray, known: np.ndarray | None = None, suffix: str = ".png") -> None:
    (root / "train/depth/3.png").unlink()
    path = root / f"train/depth/3{suffix}"
    write_depth(path, depth, depth > 0 if known is None else known, scale=1000)


FAULTS: dict[str, Callable[[Path], object]] = {
    "depth-broken": lambda root: (root / "train/depth/3.png").write_bytes(b"broken"),
    "depth-bits": lambda root: cv2.imwrite(str(root / "train/depth/3.png"), np.full((48, 64), 9, np.uint8)),
    "depth-size": lambda root: rewrite_depth(root, make_ramp()[:-1]),
    "depth-scale": lambda root: rewrite_depth(root, make_ramp(0.001, 0.004), suffix=".npy"),
    "depth-negative": lambda root: rewrite_depth(root, make_ramp() - 2, np.ones((48, 64), bool), ".npy"),
    "depth-constant": lambda root: rewrite_depth(root, np.full((48, 64), 2.0)),
    "depth-invalid": lambda root: rewrite_depth(root, make_ramp(), np.arange(48 * 64).reshape(48, 64) > 48 * 64 - 20),
}


def names(report) -> set[str]:
    return {finding.check.name for finding in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_depth__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    report = check("depth", dataset, settings=MILLIMETERS)
    assert names(report) == {name}
    assert report.findings[0].count == 1 and "depth/3." in report.findings[0].locations[0].file


def test_depth__no_findings_in_clean_data(dataset, check) -> None:
    report = check("depth", dataset, settings=MILLIMETERS)
    assert report.findings == [] and report.counts["train"] == {"images": 12, "depth_maps": 12}


def test_depth__empty_dataset(check, tmp_path: Path) -> None:
    _make_folder(tmp_path / "empty/depth")
    with pytest.raises(DataError):
        check("depth", tmp_path / "empty")


def test_depth__unstated_scale(dataset, check) -> None:
    report = check("depth", dataset)
    assert names(report) == {"depth-scale-unstated"} and report.findings[0].count == 16


def test_depth__millimeters_as_meters(dataset, check) -> None:
    report = check("depth", dataset, settings={"data.scale": 1.0})
    assert names(report) == {"depth-scale"} and "median 2" in report.findings[0].locations[0].value


def test_depth__tests_every_check() -> None:
    names_of_task = {check.name for check in load_check("depth").CHECKS} - {check.name for check in FILE_CHECKS}
    stereo = {"stereo-size", "stereo-unrectified", "stereo-swapped"}
    assert names_of_task == FAULTS.keys() | stereo | {"depth-scale-unstated"}


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif"])
def test_fix__negative_becomes_unknown_and_broken_is_excluded(suffix: str, dataset, check, tmp_path) -> None:
    rewrite_depth(dataset, make_ramp() - 2, np.ones((48, 64), bool), suffix)
    (dataset / "train/depth/5.png").write_bytes(b"broken")
    check("depth", dataset, tmp_path / "clean", MILLIMETERS)
    before, after = (read_numbers(root / f"train/depth/3{suffix}").depth for root in (dataset, tmp_path / "clean"))
    np.testing.assert_array_equal(after, np.where(before > 0, before, 0))
    assert not (tmp_path / "clean/train/rgb/5.png").exists()
    assert check("depth", tmp_path / "clean", settings=MILLIMETERS).findings == []


@pytest.fixture
def stereo(tmp_path: Path, texture) -> Path:
    """Stereo pairs with a disparity of 6 pixels, and their disparity maps."""
    root = tmp_path / "stereo"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for seed in seeds:
            scene = texture(seed, (120, 166), 5)
            write_image(_make_folder(root / split / "left") / f"{seed}.png", scene[:, :160])
            write_image(_make_folder(root / split / "right") / f"{seed}.png", scene[:, 6:])
            disparity = np.full((120, 160), 6.0, np.float32)
            disparity[:, 80:] = 6.01
            write_depth(_make_folder(root / split / "disparity") / f"{seed}.pfm", disparity)
    return root


def test_stereo__no_findings_in_clean_pairs(stereo, check) -> None:
    report = check("depth", stereo)
    assert report.findings == [] and report.counts["train"]["stereo_pairs"] == 12


def test_stereo__not_rectified(stereo, check, texture) -> None:
    write_image(stereo / "train/right/3.png", np.roll(texture(3, (120, 166), 5)[:, 6:], 3, axis=0))
    report = check("depth", stereo)
    assert names(report) == {"stereo-unrectified"} and report.findings[0].count == 1
    assert report.findings[0].locations[0].value.startswith("+3.0 px")


def test_stereo__swapped(stereo, check, texture) -> None:
    scene = texture(3, (120, 166), 5)
    write_image(stereo / "train/left/3.png", scene[:, 6:])
    write_image(stereo / "train/right/3.png", scene[:, :160])
    assert names(check("depth", stereo)) == {"stereo-swapped"}


def test_stereo__sizes_differ(stereo, check, texture, tmp_path) -> None:
    write_image(stereo / "train/right/3.png", texture(3, (119, 160)))
    assert names(check("depth", stereo, tmp_path / "clean")) == {"stereo-size"}
    assert check("depth", tmp_path / "clean").findings == []


def test_stereo__broken_right_image(stereo, check) -> None:
    (stereo / "train/right/3.png").write_bytes(b"broken")
    assert names(check("depth", stereo)) == {"image-broken"}


def test_stereo__pairs_without_ground_truth_are_checked(stereo, check, texture) -> None:
    for split in ("train", "val"):
        for path in (stereo / split / "disparity").iterdir():
            path.unlink()
    assert check("depth", stereo).findings == []
    write_image(stereo / "train/right/3.png", np.roll(texture(3, (120, 166), 5)[:, 6:], 3, axis=0))
    assert names(check("depth", stereo)) == {"stereo-unrectified"}


@pytest.mark.parametrize(("x", "y"), [(-9, 0), (-4, 2), (5, -3)])
def test_measure_point_offsets__known_shift(x: int, y: int, texture) -> None:
    scene = cv2.cvtColor(texture(1, (160, 200), 5), cv2.COLOR_RGB2GRAY)
    first, second = scene[20:140, 20:180], scene[20 - y : 140 - y, 20 - x : 180 - x]
    offsets = measure_point_offsets(first, second)
    assert (offsets.horizontal, offsets.vertical) == pytest.approx((x, y), abs=0.2)


def test_measure_point_offsets__blank_images() -> None:
    assert measure_point_offsets(*np.zeros((2, 64, 64), np.uint8)) is None


def test_fix__removes_excluded_files_from_tum_lists(tmp_path, texture, check) -> None:
    for split, seeds in (("train", range(8)), ("val", range(20, 24))):
        folder = tmp_path / "data" / split / "room"
        lists = dict.fromkeys(("rgb", "depth"), "# timestamp filename\n")
        for seed in seeds:
            write_image(_make_folder(folder / "rgb") / f"{seed}.png", texture(seed))
            write_depth(_make_folder(folder / "depth") / f"{seed}.png", make_ramp(), make_ramp() > 0, scale=5000)
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
