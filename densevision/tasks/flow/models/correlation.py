"""How alike each cell of the first image is to the cells around its match in the second one.

Two ways give the same answers and gradients. The full volume compares all pairs once, and then only looks up: fast, but
its memory grows with the square of the pixels. On demand, in blocks of cells, only the pairs that are looked at are
compared: the memory grows with the pixels.

Source: Teed and Deng, RAFT, ECCV 2020, section 3.2.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Kind = Literal["auto", "volume", "blocks"]

SHARE = 0.25
"""Part of the memory that `auto` lets a volume take."""
BLOCK_BYTES = 1 << 26
"""Memory of the cells that a block looks at."""


def correlate(first: Tensor, second: Tensor, levels: int, radius: int, kind: Kind = "auto") -> Correlation:
    """Prepares the comparison of two feature maps.

    Args:
        first: (B, D, H, W) features of the first image; float32 is used whatever the type.
        second: (B, D, H, W) of the second one.
        levels: Scales of the second map, each half of the one before.
        radius: Cells to each side of a match that are looked at, at every scale.
        kind: `volume`, `blocks`, or `auto`: the volume, where it takes at most a quarter of the device's memory. An
            exported graph holds the volume under `auto`.
    """
    with torch.autocast(first.device.type, enabled=False):
        if kind == "auto":
            kind = "volume" if torch.compiler.is_exporting() or _affordable(first) else "blocks"
        way = AllPairsCorrelation if kind == "volume" else Blocks
        return way(first.float() / math.sqrt(first.shape[1]), second.float(), levels, radius)


class Correlation(ABC):
    """Two feature maps, ready to be compared around any matches.

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
        """Keeps what the look-ups need."""

    @abstractmethod
    def products(self, level: int, places: Tensor) -> Tensor:
        """Products of each cell with cells of a level: `places` (B, Q, K) are their row-major numbers."""

    def __call__(self, matches: Tensor) -> Tensor:
        """Looks up the neighbourhoods of the matches; no gradient flows to where they lie.

        Args:
            matches: (B, 2, H, W) x and y in cells of the second map, (0, 0) the center of its first cell.

        Returns:
            (B, levels * (2 * radius + 1)^2, H, W) float32, 0 for cells outside; level by level, column by column.
        """
        with torch.autocast(matches.device.type, enabled=False):
            points = matches.detach().float().flatten(2).transpose(1, 2)
            found = [self._around(points / 2**level, level) for level in range(len(self.sizes))]
            return torch.cat(found, 2).transpose(1, 2).unflatten(2, tuple(self.size))

    def _around(self, points: Tensor, level: int) -> Tensor:
        """(B, Q, 2) matches in cells of a level to (B, Q, (2r + 1)^2).

        All samples of a neighbourhood lie equally far between the cells: a square of one more cell per side holds them.
        """
        height, width = self.sizes[level]
        side = 2 * self.radius + 2
        receptive_field_radius = torch.arange(side, device=points.device) - self.radius
        corner = points.floor()
        part = (points - corner)[..., None, None]
        # Far outside all is zero; the limit keeps the whole numbers small.
        columns, rows = (
            corner[..., axis, None].clamp(-side, length + side).long() + receptive_field_radius
            for axis, length in ((0, width), (1, height))
        )
        inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
        places = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[..., None, :]
        square = self.products(level, places.flatten(2)).unflatten(2, (side, side)) * inside
        across = square[..., :-1] + part[:, :, 0] * (square[..., 1:] - square[..., :-1])
        samples = across[..., :-1, :] + part[:, :, 1] * (across[..., 1:, :] - across[..., :-1, :])
        return samples.transpose(2, 3).flatten(2)


class AllPairsCorrelation(Correlation):
    """All pairs, compared once: (H W)^2 numbers and a third more for the coarser scales."""

    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Multiplies all pairs, and averages over the second image scale by scale."""
        volume = first.flatten(2).transpose(1, 2) @ second.flatten(2)
        self.volumes = [volume]
        for size in self.sizes[:-1]:
            pooled = F.avg_pool2d(self.volumes[-1].unflatten(2, size), 2)
            self.volumes.append(pooled.flatten(2))

    def products(self, level: int, places: Tensor) -> Tensor:
        """Reads the products."""
        return self.volumes[level].gather(2, places)


class Blocks(Correlation):
    """The pairs that are looked at, compared when they are; the backward pass compares them anew."""

    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Averages the second map scale by scale: the mean of products is the product with the mean."""
        self.first = first.flatten(2).transpose(1, 2).contiguous()
        self.maps = []
        for level in range(len(self.sizes)):
            second = second if level == 0 else F.avg_pool2d(second, 2)
            self.maps.append(second.flatten(2).transpose(1, 2).contiguous())

    def products(self, level: int, places: Tensor) -> Tensor:
        """Multiplies, block by block."""
        compare = partial(checkpoint, _compare, use_reentrant=False) if torch.is_grad_enabled() else _compare
        depth = self.first.shape[2]
        step = max(1, BLOCK_BYTES // (4 * depth * places.shape[2]))
        rows = []
        for first, cells, wanted in zip(self.first, self.maps[level], places):
            blocks = zip(first.split(step), wanted.split(step))
            rows.append(torch.cat([compare(part, cells, numbers) for part, numbers in blocks]))
        return torch.stack(rows)


def _compare(first: Tensor, cells: Tensor, places: Tensor) -> Tensor:
    """Products of (Q, D) with the rows `places` (Q, K) of (N, D): (Q, K)."""
    looked_at = cells.index_select(0, places.flatten()).unflatten(0, places.shape)
    return torch.bmm(looked_at, first[..., None])[..., 0]


def _affordable(first: Tensor) -> bool:
    cells = first.shape[2] * first.shape[3]
    return first.shape[0] * cells**2 * 4 * 4 / 3 <= SHARE * _memory(first.device)


def _memory(device: torch.device) -> int:
    """Bytes of the device: all of them, not the free ones, so that the same run makes the same choices."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
