"""Batches do not depend on workers, and processes share an epoch without overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from densevision.inference.loader import EpochBatches, training_loader
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.task import Detection


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5))
def test_epoch_batches__processes_share_without_overlap(length: int, batch: int, world: int, epoch: int) -> None:
    shares = []
    for rank in range(world):
        batches = EpochBatches(length, batch, 3, lambda: epoch, rank, world)
        listed = list(batches)
        assert len(listed) == len(batches) and all(0 < len(picks) <= batch for picks in listed)
        shares.append([pick.index for picks in listed for pick in picks])
        assert all(pick.epoch == epoch for picks in listed for pick in picks)
    together = [index for share in shares for index in share]
    if length >= batch * world:
        assert len(set(together)) == len(together)


def test_epoch_batches__epochs_differ_and_repeat() -> None:
    epochs = iter([0, 1, 0])
    batches = EpochBatches(50, 5, seed=1, clock=lambda: next(epochs))
    first, second, again = list(batches), list(batches), list(batches)
    assert again == first and first != second


def test_epoch_batches__two_processes_see_what_one_sees() -> None:
    alone = EpochBatches(40, 8, seed=2)
    pair = [EpochBatches(40, 4, seed=2, rank=rank, world=2) for rank in range(2)]
    for whole, one, other in zip(alone, *pair):
        assert sorted(whole) == sorted([*one, *other])


@pytest.mark.parametrize("length", [1, 3])
def test_epoch_batches__small_sets_are_not_lost(length: int) -> None:
    (picks,) = list(EpochBatches(length, 8, seed=0))
    assert sorted(pick.index for pick in picks) == list(range(length))


def test_pick__generator_is_a_function_of_the_pick() -> None:
    draws = [np.random.default_rng((0, epoch, index)).random() for epoch in range(3) for index in range(3)]
    assert len(set(draws)) == 9


def test_training_loader__draws_nothing_of_the_global_generator() -> None:
    settings = {"preset": "nano", "data.path": "scenes:4:0", "data.size": 64, "train.batch": 2}
    task = Detection(Detection.infer_from_data(DetectionConfig.resolve(None, settings)))
    loader = training_loader(task, task.dataset("train"), 0)
    before = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)
