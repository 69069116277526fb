"""The record of depth: what follows its image through a warp, units, points in space, and files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.errors import DataError, UsageError
from densevision.io.depth import read_depth
from densevision.results import DepthMap
from densevision.results.depth_map import Camera

DOUBLE = np.array([[2.0, 0, 0], [0, 2, 0]])


def ramp(height: int = 6, width: int = 8) -> np.ndarray:
    return np.add.outer(np.zeros(height), 2 + 0.01 * np.arange(width)).astype(np.float32)


def test_warp__distance_stays_and_the_camera_zooms() -> None:
    record = DepthMap.from_arrays(ramp(), camera=Camera(100.0))
    larger = record.warp(DOUBLE, (12, 16))
    assert larger.camera == Camera(200.0, (8.0, 6.0))
    np.testing.assert_allclose(larger.depth[1:-1, 1:-1].mean(), record.depth.mean(), rtol=1e-2)


def test_warp__disparity_in_pixels_grows_with_the_image() -> None:
    record = DepthMap.from_arrays(ramp(), kind="disparity", unit="px", camera=Camera(100.0, baseline=0.5))
    larger = record.warp(DOUBLE, (12, 16))
    np.testing.assert_allclose(larger.metric().depth[4:8, 4:12].mean(), record.metric().depth.mean(), rtol=2e-2)


def test_warp__borders_are_not_interpolated() -> None:
    depth = np.where(np.arange(8) < 4, 1.0, 5.0)[None].repeat(4, 0)
    warped = DepthMap.from_arrays(depth).warp(np.array([[1.7, 0, 0.3], [0, 1.7, 0]]), (7, 14))
    assert set(np.unique(warped.depth[warped.valid]).tolist()) == {1.0, 5.0}


def test_warp__nothing_known_stays_so() -> None:
    record = DepthMap.from_arrays(np.ones((3, 4)), np.zeros((3, 4), bool))
    assert not record.warp(DOUBLE, (6, 8)).valid.any()


def test_metric__focal_length_times_baseline_over_disparity() -> None:
    record = DepthMap.from_arrays(
        np.array([[4.0, 0.0]]), kind="disparity", unit="px", camera=Camera(720.0, baseline=0.5)
    )
    found = record.metric()
    assert found.depth[0, 0] == 90 and found.unit == "m"
    np.testing.assert_array_equal(found.valid, [[True, False]])


def test_metric__principal_points_of_a_pair_may_differ() -> None:
    camera = Camera(720.0, baseline=0.5, offset=12.0)
    record = DepthMap.from_arrays(np.array([[6.0, 24.0]]), kind="disparity", unit="px", camera=camera)
    np.testing.assert_allclose(record.metric().depth, [[20, 10]])
    np.testing.assert_allclose(camera.disparity(record.metric().depth), record.depth, rtol=1e-6)
    larger = record.warp(DOUBLE, (2, 4))
    assert larger.camera.offset == 24 and larger.metric().depth[0, 0] == pytest.approx(20)
    assert json.loads(json.dumps(record.to_dict()))["camera"] == vars(camera)


def test_metric__needs_calibration() -> None:
    with pytest.raises(DataError, match="focal length and baseline"):
        DepthMap.from_arrays(np.ones((2, 2)), kind="disparity", unit="px", camera=Camera(720.0)).metric()


def test_points__of_a_wall_lie_in_a_plane_at_right_angles() -> None:
    points, places = DepthMap.from_arrays(np.full((4, 6), 2.0), camera=Camera(100.0)).points()
    np.testing.assert_allclose(points[:, 2], 2)
    np.testing.assert_allclose(points[:, :2].sum(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.diff(points[:6, 0]), 2 / 100, rtol=1e-4)
    np.testing.assert_array_equal(places, np.arange(24))


def test_points__need_a_camera() -> None:
    with pytest.raises(UsageError, match="focal"):
        DepthMap.from_arrays(np.ones((2, 2))).points()


def test_save__every_form(tmp_path: Path) -> None:
    record = DepthMap.from_arrays(ramp(40, 60), camera=Camera(50.0), source=np.zeros((40, 60, 3), np.uint8))
    for ending in ("npy", "npz", "pfm", "ply", "json", "jpg"):
        assert record.save(tmp_path / f"a.{ending}").stat().st_size
    record.save(tmp_path / "a.depth.png")
    np.testing.assert_allclose(read_depth(tmp_path / "a.depth.png", 1000).depth, record.depth, atol=6e-4)
    record.save(tmp_path / "drawn.png")
    assert cv2.imread(str(tmp_path / "drawn.png")).shape == (40, 60, 3)
    assert read_depth(tmp_path / "a.npz").kind == "metric"


def test_to_dict__unknown_is_null() -> None:
    plain = DepthMap.from_arrays(np.array([[1.0, np.nan]]), camera=Camera(5.0)).to_dict()
    assert plain["depth"] == [[1.0, None]] and plain["camera"]["focal"] == 5.0
    json.dumps(plain, allow_nan=False)
