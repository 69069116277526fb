"""Periodic patterns of materials: (TILE, TILE) float32, about [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator

__all__ = ["PATTERNS", "TILE", "Rng", "noise"]

TILE = 384
"""Side of a pattern, in texels."""

_Y, _X = np.mgrid[:TILE, :TILE].astype(np.float32) / TILE


def noise(rng: Rng, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Generates Gaussian noise with a power-law spectrum, amplitude ~ frequency^-slope; mean 0.5, deviation 0.2."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * stretch, np.fft.rfftfreq(TILE)
    frequency = np.maximum(np.hypot(fx, fy), 1.5 / TILE)
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TILE, TILE))) * frequency**-slope, (TILE, TILE))
    field -= field.mean()
    return (0.5 + field * (0.2 / field.std())).astype(np.float32)


def _soften_step(signal: np.ndarray, texels: float = 1.5) -> np.ndarray:
    """Applies a step at 0, softened over about `texels`, to a signal that grows by 1 over a tile."""
    return np.clip(signal * (TILE / texels) + 0.5, 0, 1)


def _wave(rng: Rng, low: int, high: int) -> np.ndarray:
    """Samples a phase that grows by an integer over the tile."""
    turns, angle = rng.uniform(low, high), rng.uniform(0, np.pi)
    return round(turns * np.cos(angle)) * _X + round(turns * np.sin(angle)) * _Y + np.float32(rng.random())


def _triangle_wave(phase: np.ndarray) -> np.ndarray:
    """Returns a triangle wave in [-0.5, 0.5] with period 1."""
    return np.abs((phase % 1) * 2 - 1) - 0.5


def _clouds(rng: Rng) -> np.ndarray:
    return noise(rng, rng.uniform(1.3, 2.0))


def _camouflage(rng: Rng) -> np.ndarray:
    first, second = noise(rng, 1.9), noise(rng, 1.9)
    return (_soften_step(first - 0.5, 30) + _soften_step(second - 0.55, 30)) / 2


def _marble(rng: Rng) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(2 * np.pi * _wave(rng, 2, 6) + rng.uniform(5, 10) * noise(rng, 1.8))


def _stripes(rng: Rng) -> np.ndarray:
    return _soften_step((_triangle_wave(_wave(rng, 6, 20)) + rng.uniform(-0.25, 0.25)) / 24)


def _checks(rng: Rng) -> np.ndarray:
    count = rng.integers(4, 13)
    x, y = (np.sin(2 * np.pi * (count * axis + 0.13)) for axis in (_X, _Y))
    return _soften_step(x * y / (6 * count))


def _tartan(rng: Rng) -> np.ndarray:
    def bands(axis: np.ndarray) -> np.ndarray:
        counts = rng.integers(2, 12, 3)
        waves = [(_triangle_wave(count * axis + rng.random()) - 0.2) / (2 * count) for count in counts]
        first, second, third = map(_soften_step, waves)
        return (first + second + third) / 3

    return 0.5 * (bands(_X) + bands(_Y))


def _zigzag(rng: Rng) -> np.ndarray:
    across, along = rng.integers(5, 11), rng.integers(4, 10)
    return _soften_step(
        _triangle_wave(along * _Y + rng.uniform(0.6, 1.2) * _triangle_wave(across * _X)) / (2.5 * along)
    )


def _dots(rng: Rng) -> np.ndarray:
    count = 2 * rng.integers(3, 8)
    row = np.floor(count * _Y)
    x, y = (count * _X + 0.5 * (row % 2)) % 1 - 0.5, (count * _Y) % 1 - 0.5
    return _soften_step((rng.uniform(0.2, 0.4) - np.hypot(x, y)) / count)


def _bricks(rng: Rng) -> np.ndarray:
    rows, columns = 2 * int(rng.integers(4, 9)), int(rng.integers(3, 7))
    return _masonry(rng, rows, columns, 0.5)


def _tiles(rng: Rng) -> np.ndarray:
    count = int(rng.integers(4, 10))
    return _masonry(rng, count, count, 0.0)


def _planks(rng: Rng) -> np.ndarray:
    rows = 2 * int(rng.integers(3, 7))
    grain = noise(rng, 1.0, stretch=0.1)
    return 0.65 * _masonry(rng, rows, 2, 0.5) + 0.6 * grain - 0.15


def _masonry(rng: Rng, rows: int, columns: int, shift: float) -> np.ndarray:
    """Draws blocks of random brightness with dark joints; every other row is shifted by a fraction of a block."""
    row = np.floor(rows * _Y).astype(int)
    along = columns * _X + shift * (row % 2)
    shade = rng.uniform(0.45, 1.0, (rows, columns)).astype(np.float32)[row, np.floor(along).astype(int) % columns]
    joint = 0.006
    gap = np.minimum((0.5 - np.abs(along % 1 - 0.5)) / columns, (0.5 - np.abs(rows * _Y % 1 - 0.5)) / rows)
    return shade * _soften_step(gap - joint / 2)


def _mosaic(rng: Rng) -> np.ndarray:
    """Draws Voronoi cells of random shades."""
    y, x = rng.integers(0, TILE, (2, rng.integers(60, 220)))
    # Nine copies around the tile make the cells periodic.
    down, right = (TILE * np.mgrid[:3, :3]).reshape(2, -1, 1)
    empty = np.ones((3 * TILE, 3 * TILE), np.uint8)
    empty[y + down, x + right] = 0
    _, cells = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    shades = np.zeros(cells.max() + 1, np.float32)
    shades[cells[y + down, x + right]] = rng.random(len(x), np.float32)
    inner = slice(TILE, 2 * TILE)
    return cv2.GaussianBlur(shades[cells[inner, inner]], (0, 0), 0.8)


PATTERNS: tuple[Callable[[Rng], np.ndarray], ...] = (
    _clouds, _planks, _bricks, _stripes, _marble, _tiles, _checks, _mosaic, _camouflage, _zigzag, _tartan, _dots,
)  # fmt: skip
"""The available patterns."""
