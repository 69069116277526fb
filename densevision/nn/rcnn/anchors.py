"""Anchors: boxes of several sizes and shapes around every cell of a feature pyramid.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1; one size per level as in Lin et al., Feature Pyramid
Networks, CVPR 2017, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["AnchorGenerator", "make_cell_anchors"]


class AnchorGenerator(nn.Module):
    """Generates the anchors of every level.

    Args:
        sizes: For each level the square roots of the areas, in pixels.
        aspect_ratios: Heights divided by widths.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float]):
        super().__init__()
        self.num_per_cell = len(sizes[0]) * len(aspect_ratios)
        for level, level_sizes in enumerate(sizes):
            self.register_buffer(f"cell_{level}", make_cell_anchors(level_sizes, aspect_ratios), persistent=False)

    def forward(self, levels: Sequence[Tensor], canvas: tuple[int, int]) -> list[Tensor]:
        """Anchors (A, 4) xyxy of each level, row by row, cell by cell.

        As in torchvision, the anchors of a cell are centered on its top-left corner, and the stride of each axis is
        the canvas divided by the number of cells, rounded down.

        Args:
            levels: (B, C, H, W) features, of which only the sizes are read.
            canvas: (height, width) of the image.
        """
        return [self._shift(getattr(self, f"cell_{i}"), level, canvas) for i, level in enumerate(levels)]

    def _shift(self, cell_anchors: Tensor, level: Tensor, canvas: tuple[int, int]) -> Tensor:
        rows, columns = level.shape[-2:]
        y = torch.arange(rows, device=cell_anchors.device) * (canvas[0] // rows)
        x = torch.arange(columns, device=cell_anchors.device) * (canvas[1] // columns)
        y, x = torch.meshgrid(y, x, indexing="ij")
        corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        return (corners + cell_anchors).reshape(-1, 4)


def make_cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors (ratios x sizes, 4) around the origin, rounded to integers.

    >>> make_cell_anchors([32], [1.0, 4.0])
    tensor([[-16., -16.,  16.,  16.],
            [ -8., -32.,   8.,  32.]])
    """
    height_factor = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()
    size = torch.tensor(sizes, dtype=torch.float32)
    width, height = ((factor[:, None] * size).flatten() for factor in (1 / height_factor, height_factor))
    return (torch.stack([-width, -height, width, height], 1) / 2).round()
