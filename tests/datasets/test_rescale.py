"""Multi-scale training: images and everything in pixels are rescaled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.datasets.rescale import rescale_batch, sample_scale_factor
from densevision.ops.view import fit_view
from densevision.results import Detections
from densevision.sample import Batch


def build_batch(height=64, width=96):
    image = torch.zeros(2, 3, height, width)
    image[:, :, 16:32, 32:64] = 1
    truth = Detections.from_arrays([[32, 16, 64, 32]], [0], ("thing",), (height, width))
    targets = {"boxes": torch.tensor(truth.boxes).expand(2, 1, 4), "labels": torch.zeros(2, 1, dtype=torch.long)}
    return Batch(
        {"image": image}, [fit_view((128, 192), "letterbox", (height, width))] * 2, targets, [truth, None], [1, 2]
    )


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.5])
def test_rescale__boxes_follow_their_objects(factor):
    batch = rescale_batch(build_batch(), factor, 32)
    height, width = batch.inputs["image"].shape[2:]
    assert height % 32 == 0 and width % 32 == 0 and abs(height - 64 * factor) <= 16
    y, x = np.nonzero(batch.inputs["image"][0, 0].numpy() > 0.5)
    seen = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    np.testing.assert_allclose(batch.targets["boxes"][0, 0], seen, atol=1)
    np.testing.assert_allclose(batch.target_records[0].boxes[0], batch.targets["boxes"][0, 0], rtol=1e-6)
    assert batch.target_records[1] is None and batch.targets["labels"].dtype == torch.long
    np.testing.assert_allclose(
        batch.views[0].boxes_to_original(batch.target_records[0].boxes), [[64, 32, 128, 64]], rtol=1e-5
    )


def test_rescale__unchanged_and_minimum_size():
    batch = build_batch()
    assert rescale_batch(batch, 1.05, 32) is batch
    assert rescale_batch(batch, 0.01, 32).inputs["image"].shape[2:] == (32, 32)


def test_sample_scale_factor__uses_the_global_generator():
    torch.manual_seed(3)
    first = [sample_scale_factor(0.5) for _ in range(200)]
    torch.manual_seed(3)
    assert first == [sample_scale_factor(0.5) for _ in range(200)]
    assert 0.5 <= min(first) < 0.6 and 1.4 < max(first) <= 1.5 and sample_scale_factor(0.0) == 1
