"""TIDE's kinds of errors: each planted once, and counts equal to hotcoco's."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.metrics.tide import ObjectError, TideErrors, find_errors
from densevision.metrics.tide_kinds import KINDS
from densevision.metrics.tidecv_costs import TidecvCosts
from densevision.ops.masks import encode
from densevision.results import Detections, Instances

SIZE = (200, 400)
NAMES = ("a", "b")
TRUTH = [(10, 10, 50, 50), (100, 10, 140, 50), (200, 10, 240, 50), (300, 10, 340, 50)]


def make_record(boxes, labels, scores=None, crowd=None) -> Detections:
    more = {"scores": scores} if scores is not None else {}
    more |= {"crowd": np.array(crowd, bool)} if crowd is not None else {}
    return Detections.from_arrays(np.array(boxes, np.float32).reshape(-1, 4), labels, NAMES, SIZE, **more)


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((10, 10, 50, 50), 1, "Cls"),
        ((25, 10, 65, 50), 0, "Loc"),
        ((25, 10, 65, 50), 1, "Both"),
        ((10, 120, 50, 160), 0, "Bkg"),
    ],
)
def test_find_errors__each_kind(box, label, kind) -> None:
    truth = make_record([TRUTH[0]], [0])
    errors = find_errors(make_record([box], [label], [0.9]), truth)
    missed = [ObjectError("Miss", 0)] if kind in ("Both", "Bkg") else []
    assert errors == [ObjectError(kind, 0), *missed]


def test_find_errors__duplicates_and_misses() -> None:
    truth = make_record(TRUTH[:2], [0, 0])
    prediction = make_record([(12, 10, 52, 50), TRUTH[0]], [0, 0], [0.6, 0.9])
    assert find_errors(prediction, truth) == [ObjectError("Dupe", 0), ObjectError("Miss", 1)]
    assert find_errors(truth, truth) == []


def test_find_errors__crowds() -> None:
    truth = make_record([(0, 0, 100, 100)], [0], crowd=[1])
    assert find_errors(make_record([(10, 10, 50, 50)], [0], [0.9]), truth) == []
    assert find_errors(make_record([(10, 10, 50, 50)], [1], [0.9]), truth) == [ObjectError("Bkg", 0)]
    assert find_errors(make_record([], []), truth) == []


def test_tables__cost_of_a_missed_object() -> None:
    errors = TideErrors(NAMES[:1])
    prediction = Detections.from_arrays([TRUTH[0]], [0], NAMES[:1], SIZE, scores=[0.9])
    errors.update(prediction, Detections.from_arrays(TRUTH[:2], [0, 0], NAMES[:1], SIZE), None, "x")
    (title,) = errors.tables()
    rows = errors.tables()[title]
    # One of two objects is detected: precision is 1 up to a recall of 0.5, at 51 of 101 points.
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
    for side_boxes, labels, scores in sides:
        more = {"masks": tuple(map(make_mask, side_boxes))} if masks else {}
        kind = Instances if masks else Detections
        records.append(kind.from_arrays(side_boxes, labels, NAMES, SIZE, scores=scores, **more))
    return records[0], records[1]


def make_mask(box: np.ndarray) -> dict:
    x1, y1, x2, y2 = box.astype(int)
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    mask[y1 : (y1 + y2) // 2, x1 : (x1 + x2) // 2] = False
    return encode(mask)


@pytest.mark.parity
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_counts__equal_hotcoco(iou_type: str) -> None:
    errors = TideErrors(NAMES, iou_type)
    for seed in range(40):
        errors.update(*random_pair(seed, iou_type == "segm"), None, str(seed))
    reference = errors.precision.tide()["counts"]
    assert {kind: errors.counts[kind] for kind in KINDS} == reference and min(reference.values()) > 0


def test_draw__only_errors() -> None:
    truth = make_record(TRUTH[:2], [0, 0])
    prediction = make_record([TRUTH[0]], [0], [0.9])
    canvas = np.zeros((*SIZE, 3), np.uint8)
    drawn, _ = TideErrors(NAMES).draw(prediction, truth, canvas)
    assert drawn[10:50, 100].any() and not drawn[12:50, 10:50].any()


# tidecv's conventions


def test_tidecv__predicted_class_without_truth_counts_as_zero() -> None:
    costs = TidecvCosts()
    costs.update(make_record([TRUTH[0], TRUTH[2]], [0, 1], [0.9, 0.8]), make_record([TRUTH[0]], [0]))
    result = costs.compute()
    # AP 1 of class a and 0 of class b. Without the background error only class a is left.
    assert result["ap_base"] == pytest.approx(0.5) and result["delta_ap"]["Bkg"] == pytest.approx(0.5)
    assert result["counts"] == {**dict.fromkeys(KINDS, 0), "Bkg": 1}


def test_tidecv__crowd_overlap_must_exceed_the_threshold() -> None:
    truth = make_record([TRUTH[0], (200, 0, 240, 100)], [0, 0], crowd=[0, 1])
    # The second prediction has half of its area inside the crowd region, the third one all of it.
    boxes = [TRUTH[0], (220, 0, 260, 100), (200, 0, 240, 50)]
    for rows, expected in (((0, 1), 1), ((0, 2), 0)):
        costs = TidecvCosts()
        costs.update(make_record([boxes[row] for row in rows], [0, 0], [0.8, 0.9]), truth)
        result = costs.compute()
        assert result["ap_base"] == pytest.approx(0.5 if expected else 1) and result["counts"]["Bkg"] == 1


def test_tables__tidecv_convention() -> None:
    errors = TideErrors(NAMES, convention="tidecv")
    prediction = make_record([TRUTH[0], TRUTH[2]], [0, 1], [0.9, 0.8])
    errors.update(prediction, make_record([TRUTH[0]], [0]), None, "x")
    ((title, rows),) = errors.tables().items()
    assert "tidecv" in title and rows[KINDS["Bkg"]]["cost in AP50"] == pytest.approx(0.5)


@pytest.mark.parity
@pytest.mark.parametrize("seed", range(10))
def test_tidecv__equals_the_toolbox(seed: int) -> None:
    tidecv = pytest.importorskip("tidecv")
    from tidecv.quantify import TIDERun

    rng, costs = np.random.default_rng(seed), TidecvCosts()
    truths, predictions = tidecv.Data("truths"), tidecv.Data("predictions")
    for image in range(10):
        prediction, truth = random_pair(100 * seed + image, masks=False)
        crowd = rng.random(len(truth)) < 0.2
        truth = make_record(truth.boxes, truth.labels, crowd=crowd)
        costs.update(prediction, truth)
        truths.add_image(image, str(image))
        for entry, is_crowd in zip(truth.to_coco(image), crowd):
            add = truths.add_ignore_region if is_crowd else truths.add_ground_truth
            add(image, entry["category_id"], entry["bbox"])
        for entry in prediction.to_coco(image):
            predictions.add_detection(image, entry["category_id"], entry["score"], entry["bbox"])
    run = TIDERun(truths, predictions, 0.5, 0.1, tidecv.TIDE.BOX, 100)
    expected = {error.short_name: value / 100 for error, value in run.fix_main_errors().items()}
    special = {error.short_name: value / 100 for error, value in run.fix_special_errors().items()}
    result = costs.compute()
    assert result["ap_base"] == pytest.approx(run.ap / 100)
    assert result["counts"] == {error.short_name: count for error, count in run.count_errors().items()}
    assert result["delta_ap"] == pytest.approx({**expected, "FP": special["FalsePos"], "FN": special["FalseNeg"]})
