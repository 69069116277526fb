"""Bilinear splatting compared with a loop over pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from densevision.ops.warp import sample_along_flow, splat_count


def test_splat_count__equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = 4 * torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64)
    expected = torch.zeros(2, 1, 5, 7, dtype=torch.float64)
    for b in range(2):
        for row in range(5):
            for column in range(7):
                x, y = column + flow[b, 0, row, column].item(), row + flow[b, 1, row, column].item()
                for i in (math.floor(y), math.floor(y) + 1):
                    for j in (math.floor(x), math.floor(x) + 1):
                        if 0 <= i < 5 and 0 <= j < 7:
                            expected[b, 0, i, j] += (1 - abs(y - i)) * (1 - abs(x - j))
    torch.testing.assert_close(splat_count(flow), expected)


def test_splat_count__without_motion_and_with_covered_pixels() -> None:
    flow = torch.zeros(1, 2, 3, 4)
    assert (splat_count(flow) == 1).all()
    flow[0, 0, 1, 0] = 2  # moves onto the pixel two columns to the right
    assert splat_count(flow)[0, 0, 1].tolist() == [0, 1, 2, 1]


def test_sample_along_flow__equals_opencv_remap() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((20, 30, 3)).astype(np.float32)
    flow = rng.normal(0, 6, (2, 20, 30)).astype(np.float32)
    x, y = flow[0] + np.arange(30, dtype=np.float32), flow[1] + np.arange(20, dtype=np.float32)[:, None]
    expected = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sampled, is_inside = sample_along_flow(
        torch.from_numpy(image.transpose(2, 0, 1))[None], torch.from_numpy(flow)[None]
    )
    # OpenCV rounds positions to 1/32 of a pixel.
    np.testing.assert_allclose(sampled[0].permute(1, 2, 0).numpy(), expected, atol=2 / 32)
    np.testing.assert_array_equal(is_inside[0].numpy(), (x >= -0.5) & (x < 29.5) & (y >= -0.5) & (y < 19.5))
