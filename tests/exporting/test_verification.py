"""Differences between the outputs of two runtimes, on outputs whose difference is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from densevision.exporting.verification import (
    TRIAL_SIZES,
    OutputComparison,
    Tolerance,
    make_trial_samples,
    split_batches,
)
from densevision.ops.nms import batched_nms
from densevision.sample import InputSpec, prepare_inputs

EXACT = Tolerance(outlier_fraction=0.0)


def compare(outputs: dict, others: dict, tolerance: Tolerance = EXACT, **options) -> dict[str, float]:
    comparison = OutputComparison(tolerance, **options)
    comparison.add(outputs, others)
    return comparison.compute_differences()


def make_boxes(rows: int = 8, shift: float = 0.0) -> dict[str, Tensor]:
    corners = torch.arange(rows * 4.0).reshape(1, rows, 4) * 10 + shift
    return {"boxes": corners, "labels": torch.arange(rows)[None] % 3, "valid": torch.ones(1, rows, dtype=torch.bool)}


def test_comparison__floats_differ_by_the_largest_absolute_difference():
    outputs = torch.tensor([[1.0, -2.0, math.inf, math.nan]])
    others = torch.tensor([[1.5, -2.0, math.inf, math.nan]])
    assert compare({"depth": outputs}, {"depth": others}) == {"depth": 0.5}


@pytest.mark.parametrize("others", [[1.0, math.nan], [1.0, math.inf], [1.0, 2.0, 3.0]])
def test_comparison__incomparable_values_differ_infinitely(others):
    assert compare({"depth": torch.tensor([1.0, 2.0])}, {"depth": torch.tensor(others)}) == {"depth": math.inf}


def test_comparison__integers_differ_by_the_unequal_fraction_over_all_batches():
    comparison = OutputComparison(EXACT)
    comparison.add({"labels": torch.tensor([[1, 2, 3]])}, {"labels": torch.tensor([[1, 2, 9]])})
    comparison.add({"labels": torch.tensor([[1]])}, {"labels": torch.tensor([[1]])})
    assert comparison.compute_differences() == {"labels": 0.25}


def test_comparison__order_of_rows_and_invalid_rows_do_not_matter():
    outputs, others = make_boxes(), make_boxes(shift=0.5)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    others = {name: rows[:, order] for name, rows in others.items()}
    for side in (outputs, others):
        side["valid"][0, 5:] = False
    kept = order[:5].tolist()
    outputs["valid"][0] = torch.tensor([row in kept for row in range(8)])
    assert compare(outputs, others) == {"boxes": 0.5, "labels": 0.0}


def test_comparison__missing_row_counts_on_either_side():
    outputs, fewer, empty = make_boxes(), make_boxes(), make_boxes()
    fewer["valid"][0, 3] = False
    assert compare(outputs, fewer)["boxes"] == compare(fewer, outputs)["boxes"] == 40.0
    empty["valid"][:] = False
    assert compare(outputs, empty) == compare(empty, outputs) == {"boxes": math.inf, "labels": math.inf}


def test_comparison__outliers_are_ignored_up_to_their_fraction():
    outputs, others = make_boxes(40), make_boxes(40, shift=1e-3)
    others["valid"][0, 3] = False
    assert compare(outputs, others, Tolerance(outlier_fraction=0.01))["boxes"] > 30
    assert compare(outputs, others, Tolerance(outlier_fraction=0.02))["boxes"] == pytest.approx(1e-3, abs=1e-4)


def test_comparison__knows_empty_outputs():
    comparison, empty = OutputComparison(EXACT), make_boxes()
    empty["valid"][:] = False
    comparison.add(empty, empty)
    assert comparison.is_empty and comparison.compute_differences() == {"boxes": 0.0, "labels": 0.0}
    comparison.add(make_boxes(), make_boxes())
    assert not comparison.is_empty


def detect(logits: Tensor, boxes: Tensor, labels: Tensor, count: int = 60) -> dict[str, Tensor]:
    """The strongest candidates after non-maximum suppression per class."""
    scores, order = logits.sigmoid().sort(descending=True, stable=True)
    boxes, labels = boxes[order], labels[order]
    keep = batched_nms((boxes + labels[:, None] * 1e4)[None], torch.ones(1, len(boxes), dtype=torch.bool), 0.6)[0]
    rows = keep.nonzero()[:count, 0]
    valid = torch.ones(1, len(rows), dtype=torch.bool)
    return {"boxes": boxes[rows][None], "scores": scores[rows][None], "labels": labels[rows][None], "valid": valid}


def make_candidates(seed: int, score_spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Overlapping candidates with nearly equal scores, like those of a barely trained detector."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(400, 2, generator=generator) * 100
    sides = 20 + 10 * torch.rand(400, 2, generator=generator)
    logits = -4.6 + score_spread * torch.randn(400, generator=generator)
    labels = torch.randint(0, 2, (400,), generator=generator)
    return logits, torch.cat([centers - sides / 2, centers + sides / 2], 1), labels


@pytest.mark.parametrize("seed", range(10))
def test_comparison__tied_scores_may_change_the_rows(seed: int):
    logits, boxes, labels = make_candidates(seed, 1e-3)
    noise = 1e-5 * torch.randn(400, generator=torch.Generator().manual_seed(100 + seed))
    differences = compare(
        detect(logits, boxes, labels), detect(logits + noise, boxes + noise[:, None], labels), iou_threshold=0.6
    )
    assert all(difference < 1e-3 for difference in differences.values()), differences


@pytest.mark.parametrize(
    ("fault", "score_spread"),
    [
        ("boxes", 1e-3),
        ("boxes", 1.0),
        ("logits", 1e-3),
        ("logits", 1.0),
        ("labels", 1e-3),
        ("labels", 1.0),
        ("row", 1.0),
    ],
)
def test_comparison__faults_are_detected_despite_ties(fault: str, score_spread: float):
    logits, boxes, labels = make_candidates(0, score_spread)
    expected, wrong = detect(logits, boxes, labels), None
    if fault == "boxes":
        wrong = detect(logits, boxes + 0.5, labels)
    elif fault == "logits":
        wrong = detect(logits + 0.2, boxes, labels)
    elif fault == "labels":
        wrong = detect(logits, boxes, 1 - labels)
    else:
        wrong = {name: values.clone() for name, values in expected.items()}
        wrong["boxes"][0, 5] += 40
    assert max(compare(expected, wrong, iou_threshold=0.6).values()) > 1e-3


@pytest.mark.parametrize("prior", [-4.6, -9.2])
def test_comparison__small_scores_must_agree_too(prior: float):
    logits, boxes, labels = make_candidates(0, 1e-2)
    expected = detect(logits + 4.6 + prior, boxes, labels)
    comparison = OutputComparison(iou_threshold=0.6)
    comparison.add(expected, {**expected, "scores": 0.95 * expected["scores"]})
    difference = comparison.compute_differences()["scores"]
    limit = comparison.tolerance.compute_limit(comparison.magnitudes["scores"])
    assert difference > 2 * limit
    assert Tolerance(absolute=1.0, largest_fraction=math.inf).compute_limit(1e-5) == 1.0


def test_make_trial_samples__one_image_per_input_and_a_batch_of_two():
    specs = {"image": InputSpec(multiple_of=8), "next": InputSpec(multiple_of=8, channels=5)}
    groups = list(split_batches(make_trial_samples(specs)))
    assert [len(group) for group in groups] == [2] + [1] * (len(TRIAL_SIZES) - 2)
    inputs, _ = prepare_inputs(groups[0], specs)
    assert inputs["image"].shape == (2, 3, 240, 320) and inputs["next"].shape == (2, 5, 240, 320)
    assert not torch.equal(inputs["image"], inputs["next"][:, :3])
    assert any(side % 2 for group in groups for sample in group for side in sample.size)
