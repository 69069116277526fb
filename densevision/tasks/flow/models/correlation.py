"""Correlation of each cell of the first image with the cells around its match in the second one.

Two implementations give the same values and gradients. The all-pairs volume is computed once and then looked up: fast,
but its memory grows with the square of the pixels. On demand, in blocks of cells, only the pairs that are looked up are
computed: the memory grows with the pixels.

Source: Teed and Deng, RAFT, ECCV 2020, section 3.2.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = [
    "AllPairsCorrelation",
    "Correlation",
    "CorrelationKind",
    "OnDemandCorrelation",
    "correlate",
    "disable_autocast",
]

CorrelationKind = Literal["auto", "all_pairs", "on_demand"]

MEMORY_FRACTION = 0.25
"""Fraction of the device's memory that `auto` allows for the all-pairs volume."""
BLOCK_BYTES = 1 << 26
"""Memory of the features that one block gathers."""


def correlate(first: Tensor, second: Tensor, levels: int, radius: int, kind: CorrelationKind = "auto") -> Correlation:
    """Prepares the correlation of two feature maps.

    Args:
        first: (B, D, H, W) features of the first image.
        second: (B, D, H, W) of the second one.
        levels: Scales of the second map, each half of the one before.
        radius: Cells to each side of a match that are looked up, at every scale.
        kind: `all_pairs`, `on_demand`, or `auto`: all pairs if the volume takes at most a quarter of the device's
            memory, and in exported graphs.
    """
    with disable_autocast(first.device):
        if kind == "auto":
            kind = "all_pairs" if torch.compiler.is_exporting() or _fits_memory(first) else "on_demand"
        correlation = AllPairsCorrelation if kind == "all_pairs" else OnDemandCorrelation
        return correlation(first, second, levels, radius)


