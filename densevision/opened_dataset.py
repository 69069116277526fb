"""A dataset to look at: its samples with labels, and a preview in notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import cv2
import numpy as np

from densevision.api import resolve_config
from densevision.draw.contact_sheet import make_contact_sheet
from densevision.io.image import to_display
from densevision.sample import Sample, SampleSet
from densevision.tasks import load_task

__all__ = ["Dataset", "open_dataset"]

PREVIEW_COUNT = 8
PREVIEW_COLUMNS = 4


class Dataset:
    """A split of a dataset as training reads it, before augmentation.

    `len(dataset)`; `dataset[3]`, a `Sample` with `images`, `truth`, `id`, `file`; iteration. Notebooks show a preview.

    Attributes:
        task: Name of the task.
        split: "train" or "val".
        classes: Names of the classes, for tasks that have some.
        notes: Labels that were fixed or skipped: one line per kind, with counts and names.
    """

    def __init__(self, task: str, split: str, samples: SampleSet, classes: tuple[str, ...] | None):
        self.task, self.split, self.classes = task, split, classes
        self.notes = tuple(samples.notes)
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[range(len(self))[index]]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", {len(self.classes)} classes"
        return f"Dataset({self.task}, {self.split}, {len(self)} samples{classes})"

    def preview(self, count: int = PREVIEW_COUNT, *, columns: int = PREVIEW_COLUMNS, width: int = 1200) -> np.ndarray:
        """Draws samples, evenly spaced over the split, with their labels.

        Args:
            count: Number of samples.
            columns: Samples per row.
            width: Width of the drawing in pixels.

        Returns:
            (H, width, 3) uint8 RGB.
        """
        count = min(count, len(self))
        samples = [self[index * len(self) // count] for index in range(count)]
        drawings = [_draw(sample) for sample in samples]
        return make_contact_sheet(drawings, [str(sample.id) for sample in samples], columns, width)

    def _repr_png_(self) -> bytes:
        return cv2.imencode(".png", cv2.cvtColor(self.preview(), cv2.COLOR_RGB2BGR))[1].tobytes()


def open_dataset(
    task: str,
    data: str | os.PathLike[str],
    *,
    split: Literal["train", "val"] = "train",
    overrides: Mapping[str, Any] | None = None,
) -> Dataset:
    """Opens a dataset to look at its samples.

    Args:
        task: A name in `TASKS`.
        data: A dataset, as `train` takes it.
        split: "train" or "val".
        overrides: Dotted names to values of the task's config, e.g. `{"data.on_error": "fix"}`.

    Raises:
        DataError: The dataset cannot be read.
        UsageError: An option is wrong.

    Example:
        >>> dataset = open_dataset("detection", "scenes:20")
        >>> len(dataset), dataset[0].truth.boxes.shape[1]
        (20, 4)
    """
    config = resolve_config(task, data, None, overrides)
    task_class = load_task(task)
    config = task_class.infer_from_data(config)
    return Dataset(task, split, task_class(config).open_dataset(split), getattr(config, "classes", None))


def _draw(sample: Sample) -> np.ndarray:
    canvas = to_display(next(iter(sample.images.values())))
    return canvas if sample.truth is None else sample.truth.overlay(canvas)
