"""Samples to batches: the same batches for any number of workers, and after any resume.

No random state is ever carried along: what chance does to a sample is a function of (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from densevision.sample import Batch, Sample, SampleSet, to_inputs, truth_on_canvas
from densevision.tasks.base import Task

Clock = Callable[[], int]


def first_epoch() -> int:
    """The clock of whoever only looks at the first batches."""
    return 0


class Pick(NamedTuple):
    """One sample of one epoch."""

    epoch: int
    index: int


class Collate:
    """Stacks samples into a Batch: onto the canvas, with truths and targets. Picklable."""

    def __init__(self, task: Task):
        self.task = task

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Samples of any sizes to one batch."""
        inputs, views = to_inputs(samples, self.task.inputs)
        ground_truths = [truth_on_canvas(sample, view) for sample, view in zip(samples, views)]
        targets = self.task.targets(ground_truths)
        if self.task.auxiliary_images:
            targets = targets | to_inputs(samples, self.task.auxiliary_images)[0]
        return Batch(inputs, views, targets, ground_truths, [sample.id for sample in samples])


class TrainingSet(Dataset):
    """A dataset read by `Pick`, augmented by the task with a generator of the pick's own."""

    def __init__(self, task: Task, samples: SampleSet, seed: int):
        self.task, self.samples, self.seed = task, samples, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, pick: Pick) -> Sample:
        rng = np.random.default_rng((self.seed, pick.epoch, pick.index))
        return self.task.augment(self.samples, pick.index, rng, pick.epoch)


class EpochBatches(Sampler):
    """Batches of picks: a fresh permutation each epoch, dealt out over the processes.

    A last batch that is short is left out, unless it is the only one.

    Args:
        length: Samples in the dataset.
        batch: Samples per batch and process.
        seed: The run's seed.
        clock: Tells which epoch it is when an iteration starts.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(self, length: int, batch: int, seed: int, clock: Clock = first_epoch, rank: int = 0, world: int = 1):
        self.length, self.batch, self.seed, self.rank, self.world = length, batch, seed, rank, world
        self.clock = clock

    def __len__(self) -> int:
        return max(1, self.length // (self.batch * self.world))

    def __iter__(self) -> Iterator[list[Pick]]:
        epoch = self.clock()
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        order = np.resize(order, max(len(order), self.world))
        span = self.batch * self.world
        for start in range(0, len(self) * span, span):
            mine = order[start : start + span][self.rank :: self.world]
            yield [Pick(epoch, int(index)) for index in mine]


def training_loader(
    task: Task, samples: SampleSet, workers: int, clock: Clock = first_epoch, rank: int = 0, world: int = 1
) -> DataLoader:
    """The loader of the training split.

    Args:
        task: Augments the samples and makes their targets; its config gives batch and seed.
        samples: The split.
        workers: Processes that read and augment.
        clock: Tells which epoch it is when an iteration starts.
        rank: Number of this process.
        world: Number of processes.
    """
    train = task.config.train
    return DataLoader(
        TrainingSet(task, samples, train.seed),
        batch_sampler=EpochBatches(len(samples), int(train.batch), train.seed, clock, rank, world),
        collate_fn=Collate(task),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
        # Each iteration draws a seed for its workers. Of the global generator it would be missing after a resume, which
        # iterates before the epoch is seeded and not after, and losses that sample would draw other numbers.
        generator=torch.Generator(),
    )


def reading_loader(samples: SampleSet, indices: Sequence[int], workers: int) -> DataLoader:
    """Samples of the given indices one by one, read ahead by the workers."""
    return DataLoader(
        _Chosen(samples, indices), batch_size=None, shuffle=False, num_workers=workers, worker_init_fn=_one_thread
    )


class _Chosen(Dataset):
    def __init__(self, samples: SampleSet, indices: Sequence[int]):
        self.samples, self.indices = samples, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        return self.samples[self.indices[position]]


def _one_thread(_worker: int) -> None:
    """Workers are the parallelism: threads of OpenCV inside them would only compete."""
    import cv2

    cv2.setNumThreads(0)
