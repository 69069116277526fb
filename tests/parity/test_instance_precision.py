"""Average precision of masks, keypoints and boundaries against pycocotools and Boundary IoU."""

from __future__ import annotations

import numpy as np
import pytest
from certificates.coco_objects import (
    KEYPOINT_METRICS,
    METRICS,
    SIZE,
    BoundaryEval,
    evaluate,
    evaluate_reference,
    make_pairs,
)

from densevision.metrics.boundary import extract_boundary_band
from densevision.ops.masks import decode, encode

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind, names", [("segm", METRICS), ("keypoints", KEYPOINT_METRICS)])
def test_numbers__equal_pycocotools(kind, names, seed):
    pairs = make_pairs(seed)
    numbers = evaluate(pairs, kind).compute()
    assert np.allclose([numbers[name] for name in names], evaluate_reference(pairs, kind), atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("seed", range(2))
def test_boundary__equals_reference(seed):
    pairs = make_pairs(seed)
    numbers = evaluate(pairs, "boundary").compute()
    assert np.allclose(
        [numbers[name] for name in METRICS], evaluate_reference(pairs, "segm", BoundaryEval), atol=1e-6, equal_nan=True
    )
    assert numbers["AP"] < evaluate(pairs, "segm").compute()["AP"]


def test_boundary_band__empty_and_full_mask():
    assert not decode(extract_boundary_band(encode(np.zeros(SIZE, bool)))).any()
    whole = decode(extract_boundary_band(encode(np.ones(SIZE, bool))))
    assert whole[0].all() and whole[:, -1].all() and not whole[60, 80]


@pytest.mark.parametrize("kind", ["segm", "boundary", "keypoints"])
def test_compute__prediction_equals_truth(kind):
    target_records = [truth for _, truth in make_pairs(0)]
    assert evaluate([(truth, truth) for truth in target_records], kind).compute()["AP"] == pytest.approx(1)
