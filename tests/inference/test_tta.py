"""Tiles and TTA views cover the image, and their maps lead back to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.inference.tta import compose_affine, compute_tile_starts, make_tta_views
from densevision.run_config import PredictOptions
from densevision.sample import Sample


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 800), st.floats(0, 0.9))
def test_compute_tile_starts__covers_without_gaps(length: int, tile: int, overlap: float) -> None:
    starts = compute_tile_starts(length, tile, overlap)
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
def test_make_tta_views__maps_lead_back_to_the_image(options: PredictOptions) -> None:
    height, width = 37, 53
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = np.stack([columns + 0.5, rows + 0.5, 0 * rows], 2)  # each pixel holds its own coordinates
    count = 0
    for view in make_tta_views(Sample({"image": image}), options):
        image_view = view.sample.images["image"]
        y, x = image_view.shape[0] // 2, image_view.shape[1] // 2
        point = view.to_image[:, :2] @ [x + 0.5, y + 0.5] + view.to_image[:, 2]
        np.testing.assert_allclose(image_view[y, x, :2], point, atol=0.05)
        count += 1
    assert count > 1


def test_compose_affine__applies_inner_first() -> None:
    rng = np.random.default_rng(0)
    outer, inner, point = rng.random((2, 3)), rng.random((2, 3)), rng.random(2)
    expected = outer[:, :2] @ (inner[:, :2] @ point + inner[:, 2]) + outer[:, 2]
    combined = compose_affine(outer, inner)
    np.testing.assert_allclose(combined[:, :2] @ point + combined[:, 2], expected)
