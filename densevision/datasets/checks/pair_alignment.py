"""Checks of pairs of two kinds of image: misalignment, and swapped sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.checks.catalog import Check
from densevision.datasets.checks.context import CheckContext, Location
from densevision.datasets.checks.registration import correlate_edges, measure_edge_shift

__all__ = ["PAIR_CHECKS", "PairMeasurement", "check_alignment", "measure_pair"]

MAX_SHIFT = 2.0
"""Shift in pixels above which a pair is misaligned."""
MIN_PEAK = 0.12
"""Minimum peak of the phase correlation for a reliable shift: labels and photographs share few edges."""
MIN_GAIN = 2.0
"""Minimum ratio of the edge correlations with and without the shift: repetitive structures such as rows of windows
also correlate at shifts by one period."""
MIN_PAIRS = 6
"""Minimum number of pairs from which the two kinds of image can be distinguished."""
MIN_SEPARATION = 3.0
"""Distance of the two kinds in some feature, in spreads, from which they can be distinguished."""
MAX_SWAP_RATIO = 0.5
"""A pair counts as swapped if its distance to the others after swapping is below this fraction of that before."""

MISALIGNED = Check(
    "pair-misaligned",
    "error",
    f"a pair whose edges are more than {MAX_SHIFT:g} pixels apart",
    "Register the images: otherwise the network has to guess the shift and learns blur.",
)
SWAPPED = Check(
    "pair-swapped",
    "error",
    "a pair whose A looks like the others' B, and its B like their A",
    "Swap the two images.",
)
PAIR_CHECKS = (MISALIGNED, SWAPPED)


@dataclass(frozen=True)
class PairMeasurement:
    """Measurements of one pair.

    Attributes:
        location: The pair.
        shift: Right and down in pixels, from the edges of A to those of B; 0 if it is small or unreliable.
        features: (2, n) of A and B.
    """

    location: Location
    shift: tuple[float, float]
    features: np.ndarray


def measure_pair(location: Location, a: np.ndarray, b: np.ndarray) -> PairMeasurement:
    """Measures a pair of images, (H, W, 3) uint8 of the same size."""
    return PairMeasurement(location, _measure_shift(a, b), np.stack([_compute_features(a), _compute_features(b)]))


def check_alignment(context: CheckContext, pairs: Sequence[PairMeasurement]) -> None:
    """Reports pairs that are misaligned, or whose sides are swapped compared with the other pairs."""
    for pair in pairs:
        if max(map(abs, pair.shift)) > MAX_SHIFT:
            context.add(MISALIGNED, pair.location.file, pair.location.field, "{:+.1f}, {:+.1f} px".format(*pair.shift))
    for pair in _find_swapped(pairs):
        context.add(SWAPPED, pair.location.file, pair.location.field)


def _measure_shift(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    gray_a, gray_b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b))
    x, y, peak = measure_edge_shift(gray_a, gray_b)
    if peak < MIN_PEAK or max(abs(x), abs(y)) <= MAX_SHIFT:
        return 0.0, 0.0
    unshifted = max(correlate_edges(gray_a, gray_b), 0.0)
    is_reliable = correlate_edges(gray_a, gray_b, (x, y)) > MIN_GAIN * unshifted
    return (x, y) if is_reliable else (0.0, 0.0)


def _find_swapped(pairs: Sequence[PairMeasurement]) -> list[PairMeasurement]:
    if len(pairs) < MIN_PAIRS:
        return []
    features = np.stack([pair.features for pair in pairs])
    median = np.median(features, 0)
    spread = np.median(np.abs(features - median), (0, 1)) + 1e-3
    if (np.abs(median[0] - median[1]) / spread).max() < MIN_SEPARATION:
        return []
    distances, swapped_distances = (
        (np.abs(features - center) / spread).sum((1, 2)) for center in (median, median[::-1])
    )
    return [pairs[row] for row in np.flatnonzero(swapped_distances < MAX_SWAP_RATIO * distances).tolist()]


def _compute_features(image: np.ndarray) -> np.ndarray:
    """Computes (5,) numbers that distinguish drawings from photographs, night from day, and gray from color."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(gray, axis=1))
    coarse = (image >> 4).astype(np.int32)
    colors = len(np.unique(coarse @ (256, 16, 1)))
    saturation = (image.max(2) - image.min(2)).mean() / 255
    flat_share = (steps < 2).mean()
    return np.array([np.log10(colors) / 2, saturation, flat_share, steps.mean() / 32, gray.mean() / 255])
