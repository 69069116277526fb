"""Where pixels arrive, beside a loop over them."""

from __future__ import annotations

import math

import torch

from densevision.ops.warp import splat_count


def test_arrivals__beside_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = 4 * torch.randn(2, 2, 5, 7, generator=generator, dtype=torch.float64)
    wanted = torch.zeros(2, 1, 5, 7, dtype=torch.float64)
    for b in range(2):
        for row in range(5):
            for column in range(7):
                x, y = column + flow[b, 0, row, column].item(), row + flow[b, 1, row, column].item()
                for i in (math.floor(y), math.floor(y) + 1):
                    for j in (math.floor(x), math.floor(x) + 1):
                        if 0 <= i < 5 and 0 <= j < 7:
                            wanted[b, 0, i, j] += (1 - abs(y - i)) * (1 - abs(x - j))
    torch.testing.assert_close(splat_count(flow), wanted)


def test_arrivals__of_what_stands_still_and_what_is_covered() -> None:
    flow = torch.zeros(1, 2, 3, 4)
    assert (splat_count(flow) == 1).all()
    flow[0, 0, 1, 0] = 2  # moves over what stands two pixels to the right
    assert splat_count(flow)[0, 0, 1].tolist() == [0, 1, 2, 1]
