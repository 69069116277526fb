"""Tiles and examples: they cover the image, and their maps lead back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densevision.inference.tta import compose, grid, variants
from densevision.run_config import PredictOptions
from densevision.sample import Sample


@given(st.integers(1, 5000), st.integers(1, 800), st.floats(0, 0.9))
def test_grid__covers_without_gap_and_overlaps_enough(length: int, tile: int, overlap: float) -> None:
    starts = grid(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - tile)
    assert all(b - a <= max(1, tile * (1 - overlap)) + 1 for a, b in pairwise(starts))


@pytest.mark.parametrize(
    "options",
    [
        PredictOptions(tile=20, overlap=0.25),
        PredictOptions(tta=("flip", "scale")),
        PredictOptions(tile=16, tta=("flip",)),
    ],
)
def test_variants__maps_lead_back(options: PredictOptions) -> None:
    height, width = 37, 53
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([columns + 0.5, rows + 0.5, 0 * rows], 2)  # each pixel holds its own coordinates
    count = 0
    for variant in variants(Sample({"image": image}), options):
        looked = variant.sample.images["image"]
        y, x = looked.shape[0] // 2, looked.shape[1] // 2
        point = variant.back[:, :2] @ [x + 0.5, y + 0.5] + variant.back[:, 2]
        np.testing.assert_allclose(looked[y, x, :2], point, atol=0.05)
        count += 1
    assert count > 1


def test_compose__applies_inner_first() -> None:
    rng = np.random.default_rng(0)
    outer, inner, point = rng.random((2, 3)), rng.random((2, 3)), rng.random(2)
    expected = outer[:, :2] @ (inner[:, :2] @ point + inner[:, 2]) + outer[:, 2]
    combined = compose(outer, inner)
    np.testing.assert_allclose(combined[:, :2] @ point + combined[:, 2], expected)
