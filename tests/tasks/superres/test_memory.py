"""Memory depends on the tile and the frame, not on the image or the video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.inference.predictor import build_without_weights
from densevision.io.image import read_image_size
from densevision.io.video import VideoWriter

pytestmark = pytest.mark.slow


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network so small that writing the result takes longer than computing it."""
    model = build_without_weights("superres", {"arch": "srvgg", "scale": 2, "model.width": 8, "model.depth": 2})
    model.save(tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def test_image__of_64_megapixels_needs_little_more_than_a_small_one(weights: Path, tmp_path: Path, peak_megabytes):
    peaks = []
    for side in (500, 8000):
        path, out = tmp_path / f"{side}.png", tmp_path / f"{side}_x2.png"
        row = np.random.default_rng(0).integers(0, 255, (1, side, 3), np.uint8)
        cv2.imwrite(str(path), np.broadcast_to(row, (side, side, 3)))
        peaks.append(peak_megabytes(path, weights, f"result.save({str(out)!r})"))
        assert read_image_size(out) == (2 * side, 2 * side)
    assert peaks[1] - peaks[0] < 1500, peaks


def test_video__memory_does_not_grow_with_its_length(weights: Path, tmp_path: Path, peak_megabytes):
    peaks = []
    frames = np.random.default_rng(0).integers(0, 255, (8, 120, 160, 3), np.uint8)
    for count in (10, 500):
        path = tmp_path / f"{count}.mp4"
        with VideoWriter(path, 25) as writer:
            for number in range(count):
                writer.write(frames[number % len(frames)])
        counted = f"assert sum(result.size == (240, 320) for result in result) == {count}"
        peaks.append(peak_megabytes(path, weights, counted))
    assert peaks[1] - peaks[0] < 100, peaks
