"""Anchors: the boxes of several sizes and shapes that every cell of a pyramid starts from.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1; one size per level as in Lin et al., Feature Pyramid
Networks, CVPR 2017, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Anchors(nn.Module):
    """The anchors of every level.

    Args:
        sizes: For each level the square roots of the areas, in pixels.
        ratios: Heights divided by widths.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float]):
        super().__init__()
        self.per_cell = len(sizes[0]) * len(ratios)
        for level, own in enumerate(sizes):
            self.register_buffer(f"cell_{level}", cell_anchors(own, ratios), persistent=False)

    def forward(self, levels: Sequence[Tensor], canvas: tuple[int, int]) -> list[Tensor]:
        """Anchors (A, 4) xyxy of each level, row by row, cell by cell.

        A cell's anchors lie around its top-left corner, and the stride is the canvas divided by the cells and rounded
        down, per axis: both as torchvision has it.

        Args:
            levels: (B, C, H, W) features, of which only the sizes are read.
            canvas: (height, width) of the image.
        """
        return [self._shifted(getattr(self, f"cell_{i}"), level, canvas) for i, level in enumerate(levels)]

    def _shifted(self, cell: Tensor, level: Tensor, canvas: tuple[int, int]) -> Tensor:
        rows, columns = level.shape[-2:]
        y = torch.arange(rows, device=cell.device) * (canvas[0] // rows)
        x = torch.arange(columns, device=cell.device) * (canvas[1] // columns)
        y, x = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (corners + cell).reshape(-1, 4)


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors (ratios x sizes, 4) around the origin, rounded to whole pixels.

    >>> cell_anchors([32], [1.0, 4.0])
    tensor([[-16., -16.,  16.,  16.],
            [ -8., -32.,   8.,  32.]])
    """
    tall = torch.tensor(ratios, dtype=torch.float32).sqrt()
    size = torch.tensor(sizes, dtype=torch.float32)
    width, height = ((side[:, None] * size).flatten() for side in (1 / tall, tall))
    return (torch.stack([-width, -height, width, height], 1) / 2).round()
