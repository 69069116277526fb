"""Memory is bounded by the frame and the tile, never by the video or the image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.inference.predictor import TorchPredictor
from densevision.io.video import VideoWriter
from densevision.published_weights import find_bundled_weights
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card

pytestmark = pytest.mark.slow


def write_square(folder: Path, side: int) -> Path:
    """A JPEG of this side."""
    path = folder / f"{side}.jpg"
    row = np.random.default_rng(0).integers(0, 255, (1, side, 3), np.uint8)
    cv2.imwrite(str(path), np.broadcast_to(row, (side, side, 3)))
    return path


def test_video__memory_does_not_grow_with_its_length(weights: Path, tmp_path: Path, peak_megabytes) -> None:
    peaks = []
    frames = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), np.uint8)
    for count in (10, 2000):
        path = tmp_path / f"{count}.mp4"
        with VideoWriter(path, 25) as writer:
            for index in range(count):
                writer.write(frames[index % len(frames)])
        peaks.append(peak_megabytes(path, weights, "assert sum(1 for _ in result) == " + str(count)))
    assert peaks[1] - peaks[0] < 150, peaks


def test_image__memory_is_little_more_than_the_decoded_image(weights: Path, tmp_path: Path, peak_megabytes) -> None:
    peaks = []
    for side in (1000, 12000):
        path = write_square(tmp_path, side)
        peaks.append(peak_megabytes(path, weights, "len(result)"))
    decoded = 12000 * 12000 * 3 / 2**20
    assert peaks[1] - peaks[0] < decoded + 300, peaks


def test_drawing__of_a_large_image_needs_no_copy_of_it(weights: Path, tmp_path: Path, peak_megabytes) -> None:
    peaks = []
    for side in (1000, 12000):
        path = write_square(tmp_path, side)
        drawing = tmp_path / f"{side}.png"
        peaks.append(peak_megabytes(path, weights, f"result.save({str(drawing)!r})"))
        assert drawing.is_file()
    decoded = 12000 * 12000 * 3 / 2**20
    assert peaks[1] - peaks[0] < decoded + 100, peaks


def test_semantic__of_14_megapixels_within_its_own_bytes_and_300_mb(tmp_path: Path, peak_megabytes) -> None:
    weights = find_bundled_weights("semantic")
    assert weights is not None
    peaks = []
    for side in (1000, 3750):
        path = write_square(tmp_path, side)
        peaks.append(peak_megabytes(path, weights, f"result.save({str(tmp_path / 'drawing.png')!r})", "auto"))
    image_and_labels = 3750 * 3750 * 4 / 2**20
    assert peaks[1] - peaks[0] < image_and_labels + 300, peaks


SMALL = {
    "semantic": {"arch": "fcn32s", "classes": ["one", "two", "three"]},
    "depth": {"arch": "depth_unet", "model.width": 8, "model.finest_stride": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_dense_prediction__of_a_large_image_within_a_gigabyte(name: str, tmp_path: Path, peak_megabytes) -> None:
    task = load_task(name)(load_config(name).resolve(None, {"backbone.name": "mobilenetv2_050", **SMALL[name]}))
    weights = tmp_path / "random.safetensors"
    TorchPredictor(task, task.build_model().eval(), make_card(task.config, 0)).save(weights)
    peaks = []
    for side in (1000, 10000):
        path = write_square(tmp_path, side)
        peaks.append(peak_megabytes(path, weights, f"assert result.size == ({side}, {side})"))
    print(f"{name}: {peaks[0]:.0f} and {peaks[1]:.0f} MB")
    assert peaks[1] - peaks[0] < 1024, peaks
