"""Differences between two runtimes' answers, on answers whose difference is known."""

from __future__ import annotations

import math

import pytest
import torch

from densevision.export.verification import SIZES, Comparison, batches, trial_samples
from densevision.sample import InputSpec, to_inputs


def compared(ours: dict, theirs: dict, strays: float = 0.0) -> dict[str, float]:
    comparison = Comparison(strays)
    comparison.add(ours, theirs)
    return comparison.differences()


def boxes(rows: int = 8, shift: float = 0.0) -> dict[str, torch.Tensor]:
    corners = torch.arange(rows * 4.0).reshape(1, rows, 4) * 10 + shift
    return {"boxes": corners, "labels": torch.arange(rows)[None] % 3, "valid": torch.ones(1, rows, dtype=torch.bool)}


def test_comparison__floats_differ_by_the_largest_absolute_difference():
    ours = torch.tensor([[1.0, -2.0, math.inf, math.nan]])
    theirs = torch.tensor([[1.5, -2.0, math.inf, math.nan]])
    assert compared({"depth": ours}, {"depth": theirs}) == {"depth": 0.5}


@pytest.mark.parametrize("theirs", [[1.0, math.nan], [1.0, math.inf], [1.0, 2.0, 3.0]])
def test_comparison__what_cannot_be_subtracted_differs_infinitely(theirs):
    assert compared({"depth": torch.tensor([1.0, 2.0])}, {"depth": torch.tensor(theirs)}) == {"depth": math.inf}


def test_comparison__integers_differ_by_the_share_that_is_unequal_over_all_batches():
    comparison = Comparison(0.0)
    comparison.add({"labels": torch.tensor([[1, 2, 3]])}, {"labels": torch.tensor([[1, 2, 9]])})
    comparison.add({"labels": torch.tensor([[1]])}, {"labels": torch.tensor([[1]])})
    assert comparison.differences() == {"labels": 0.25}


def test_comparison__rows_may_stand_in_any_order_and_those_not_valid_say_nothing():
    ours, theirs = boxes(), boxes(shift=0.5)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    theirs = {name: rows[:, order] for name, rows in theirs.items()}
    for side in (ours, theirs):
        side["valid"][0, 5:] = False
    last = order[:5].tolist()
    ours["valid"][0] = torch.tensor([row in last for row in range(8)])
    assert compared(ours, theirs) == {"boxes": 0.5, "labels": 0.0}


def test_comparison__a_row_that_one_side_lacks_is_found_on_either_side():
    whole, fewer = boxes(), boxes()
    fewer["valid"][0, 3] = False
    assert compared(whole, fewer)["boxes"] == compared(fewer, whole)["boxes"] == 40.0
    nothing = boxes()
    nothing["valid"][:] = False
    assert compared(whole, nothing) == compared(nothing, whole) == {"boxes": math.inf, "labels": math.inf}


def test_comparison__strays_are_left_out_up_to_their_share():
    whole, fewer = boxes(40), boxes(40, shift=1e-3)
    fewer["valid"][0, 3] = False
    assert compared(whole, fewer, strays=0.01)["boxes"] > 30
    assert compared(whole, fewer, strays=0.02)["boxes"] == pytest.approx(1e-3, abs=1e-4)


def test_comparison__knows_when_there_was_nothing_to_compare():
    comparison = Comparison(0.0)
    nothing = boxes()
    nothing["valid"][:] = False
    comparison.add(nothing, nothing)
    assert comparison.empty and comparison.differences() == {"boxes": 0.0, "labels": 0.0}
    comparison.add(boxes(), boxes())
    assert not comparison.empty


def test_trial_samples__give_each_input_its_own_image_and_the_first_two_a_batch():
    specs = {"image": InputSpec(multiple_of=8), "next": InputSpec(multiple_of=8, channels=5)}
    groups = list(batches(trial_samples(specs)))
    assert [len(group) for group in groups] == [2] + [1] * (len(SIZES) - 2)
    inputs, _ = to_inputs(groups[0], specs)
    assert inputs["image"].shape == (2, 3, 240, 320) and inputs["next"].shape == (2, 5, 240, 320)
    assert not torch.equal(inputs["image"], inputs["next"][:, :3])
    assert any(side % 2 for group in groups for sample in group for side in sample.size)