class Correlation(ABC):
    """Two feature maps, ready to be looked up around any matches.

    Args:
        first: (B, D, H, W).
        second: (B, D, H, W).
        levels: Scales of the second map.
        radius: Cells to each side of a match.
    """

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int):
        self.radius = radius
        depth, *self.size = first.shape[1:]
        self.scale = 1 / math.sqrt(depth)
        cells, maps = first.flatten(2).transpose(1, 2), [second.float()]
        for _ in range(levels - 1):  # the mean of products is the product with the mean
            maps.append(F.avg_pool2d(maps[-1], 2))
        self.sizes = [tuple(level.shape[2:]) for level in maps]
        self.prepare(cells, [level.flatten(2).transpose(1, 2) for level in maps])

    @abstractmethod
    def prepare(self, first: Tensor, second: Sequence[Tensor]) -> None:
        """Precomputes what the lookups need.

        Args:
            first: (B, H W, D) features of each cell.
            second: (B, H_l W_l, D) float32 for each level l.
        """

    @abstractmethod
    def products(self, level: int, indices: Tensor) -> Tensor:
        """Dot products of each cell with cells of a level: `indices` (B, Q, K) are their row-major numbers."""

    def __call__(self, matches: Tensor) -> Tensor:
        """Looks up the neighborhoods of the matches; no gradient flows to their positions.

        Args:
            matches: (B, 2, H, W) x and y in cells of the second map, (0, 0) the center of its first cell.

        Returns:
            (B, levels * (2 * radius + 1)^2, H, W) float32, 0 for cells outside; level by level, column by column.
        """
        with disable_autocast(matches.device):
            points = matches.detach().float().flatten(2).transpose(1, 2)
            samples = [self._sample(points / 2**level, level) for level in range(len(self.sizes))]
            return torch.cat(samples, 2).transpose(1, 2).unflatten(2, tuple(self.size))

    def _sample(self, points: Tensor, level: int) -> Tensor:
        """(B, Q, 2) matches in cells of a level to (B, Q, (2r + 1)^2).

        All samples of a neighborhood have the same fractional offset, so a square with one more cell per side suffices.
        """
        height, width = self.sizes[level]
        columns, column_weights = self._find_cells(points[..., :1], width)
        rows, row_weights = self._find_cells(points[..., 1:], height)
        indices = rows[..., None] * width + columns[..., None, :]
        side = 2 * self.radius + 2
        square = self.products(level, indices.flatten(2)).float().unflatten(2, (side, side))
        near, far = (weights[..., None, :] for weights in column_weights)
        across = torch.addcmul(square[..., :-1] * near, square[..., 1:], far)
        near, far = (weights[..., None] * self.scale for weights in row_weights)
        samples = torch.addcmul(across[..., :-1, :] * near, across[..., 1:, :], far)
        return samples.transpose(2, 3).flatten(2)

    def _find_cells(self, points: Tensor, length: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The cells around points along one axis, and the weights of both neighbors of each sample between them.

        Args:
            points: (B, Q, 1) in cells.
            length: Cells of the axis.

        Returns:
            (B, Q, 2r + 2) numbers within the axis, and two of (B, Q, 2r + 1), 0 for cells outside.
        """
        side = 2 * self.radius + 2
        corner = points.floor()
        fraction = points - corner
        # Far outside all is zero; the limit avoids integer overflow.
        cells = corner.clamp(-side, length + side).long() + torch.arange(-self.radius, side - self.radius).to(
            points.device
        )
        is_inside = ((cells >= 0) & (cells < length)).to(points.dtype)
        return cells.clamp(0, length - 1), ((1 - fraction) * is_inside[..., :-1], fraction * is_inside[..., 1:])


class AllPairsCorrelation(Correlation):
    """All pairs, computed once: (H W)^2 numbers and a third more for the coarser scales.

    They are kept in float32; of features in bfloat16, where no gradients are wanted, in bfloat16, as the network would
    round them after the lookup.
    """

    def prepare(self, first: Tensor, second: Sequence[Tensor]) -> None:
        """Multiplies all pairs."""
        dtype = torch.float32 if torch.is_grad_enabled() or torch.compiler.is_exporting() else _pick_type(first)
        self.volumes = [first.to(dtype) @ cells.to(dtype).transpose(1, 2) for cells in second]

    def products(self, level: int, indices: Tensor) -> Tensor:
        """Gathers from the volume."""
        return self.volumes[level].gather(2, indices)


class OnDemandCorrelation(Correlation):
    """Pairs are computed in float32 when they are looked up, and again in the backward pass."""

    def prepare(self, first: Tensor, second: Sequence[Tensor]) -> None:
        """Lays out the features cell by cell."""
        self.first = first.float().contiguous()
        self.maps = [cells.contiguous() for cells in second]

    def products(self, level: int, indices: Tensor) -> Tensor:
        """Multiplies block by block."""
        multiply = partial(checkpoint, _multiply, use_reentrant=False) if torch.is_grad_enabled() else _multiply
        depth = self.first.shape[2]
        step = max(1, BLOCK_BYTES // (4 * depth * indices.shape[2]))
        rows = []
        for first, cells, neighborhoods in zip(self.first, self.maps[level], indices):
            blocks = zip(first.split(step), neighborhoods.split(step))
            rows.append(torch.cat([multiply(block, cells, numbers) for block, numbers in blocks]))
        return torch.stack(rows)


def _multiply(first: Tensor, cells: Tensor, indices: Tensor) -> Tensor:
    """Products of (Q, D) with the rows `indices` (Q, K) of (N, D): (Q, K)."""
    gathered = cells.index_select(0, indices.flatten()).unflatten(0, indices.shape)
    return torch.bmm(gathered, first[..., None])[..., 0]


def disable_autocast(device: torch.device) -> AbstractContextManager[None]:
    """A context without autocast; nothing in exported graphs, which have no autocast."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device.type, enabled=False)


def _pick_type(features: Tensor) -> torch.dtype:
    return torch.bfloat16 if features.dtype == torch.bfloat16 else torch.float32


def _fits_memory(first: Tensor) -> bool:
    cells = first.shape[2] * first.shape[3]
    return first.shape[0] * cells**2 * 4 * 4 / 3 <= MEMORY_FRACTION * _total_memory(first.device)


def _total_memory(device: torch.device) -> int:
    """Bytes of the device: total and not free memory, so that equal runs choose alike."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
