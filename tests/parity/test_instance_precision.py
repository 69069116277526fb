"""Average precision of masks, keypoints and boundaries beside pycocotools and Boundary IoU as its paper writes it."""

from __future__ import annotations

import numpy as np
import pytest
from certificates.coco_objects import NUMBERS, POINT_NUMBERS, SIZE, Paper, ours, pairs, reference

from densevision.metrics.boundary import rim
from densevision.ops.masks import decode, encode

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind, names", [("segm", NUMBERS), ("keypoints", POINT_NUMBERS)])
def test_numbers__equal_pycocotools(kind, names, seed):
    found = pairs(seed)
    numbers = ours(found, kind).compute()
    assert np.allclose([numbers[name] for name in names], reference(found, kind), atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("seed", range(2))
def test_boundary__equals_the_paper(seed):
    found = pairs(seed)
    numbers = ours(found, "boundary").compute()
    assert np.allclose([numbers[name] for name in NUMBERS], reference(found, "segm", Paper), atol=1e-6, equal_nan=True)
    assert numbers["AP"] < ours(found, "segm").compute()["AP"]


def test_rim__of_nothing_and_of_a_whole_image():
    assert not decode(rim(encode(np.zeros(SIZE, bool)))).any()
    whole = decode(rim(encode(np.ones(SIZE, bool))))
    assert whole[0].all() and whole[:, -1].all() and not whole[60, 80]


@pytest.mark.parametrize("kind", ["segm", "boundary", "keypoints"])
def test_truth_against_itself__is_perfect(kind):
    ground_truths = [truth for _, truth in pairs(0)]
    assert ours([(truth, truth) for truth in ground_truths], kind).compute()["AP"] == pytest.approx(1)
