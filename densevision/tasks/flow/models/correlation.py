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
        first: (B, D, H, W) features of the first image, computed with in float32 whatever their type.
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
        return correlation(first.float() / math.sqrt(first.shape[1]), second.float(), levels, radius)


class Correlation(ABC):
    """Two feature maps, ready to be looked up around any matches.

    Args:
        first: (B, D, H, W), divided by the square root of D.
        second: (B, D, H, W).
        levels: Scales of the second map.
        radius: Cells to each side of a match.
    """

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int):
        self.radius = radius
        self.batch, _, *self.size = first.shape
        self.sizes = [tuple(self.size)]
        for _ in range(levels - 1):
            self.sizes.append((self.sizes[-1][0] // 2, self.sizes[-1][1] // 2))
        self.prepare(first, second)

    @abstractmethod
    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Precomputes what the lookups need."""

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
        side = 2 * self.radius + 2
        steps = torch.arange(side, device=points.device) - self.radius
        corner = points.floor()
        fraction = (points - corner)[..., None, None]
        # Far outside all is zero; the limit avoids integer overflow.
        columns, rows = (
            corner[..., axis, None].clamp(-side, length + side).long() + steps
            for axis, length in ((0, width), (1, height))
        )
        is_inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
        indices = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[..., None, :]
        square = self.products(level, indices.flatten(2)).unflatten(2, (side, side)) * is_inside
        across = square[..., :-1] + fraction[:, :, 0] * (square[..., 1:] - square[..., :-1])
        samples = across[..., :-1, :] + fraction[:, :, 1] * (across[..., 1:, :] - across[..., :-1, :])
        return samples.transpose(2, 3).flatten(2)


class AllPairsCorrelation(Correlation):
    """All pairs, computed once: (H W)^2 numbers and a third more for the coarser scales."""

    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Multiplies all pairs, and pools over the second image scale by scale."""
        volume = first.flatten(2).transpose(1, 2) @ second.flatten(2)
        self.volumes = [volume]
        for size in self.sizes[:-1]:
            pooled = F.avg_pool2d(self.volumes[-1].unflatten(2, size), 2)
            self.volumes.append(pooled.flatten(2))

    def products(self, level: int, indices: Tensor) -> Tensor:
        """Gathers from the volume."""
        return self.volumes[level].gather(2, indices)


class OnDemandCorrelation(Correlation):
    """Pairs are computed when they are looked up, and again in the backward pass."""

    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Pools the second map scale by scale: the mean of products is the product with the mean."""
        self.first = first.flatten(2).transpose(1, 2).contiguous()
        self.maps = []
        for level in range(len(self.sizes)):
            second = second if level == 0 else F.avg_pool2d(second, 2)
            self.maps.append(second.flatten(2).transpose(1, 2).contiguous())

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


def _fits_memory(first: Tensor) -> bool:
    cells = first.shape[2] * first.shape[3]
    return first.shape[0] * cells**2 * 4 * 4 / 3 <= MEMORY_FRACTION * _total_memory(first.device)


def _total_memory(device: torch.device) -> int:
    """Bytes of the device: total and not free memory, so that equal runs choose alike."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
