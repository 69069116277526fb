"""Samples to batches: the same batches for any number of workers, and after any resume.

No random state is carried along: the augmentation of a sample is a function of (seed, epoch, index). So is what takes
the place of a sample with a damaged image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from densevision.io.decode import CorruptImageError
from densevision.io.remote import RemoteError
from densevision.sample import Batch, Sample, SampleSet, prepare_inputs, warp_ground_truth
from densevision.tasks.base import Task

__all__ = [
    "AugmentedDataset",
    "Collate",
    "EpochBatchSampler",
    "ReadSample",
    "SampleKey",
    "make_reading_loader",
    "make_training_loader",
]


UNREADABLE = (CorruptImageError, RemoteError)
"""Errors of single images: damaged ones, and those whose storage fails."""


class SampleKey(NamedTuple):
    """One sample in one epoch."""

    epoch: int
    sample_index: int


class ReadSample(NamedTuple):
    """One sample that was read, or could not be.

    Attributes:
        row: Its position in the dataset.
        sample: The sample; None if its image is damaged.
        damaged: The damaged file; empty if there is none.
    """

    row: int
    sample: Sample | None
    damaged: str = ""


class Collate:
    """Stacks samples of any sizes into a batch on the network's canvas, with ground truths and targets. Picklable."""

    def __init__(self, task: Task):
        self.task = task

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Stacks the samples."""
        inputs, views = prepare_inputs(samples, self.task.input_spec)
        target_records = [warp_ground_truth(sample, view) for sample, view in zip(samples, views)]
        targets = self.task.collate_targets(target_records)
        if self.task.auxiliary_images:
            targets = targets | prepare_inputs(samples, self.task.auxiliary_images)[0]
        damaged = [name for sample in samples for name in sample.damaged]
        return Batch(inputs, views, targets, target_records, [sample.id for sample in samples], damaged)


class AugmentedDataset(Dataset[Sample]):
    """A dataset read by `SampleKey` and augmented by the task with a random generator of the key's own.

    An image that is damaged in its middle shows when it is decoded, one that cannot be fetched when it is read. Under
    `fix` and `skip`, a sample that needs such an image is replaced by the next one, with other random numbers,
    and `Sample.damaged` names the file.
    """

    def __init__(self, task: Task, samples: SampleSet, seed: int):
        self.task, self.samples, self.seed = task, samples, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey) -> Sample:
        damaged: list[str] = []
        while True:
            attempt = (len(damaged),) if damaged else ()
            rng = np.random.default_rng((self.seed, key.epoch, key.sample_index, *attempt))
            try:
                index = (key.sample_index + len(damaged)) % len(self)
                sample = self.task.augment(self.samples, index, rng, key.epoch)
            except UNREADABLE as failure:
                damaged.append(str(failure.file))
                if self.task.config.data.on_error == "fail" or len(damaged) == len(self):
                    raise
                continue
            return replace(sample, damaged=tuple(damaged)) if damaged else sample


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of sample keys: a new permutation in each epoch, distributed over the processes.

    An incomplete last batch is dropped, unless it is the only one.

    Args:
        length: Samples in the dataset.
        batch_size: Samples per batch and process.
        seed: Seed of the run.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.length, self.batch_size, self.seed, self.rank, self.world_size = length, batch_size, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.length // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        order = np.resize(order, max(len(order), self.world_size))
        step = self.batch_size * self.world_size
        for start in range(0, len(self) * step, step):
            indices = order[start : start + step][self.rank :: self.world_size]
            yield [SampleKey(epoch, int(index)) for index in indices]


def make_training_loader(
    task: Task, samples: SampleSet, workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader[Batch]:
    """Makes the loader of the training split; call `loader.batch_sampler.set_epoch` before each epoch.

    Args:
        task: Augments the samples and makes their targets; its config gives batch size and seed.
        samples: The training split.
        workers: Processes that read and augment.
        rank: Rank of this process.
        world_size: Number of processes.
    """
    train = task.config.train
    return DataLoader(
        AugmentedDataset(task, samples, train.seed),  # type: ignore[arg-type]
        batch_sampler=EpochBatchSampler(len(samples), int(train.batch), train.seed, rank, world_size),
        collate_fn=Collate(task),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_disable_opencv_threads,
        # Each iteration draws a base seed for the workers. Taken from the global generator, it would shift the numbers
        # that sampling losses draw, and differ after a resume.
        generator=torch.Generator(),
    )


class _ReadDataset(Dataset[ReadSample]):
    def __init__(self, samples: SampleSet, skip_damaged: bool):
        self.samples, self.skip_damaged = samples, skip_damaged

    def __getitem__(self, index: int) -> ReadSample:
        try:
            return ReadSample(index, self.samples[index])
        except UNREADABLE as failure:
            if not self.skip_damaged:
                raise
            return ReadSample(index, None, str(failure.file))


def make_reading_loader(
    samples: SampleSet, indices: Sequence[int], workers: int, skip_damaged: bool = False
) -> DataLoader[ReadSample]:
    """Makes a loader of single samples in the order of the indices, read ahead by the workers.

    Args:
        samples: The dataset.
        indices: Which of its samples, in which order.
        workers: Processes that read.
        skip_damaged: Give no sample where an image is damaged; otherwise the error is raised.
    """
    return DataLoader(
        Subset(_ReadDataset(samples, skip_damaged), indices),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        worker_init_fn=_disable_opencv_threads,
    )


def _disable_opencv_threads(_worker: int) -> None:
    """The workers run in parallel already: threads of OpenCV inside them would only compete."""
    import cv2

    cv2.setNumThreads(0)
