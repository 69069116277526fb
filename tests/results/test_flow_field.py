"""The record of motion: what maps do to it, how it is saved, how it is drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densevision.errors import UsageError
from densevision.io.flow import read_flow
from densevision.results import FlowField
from densevision.results.flow_field import warp_back


def turning(height: int = 40, width: int = 60) -> FlowField:
    """Motion that depends linearly on the place: known exactly everywhere, after any map."""
    return FlowField.from_arrays(linear(np.indices((height, width))[::-1] + 0.5))


def linear(points: np.ndarray) -> np.ndarray:
    x, y = points
    return np.stack([0.02 * x - 0.03 * y + 1, 0.03 * x + 0.01 * y - 2])


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1.0, 0, 5], [0, 1, -3]]),
        np.array([[-1.0, 0, 60], [0, 1, 0]]),
        np.array([[1.5, 0, -8.3], [0, 1.5, -4.1]]),
        np.array([[0.6, 0, 0], [0, 0.7, 0]]),
        np.array([[0.9, -0.3, 8], [0.3, 0.9, -6]]),
    ],
    ids=["shift", "mirror", "larger", "smaller", "turned"],
)
def test_warp__of_a_linear_field_is_exact(matrix):
    truth, size = turning(), (48, 64)
    moved = truth.warp(matrix, size)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    target = np.indices(size)[::-1] + 0.5
    source = np.einsum("ij,jhw->ihw", inverse[:2, :2], target) + inverse[:2, 2, None, None]
    expected = np.einsum("ij,jhw->ihw", matrix[:, :2], linear(source))
    inner = moved.valid & (source > 1).all(0) & (source[0] < 59) & (source[1] < 39)
    assert inner.sum() > 500
    # The interpolation of warpAffine places a sample on a grid of 1/32 pixel.
    np.testing.assert_allclose(moved.flow[:, inner], expected[:, inner], atol=0.003)


def test_warp__outside_nothing_is_known():
    moved = turning().warp(np.array([[1.0, 0, 10], [0, 1, 0]]), (40, 60))
    assert not moved.valid[:, :10].any() and moved.valid[:, 10:].all()
    assert not moved.flow[:, :, :10].any()


def test_warp__does_not_mix_motions_at_a_border():
    flow = np.zeros((2, 20, 20), np.float32)
    flow[0, :, 10:] = 8
    moved = FlowField.from_arrays(flow).warp(np.array([[1.7, 0, 0.4], [0, 1.7, 0.1]]), (34, 34))
    assert set(np.unique(np.round(moved.flow[0], 3))) <= {0.0, np.float32(13.6)}


def test_warp__keeps_sparse_truth_sparse():
    flow, valid = np.full((2, 32, 32), 3.0), np.zeros((32, 32), bool)
    valid[::4, ::4] = True
    moved = FlowField.from_arrays(flow, valid).warp(np.array([[2.0, 0, 0], [0, 2, 0]]), (64, 64))
    assert moved.valid.sum() == 4 * valid.sum()
    assert (moved.flow[:, moved.valid] == 6).all()


def test_warp__what_moves_off_the_canvas_is_occluded():
    flow = np.zeros((2, 10, 20))
    flow[0] = 4
    truth = FlowField.from_arrays(flow, occlusion=np.zeros((10, 20), bool))
    cropped = truth.warp(np.array([[1.0, 0, -5], [0, 1, 0]]), (10, 10))
    np.testing.assert_array_equal(cropped.occlusion[0], [False] * 6 + [True] * 4)
    assert cropped.occlusion.dtype == bool


def test_of__what_is_not_finite_is_not_valid():
    flow = np.zeros((2, 2, 2))
    flow[0, 0, 0], flow[1, 1, 1] = np.nan, np.inf
    record = FlowField.from_arrays(flow)
    assert record.valid.tolist() == [[False, True], [True, False]] and np.isfinite(record.flow).all()


@pytest.mark.parametrize("name", ["a.flo", "a.pfm", "a.npy", "a.kitti.png"])
def test_save__as_data(tmp_path, name):
    record = FlowField.from_arrays(np.round(turning().flow * 64) / 64)
    flow, valid = read_flow(record.save(tmp_path / name))
    np.testing.assert_array_equal(flow, record.flow)
    assert valid.all()


def test_save__as_drawing_json_and_arrays(tmp_path):
    record = turning()
    from densevision.io.image import read_image

    assert read_image(record.save(tmp_path / "a.png")).shape == (40, 60, 3)
    assert json.loads(record.save(tmp_path / "a.json").read_text())["size"] == [40, 60]
    assert np.load(record.save(tmp_path / "a.npz"))["flow"].shape == (2, 40, 60)
    with pytest.raises(UsageError, match="flo"):
        record.save(tmp_path / "a.xyz")


def test_fetch__brings_a_shifted_image_back():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (20, 30, 3), np.uint8)
    second = np.roll(first, (2, 3), (0, 1))
    flow = np.stack([np.full((20, 30), 3.0), np.full((20, 30), 2.0)]).astype(np.float32)
    np.testing.assert_array_equal(warp_back(second, flow)[:18, :27], first[:18, :27])


def test_draw__with_and_without_occlusion():
    record = turning()
    image = np.zeros((40, 60, 3), np.uint8)
    hidden = FlowField.from_arrays(record.flow, occlusion=np.ones((40, 60), np.float32))
    assert record.draw(image).shape == hidden.draw(image).shape == (40, 60, 3)
    assert (record.draw(image) != hidden.draw(image)).any()
    assert record.arrows(image).any()
    assert record.compare(image, image).shape[2] == 3
