"""Batches are independent of workers, and processes share an epoch without overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from densevision.inference.loader import EpochBatchSampler, make_training_loader
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.task import Detection


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5))
def test_epoch_batches__processes_share_without_overlap(length: int, batch: int, world: int, epoch: int) -> None:
    shares = []
    for rank in range(world):
        batches = EpochBatchSampler(length, batch, 3, rank, world)
        batches.set_epoch(epoch)
        listed = list(batches)
        assert len(listed) == len(batches) and all(0 < len(keys) <= batch for keys in listed)
        shares.append([key.sample_index for keys in listed for key in keys])
        assert all(key.epoch == epoch for keys in listed for key in keys)
    together = [index for share in shares for index in share]
    if length >= batch * world:
        assert len(set(together)) == len(together)


def test_epoch_batches__epochs_differ_and_repeat() -> None:
    batches = EpochBatchSampler(50, 5, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        orders.append([[key.sample_index for key in keys] for keys in batches])
    assert orders[0] == orders[2] != orders[1]


def test_epoch_batches__two_processes_cover_the_batches_of_one() -> None:
    single = EpochBatchSampler(40, 8, seed=2)
    pair = [EpochBatchSampler(40, 4, seed=2, rank=rank, world_size=2) for rank in range(2)]
    for all_keys, first, second in zip(single, *pair):
        assert sorted(all_keys) == sorted([*first, *second])


@pytest.mark.parametrize("length", [1, 3])
def test_epoch_batches__keeps_small_datasets(length: int) -> None:
    (keys,) = list(EpochBatchSampler(length, 8, seed=0))
    assert sorted(key.sample_index for key in keys) == list(range(length))


def test_sample_key__seeds_differ() -> None:
    draws = [np.random.default_rng((0, epoch, index)).random() for epoch in range(3) for index in range(3)]
    assert len(set(draws)) == 9


def test_make_training_loader__leaves_the_global_generator_only() -> None:
    settings = {"arch": "yolo_n", "data.path": "scenes:4:0", "data.size": 64, "train.batch": 2}
    task = Detection(Detection.infer_from_data(DetectionConfig.resolve(None, settings)))
    loader = make_training_loader(task, task.open_dataset("train"), 0)
    before = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)
