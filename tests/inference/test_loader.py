"""Batches are independent of workers, and processes share an epoch without overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.errors import DataError
from densevision.inference.loader import (
    AugmentedDataset,
    EpochBatchSampler,
    SampleKey,
    make_reading_loader,
    make_training_loader,
)
from densevision.io.image import write_image
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.task import Detection

SMALL = {"arch": "yolo_n", "backbone.name": "test_resnet", "data.size": 64}


@settings(deadline=None)
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
    settings = {**SMALL, "data.path": "scenes:4:0", "train.batch": 2}
    task = Detection(Detection.infer_from_data(DetectionConfig.resolve(None, settings)))
    loader = make_training_loader(task, task.open_dataset("train"), 0)
    before = torch.get_rng_state()
    next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def damaged_folder(tmp_path: Path) -> Path:
    """Six images of YOLO's layout, of which the third is damaged in its middle."""
    rng = np.random.default_rng(0)
    for name in "abcdef":
        write_image(tmp_path / f"images/{name}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    file = tmp_path / "images/c.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    file.write_bytes(content)
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [thing]\n")
    return tmp_path


def open_damaged(folder: Path, policy: str, mosaic: float) -> tuple[Detection, AugmentedDataset]:
    settings = {"data.path": str(folder), "data.on_error": policy, "augment.mosaic": mosaic}
    task = Detection(Detection.infer_from_data(DetectionConfig.resolve(None, {**SMALL, **settings})))
    return task, AugmentedDataset(task, task.open_dataset("train"), 0)


def test_augmented_dataset__damaged_image_stops_under_fail(damaged_folder: Path) -> None:
    task, dataset = open_damaged(damaged_folder, "fail", 0.0)
    with pytest.raises(DataError) as error:
        [dataset[SampleKey(0, index)] for index in range(len(dataset))]
    assert "c.png" in str(error.value.file)
    with pytest.raises(DataError):
        list(make_reading_loader(task.open_dataset("val"), range(6), 0))


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_augmented_dataset__damaged_image_is_replaced(damaged_folder: Path, mosaic: float) -> None:
    _, dataset = open_damaged(damaged_folder, "skip", mosaic)
    keys = [SampleKey(epoch, index) for epoch in range(2) for index in range(6)]
    samples = [dataset[key] for key in keys]
    replaced = [key for key, sample in zip(keys, samples) if sample.damaged]
    assert {Path(name).name for sample in samples for name in sample.damaged} == {"c.png"}
    assert replaced == [SampleKey(0, 2), SampleKey(1, 2)] if not mosaic else len(replaced) > 2
    # A resumed run opens the dataset again and starts in the middle.
    again = open_damaged(damaged_folder, "skip", mosaic)[1]
    for key, sample in zip(keys[7:], samples[7:]):
        np.testing.assert_array_equal(again[key].images["image"], sample.images["image"])
        np.testing.assert_array_equal(again[key].truth.boxes, sample.truth.boxes)


def test_make_training_loader__names_damaged_images(damaged_folder: Path) -> None:
    task, _ = open_damaged(damaged_folder, "fix", 0.0)
    loader = make_training_loader(task, task.open_dataset("train"), 0)
    loader.batch_sampler.set_epoch(0)
    batches = list(loader)
    assert [Path(name).name for batch in batches for name in batch.damaged] == ["c.png"]


def test_make_reading_loader__leaves_damaged_images_out(damaged_folder: Path) -> None:
    task, _ = open_damaged(damaged_folder, "skip", 0.0)
    read = list(make_reading_loader(task.open_dataset("val"), range(6), 0, skip_damaged=True))
    assert [entry.row for entry in read if entry.sample is not None] == [0, 1, 3, 4, 5]
    assert [Path(entry.damaged).name for entry in read if entry.damaged] == ["c.png"]
