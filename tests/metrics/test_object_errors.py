"""TIDE's kinds of errors: each planted once, and counted as hotcoco counts them."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.metrics.tide import KINDS, ObjectError, ObjectErrors, object_errors
from densevision.ops.masks import encode
from densevision.results import Detections, Instances

SIZE = (200, 400)
NAMES = ("a", "b")
TRUTH = [(10, 10, 50, 50), (100, 10, 140, 50), (200, 10, 240, 50), (300, 10, 340, 50)]
FOUND = {"box": (10, 10, 50, 50), "half": (125, 10, 165, 50), "none": (10, 120, 50, 160)}


def record(boxes, labels, scores=None, crowd=None) -> Detections:
    more = {"scores": scores} if scores is not None else {}
    more |= {"crowd": np.array(crowd, bool)} if crowd is not None else {}
    return Detections.of(np.array(boxes, np.float32).reshape(-1, 4), labels, NAMES, SIZE, **more)


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((10, 10, 50, 50), 1, "Cls"),
        ((25, 10, 65, 50), 0, "Loc"),
        ((25, 10, 65, 50), 1, "Both"),
        ((10, 120, 50, 160), 0, "Bkg"),
    ],
)
def test_errors__each_kind_by_itself(box, label, kind) -> None:
    truth = record([TRUTH[0]], [0])
    errors = object_errors(record([box], [label], [0.9]), truth)
    missed = [ObjectError("Miss", 0)] if kind in ("Both", "Bkg") else []
    assert errors == [ObjectError(kind, 0), *missed]


def test_errors__duplicates_and_misses() -> None:
    truth = record(TRUTH[:2], [0, 0])
    answer = record([(12, 10, 52, 50), TRUTH[0]], [0, 0], [0.6, 0.9])
    assert object_errors(answer, truth) == [ObjectError("Dupe", 0), ObjectError("Miss", 1)]
    assert object_errors(truth, truth) == []


def test_errors__crowds_excuse_and_are_never_missed() -> None:
    truth = record([(0, 0, 100, 100)], [0], crowd=[1])
    assert object_errors(record([(10, 10, 50, 50)], [0], [0.9]), truth) == []
    assert object_errors(record([(10, 10, 50, 50)], [1], [0.9]), truth) == [ObjectError("Bkg", 0)]
    assert object_errors(record([], []), truth) == []


def test_costs__are_what_mending_brings() -> None:
    errors = ObjectErrors(NAMES[:1])
    answer = Detections.of([TRUTH[0]], [0], NAMES[:1], SIZE, scores=[0.9])
    errors.update(answer, Detections.of(TRUTH[:2], [0, 0], NAMES[:1], SIZE), None, "x")
    (title,) = errors.tables()
    rows = errors.tables()[title]
    # One of two objects is found first: precision is 1 up to a recall of 0.5, at 51 of 101 points.
    assert "0.5050" in title and rows[KINDS["Miss"]] == {"errors": 1, "cost in AP50": pytest.approx(1 - 51 / 101)}
    assert all(rows[KINDS[kind]] == {"errors": 0, "cost in AP50": 0} for kind in KINDS if kind != "Miss")


def random_pair(seed: int, masks: bool) -> tuple[Detections, Detections]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 140, (5, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 60, (5, 2))], 1).round()
    near = boxes[rng.integers(0, 5, 12)] + rng.normal(0, 9, (12, 4)).round()
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 5)
    near = np.concatenate([near, rng.uniform(0, 100, (3, 4)) + [0, 0, 100, 100]]).clip(0, 199)
    sides = ((near, rng.integers(0, 2, 15), rng.random(15)), (boxes.clip(0, 199), rng.integers(0, 2, 5), np.ones(5)))
    records = []
    for own, labels, scores in sides:
        more = {"masks": tuple(map(mask_of, own))} if masks else {}
        kind = Instances if masks else Detections
        records.append(kind.of(own, labels, NAMES, SIZE, scores=scores, **more))
    return records[0], records[1]


def mask_of(box: np.ndarray) -> dict:
    x1, y1, x2, y2 = box.astype(int)
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    mask[y1 : (y1 + y2) // 2, x1 : (x1 + x2) // 2] = False
    return encode(mask)


@pytest.mark.parity
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_counts__equal_hotcoco(iou_type: str) -> None:
    errors = ObjectErrors(NAMES, iou_type)
    for seed in range(40):
        errors.update(*random_pair(seed, iou_type == "segm"), None, str(seed))
    theirs = errors.precision.tide()["counts"]
    assert {kind: errors.counts[kind] for kind in KINDS} == theirs and min(theirs.values()) > 0


def test_draw__shows_errors_and_leaves_the_rest() -> None:
    truth = record(TRUTH[:2], [0, 0])
    answer = record([TRUTH[0]], [0], [0.9])
    canvas = np.zeros((*SIZE, 3), np.uint8)
    drawn, _ = ObjectErrors(NAMES).draw(answer, truth, canvas)
    assert drawn[10:50, 100].any() and not drawn[12:50, 10:50].any()
