"""Datasets of several tasks as one: an image that several of them have is one sample with all its labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import random_affine, warp_sample
from densevision.errors import UsageError
from densevision.ops.view import Size
from densevision.results import JointResult, Result
from densevision.sample import LocatedSamples, Sample, SampleSet
from densevision.tasks.joint.config import JointAugment

__all__ = ["JointSet", "augment_sample"]

FILL = 114 / 255
"""Gray around an augmented image: near the mean of photographs."""


class JointSet:
    """The samples of several tasks. Images of the same file, or the same scene, are one sample.

    Args:
        parts: Name of each task -> its samples.
        proportions: Names of tasks, joined by "+" -> share of the images that are labeled for just these tasks. Every
            image occurs once if None. The number of samples is that of the images.

    Attributes:
        notes: Those of the parts, with the name of the task in front where there are several.

    Raises:
        UsageError: The proportions do not name the sets of tasks that occur.
    """

    def __init__(self, parts: Mapping[str, SampleSet], proportions: Mapping[str, float] | None = None):
        self.parts = dict(parts)
        self.notes: Sequence[str] = tuple(
            f"{name}: {note}" if len(self.parts) > 1 else note
            for name, part in self.parts.items()
            for note in part.notes
        )
        self.rows = _match_images(self.parts)
        pools = self._find_pools()
        self.has_several_pools = len(pools) > 1
        if proportions is None:
            self._pools, counts = [np.arange(len(self.rows))], [len(self.rows)]
        else:
            self._pools, counts = list(pools.values()), _share(len(self.rows), pools, proportions)
        self._bounds = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """The image with its labels of all tasks, as in the first epoch."""
        return self.read(self.locate(index, 0))

    def locate(self, index: int, epoch: int) -> dict[str, int]:
        """The image of a sample in an epoch: its index in the samples of each task that has it.

        With proportions, the images of a set of tasks take turns over the epochs, or occur more than once.
        """
        pool = int(np.searchsorted(self._bounds, index, "right")) - 1
        images, start, count = self._pools[pool], self._bounds[pool], self._bounds[pool + 1] - self._bounds[pool]
        # In an epoch without proportions every image has its own number, whatever the epoch.
        number = index - start + (epoch * count if count != len(images) else 0)
        row = self.rows[images[number % len(images)]]
        return {name: int(number) for name, number in zip(self.parts, row) if number >= 0}

    def read(self, numbers: Mapping[str, int]) -> Sample:
        """Reads an image with its labels.

        Args:
            numbers: Name of each task that has it -> its index there.
        """
        samples = {name: self.parts[name][number] for name, number in numbers.items()}
        first = next(iter(samples.values()))
        target_records = {
            name: _fit_truth(sample, first.size) for name, sample in samples.items() if sample.truth is not None
        }
        return self.join(first, target_records, numbers)

    def join(self, sample: Sample, target_records: Mapping[str, Result], numbers: Mapping[str, int]) -> Sample:
        """The sample with the ground target_records of several tasks.

        Args:
            sample: The image.
            target_records: Name of the task -> its ground truth.
            numbers: As for `read`.
        """
        truth = JointResult(size=sample.size, results=dict(target_records)) if target_records else None
        sample_id = f"{'+'.join(numbers)}/{sample.id}" if self.has_several_pools else sample.id
        return Sample(sample.images, truth, sample_id, sample.file, sample.damaged)

    def _find_pools(self) -> dict[str, np.ndarray]:
        """Names of tasks, joined by "+" -> rows of the images that are labeled for just these."""
        names = list(self.parts)
        is_labeled, inverse = np.unique(self.rows >= 0, axis=0, return_inverse=True)
        pools = {}
        for number, pattern in enumerate(is_labeled):
            name = "+".join(name for name, has_labels in zip(names, pattern) if has_labels)
            pools[name] = np.flatnonzero(inverse.reshape(-1) == number)
        return pools


def augment_sample(config: JointAugment, sample: Sample, rng: np.random.Generator, canvas: Size) -> Sample:
    """Warps a sample and all of its ground target_records onto the canvas, (height, width), and changes its colors."""
    warped = warp_sample(sample, random_affine(config, rng, sample.size, canvas), canvas, FILL)
    return recolor(config, warped, rng)


def _match_images(parts: Mapping[str, SampleSet]) -> np.ndarray:
    """(N, tasks) index of every image in the samples of each task, -1 where a task does not have it."""
    numbers: dict[tuple[str, int], list[int]] = {}
    for column, (name, samples) in enumerate(parts.items()):
        occurrences: Counter[str] = Counter()
        for index in range(len(samples)):
            is_located = len(parts) > 1 and isinstance(samples, LocatedSamples)
            file = os.path.abspath(samples.file(index)) if is_located else f"{name}/{index}"  # type: ignore[attr-defined]
            row = numbers.setdefault((file, occurrences[file]), [-1] * len(parts))
            occurrences[file] += 1
            row[column] = index
    return np.array(list(numbers.values()), np.int64).reshape(-1, len(parts))


def _share(total: int, pools: Mapping[str, np.ndarray], proportions: Mapping[str, float]) -> list[int]:
    """Number of samples of each pool, in proportion; each has at least one."""
    orders = {name: "+".join(sorted(name.split("+"))) for name in (*pools, *proportions)}
    given = {orders[name]: value for name, value in proportions.items()}
    if set(given) != {orders[name] for name in pools}:
        hint = f"Give a share to each of: {', '.join(pools)}."
        raise UsageError("are not those of the images", field="data.proportions", value=dict(proportions), hint=hint)
    shares = np.array([given[orders[name]] for name in pools])
    bounds = np.rint(total * np.cumsum(shares) / shares.sum()).astype(int)
    counts = np.maximum(1, np.diff(bounds, prepend=0))
    counts[counts.argmax()] += total - counts.sum()
    return counts.tolist()


def _fit_truth(sample: Sample, size: Size) -> Result:
    """The ground truth on an image of another size, such as a scene that was rendered larger."""
    assert sample.truth is not None
    if sample.size == size:
        return sample.truth
    (height, width), (rows, columns) = sample.size, size
    return sample.truth.warp(np.array([[columns / width, 0.0, 0.0], [0.0, rows / height, 0.0]]), size)
