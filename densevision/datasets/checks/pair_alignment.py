"""Pairs of two kinds of image: whether the two lie on each other, and whether some pairs have exchanged sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.checks.catalog import Check
from densevision.datasets.checks.context import CheckContext, Place
from densevision.datasets.checks.registration import outline_agreement, outline_shift

SHIFT = 2.0
"""Pixels by which outlines may lie apart."""
PEAK = 0.12
"""Least peak of the phase correlation for a shift to be believed: labels and photographs share few outlines."""
GAIN = 2.0
"""How many times better outlines must agree once the shift is undone: rows of windows agree a storey off, too."""
LEAST_PAIRS = 6
"""Pairs from which the two kinds of image can be told apart."""
APART = 3.0
"""Spreads by which the two kinds must differ in some feature to be told apart."""
CLEARLY = 0.5
"""How much nearer a pair must be to the others when its sides are exchanged."""

SHIFTED = Check(
    "pair-misaligned",
    "error",
    f"a pair whose outlines lie more than {SHIFT:g} pixels apart",
    "Register the images: a network that must guess the shift learns blur.",
)
SWAPPED = Check(
    "pair-swapped",
    "error",
    "a pair whose A looks like the others' B, and its B like their A",
    "Exchange the two.",
)
COUNTERPARTS = (SHIFTED, SWAPPED)


@dataclass(frozen=True)
class Likeness:
    """What one pair tells.

    Attributes:
        place: The pair.
        shift: Right and down, in pixels, from the outlines of A to those of B; 0 where it cannot be believed.
        features: (2, n) of A and B.
    """

    place: Place
    shift: tuple[float, float]
    features: np.ndarray


def compare(place: Place, a: np.ndarray, b: np.ndarray) -> Likeness:
    """Looks at one pair, (H, W, 3) uint8 each and of one size."""
    return Likeness(place, _shift(a, b), np.stack([_features(a), _features(b)]))


def judge_counterparts(context: CheckContext, pairs: Sequence[Likeness]) -> None:
    """Reports pairs that are misaligned, or whose sides are exchanged when they are measured by the others."""
    for pair in pairs:
        if max(map(abs, pair.shift)) > SHIFT:
            context.add(SHIFTED, pair.place.file, pair.place.field, "{:+.1f}, {:+.1f} px".format(*pair.shift))
    for pair in _swapped(pairs):
        context.add(SWAPPED, pair.place.file, pair.place.field)


def _shift(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (a, b)]
    x, y, peak = outline_shift(*greys)
    if peak < PEAK or max(abs(x), abs(y)) <= SHIFT:
        return 0.0, 0.0
    better = outline_agreement(*greys, (x, y)) > GAIN * max(outline_agreement(*greys), 0.0)
    return (x, y) if better else (0.0, 0.0)


def _swapped(pairs: Sequence[Likeness]) -> list[Likeness]:
    if len(pairs) < LEAST_PAIRS:
        return []
    features = np.stack([pair.features for pair in pairs])
    middle = np.median(features, 0)
    spread = np.median(np.abs(features - middle), (0, 1)) + 1e-3
    if (np.abs(middle[0] - middle[1]) / spread).max() < APART:
        return []
    own, exchanged = ((np.abs(features - other) / spread).sum((1, 2)) for other in (middle, middle[::-1]))
    return [pair for pair, mine, other in zip(pairs, own, exchanged) if other < CLEARLY * mine]


def _features(image: np.ndarray) -> np.ndarray:
    """(5,) numbers that tell drawings from photographs, night from day, gray from color."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(np.diff(gray, axis=1))
    coarse = (image >> 4).astype(np.int32)
    colors = len(np.unique(coarse @ (256, 16, 1)))
    saturation = (image.max(2) - image.min(2)).mean() / 255
    flat = (steps < 2).mean()
    return np.array([np.log10(colors) / 2, saturation, flat, steps.mean() / 32, gray.mean() / 255])
