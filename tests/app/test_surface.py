"""Depth as a surface: the geometry against planes, the file against the layout of glTF 2.0."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.app.surface import build_surface, compute_distance, write_surface
from densevision.errors import DataError
from densevision.results import DepthMap
from densevision.results.depth_map import Camera

CAMERA = Camera(focal=50.0)


def make_plane(height: int = 20, width: int = 30) -> DepthMap:
    """A floor below the camera and a wall behind it: y = 1 where it is nearer than z = 4."""
    y = (np.arange(height) + 0.5 - height / 2) / CAMERA.focal
    floor = np.where(y > 0, 1 / np.maximum(y, 1e-9), np.inf)
    return DepthMap.from_arrays(np.repeat(np.minimum(floor, 4.0)[:, None], width, 1), camera=CAMERA)


def test_surface__lies_on_its_planes() -> None:
    depth = DepthMap.from_arrays(np.full((21, 31), 4.0, np.float32), camera=CAMERA)
    positions, coordinates, triangles = build_surface(depth)
    np.testing.assert_allclose(positions[:, 2], -4)
    assert len(triangles) == 2 * 20 * 30
    # The texture coordinate of a point is where the camera sees it.
    u = (positions[:, 0] / -positions[:, 2] * CAMERA.focal + 31 / 2) / 31
    v = (-positions[:, 1] / -positions[:, 2] * CAMERA.focal + 21 / 2) / 21
    np.testing.assert_allclose(coordinates, np.stack([u, v], 1), atol=1e-5)
    corners = positions[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).all()  # all face the camera
    area = np.linalg.norm(normals, axis=1).sum() / 2
    assert area == pytest.approx((20 / CAMERA.focal * 4) * (30 / CAMERA.focal * 4))


def test_surface__is_cut_at_edges_and_unknown_pixels() -> None:
    step = np.where(np.arange(30) < 12, 2.0, 4.0)[None].repeat(20, 0)
    _, _, triangles = build_surface(DepthMap.from_arrays(step, camera=CAMERA))
    assert len(triangles) == 2 * 19 * (11 + 17)
    unknown = np.ones((20, 30), bool)
    unknown[:, 12] = False
    flat = DepthMap.from_arrays(np.full((20, 30), 2.0), unknown, camera=CAMERA)
    assert len(build_surface(flat)[2]) == 2 * 19 * (11 + 16)
    with pytest.raises(DataError):
        build_surface(DepthMap.from_arrays(np.full((5, 5), np.nan)))


def test_distance__of_every_kind() -> None:
    disparity = np.linspace(1, 9, 50, dtype=np.float32)[None].repeat(40, 0)
    calibrated = DepthMap.from_arrays(disparity, kind="disparity", unit="px", camera=Camera(focal=100.0, baseline=0.5))
    distance, known, unit = compute_distance(calibrated)
    np.testing.assert_allclose(distance, 50 / disparity, rtol=1e-6)
    assert unit == "m" and known.all()
    distance, _, unit = compute_distance(DepthMap.from_arrays(disparity, kind="disparity", unit=""))
    assert unit == "" and (np.diff(distance, axis=1) <= 0).all()
    assert distance.min() == pytest.approx(0.15 * distance.max())


def test_surface__large_images_are_thinned() -> None:
    positions, _, _ = build_surface(DepthMap.from_arrays(np.full((900, 1200), 3.0, np.float32)))
    assert 20_000 < len(positions) <= 60_000


def test_file__layout_of_gltf(tmp_path: Path) -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    distance = write_surface(tmp_path / "a.glb", make_plane(), image)
    data = (tmp_path / "a.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    json_length, json_type = struct.unpack_from("<I4s", data, 12)
    document = json.loads(data[20 : 20 + json_length])
    binary_length, binary_type = struct.unpack_from("<I4s", data, 20 + json_length)
    binary = data[28 + json_length :]
    assert (json_type, binary_type) == (b"JSON", b"BIN\0") and len(binary) == binary_length
    assert json_length % 4 == binary_length % 4 == 0 and document["buffers"][0]["byteLength"] == binary_length
    parts = [binary[view["byteOffset"] :][: view["byteLength"]] for view in document["bufferViews"]]
    assert all(view["byteOffset"] % 4 == 0 for view in document["bufferViews"])
    positions = np.frombuffer(parts[0], "<f4").reshape(-1, 3)
    triangles = np.frombuffer(parts[2], "<u4").reshape(-1, 3)
    assert [len(positions), len(positions), triangles.size] == [each["count"] for each in document["accessors"]]
    assert triangles.max() == len(positions) - 1
    np.testing.assert_allclose(positions.min(0), document["accessors"][0]["min"])
    np.testing.assert_allclose(positions.min(0), -positions.max(0), atol=1e-5)  # the origin is the middle
    expected = build_surface(make_plane())[0]
    np.testing.assert_allclose(positions - positions[0], expected - expected[0], atol=1e-5)
    np.testing.assert_allclose(positions[:, 2] - distance, expected[:, 2], atol=1e-5)  # of the camera
    texture = cv2.imdecode(np.frombuffer(parts[3], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(texture[..., ::-1].astype(int) - image).max() < 6
