"""Calibration files of KITTI and Middlebury: values by hand, and damaged numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from densevision.datasets.calibration import find_intrinsics, read_kitti_camera, read_middlebury_camera
from densevision.errors import DataError
from densevision.results.depth_map import Camera

LEFT = "721.5 0 609.5 44.8 0 721.5 172.8 0.2 0 0 1 0.002"
RIGHT = "721.5 0 609.5 -339.5 0 721.5 172.8 2.2 0 0 1 0.002"


def test_kitti__baseline_to_the_right_neighbor(tmp_path: Path) -> None:
    (tmp_path / "calib.txt").write_text(f"P2: {LEFT}\nP3: {RIGHT}\n")
    camera = read_kitti_camera(tmp_path / "calib.txt", "2")
    assert camera == Camera(721.5, (610.0, 173.3), pytest.approx((44.8 + 339.5) / 721.5))
    (tmp_path / "calib.txt").write_text(f"P2: {LEFT}\n")
    assert read_kitti_camera(tmp_path / "calib.txt", "2") == Camera(721.5, (610.0, 173.3))


@pytest.mark.parametrize("word", ["nan", "inf", "7_2", "x", "\u0661", ""])
def test_damaged_number__is_an_error(word: str, tmp_path: Path) -> None:
    kitti, middlebury = tmp_path / "calib.txt", tmp_path / "middlebury.txt"
    kitti.write_text(f"P2: {LEFT.replace('172.8', word)}\n")
    middlebury.write_text(f"cam0=[90 0 15.5; 0 {word} 11.5; 0 0 1]\ndoffs=4\nbaseline=200\n")
    (tmp_path / "intrinsics.txt").write_text(f"90 0 15.5\n0 90 {word}\n0 0 1\n")
    for read, file in (
        (lambda: read_kitti_camera(kitti, "2"), kitti),
        (lambda: read_middlebury_camera(middlebury), middlebury),
        (lambda: find_intrinsics(tmp_path / "a.png", tmp_path), tmp_path / "intrinsics.txt"),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert caught.value.file == file
