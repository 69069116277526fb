"""Images with boxes as samples: from files, or from procedural scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from densevision.datasets.scenes import CLASSES, Scene, Scenes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.decode import CorruptImageError
from densevision.io.image import convert_channels
from densevision.io.image_cache import ImageCache, read_cached_image
from densevision.ops.view import Size
from densevision.results import Detections
from densevision.sample import Sample, SampleSet

__all__ = [
    "BoxDataset",
    "SceneBoxDataset",
    "SizedSamples",
    "build_class_mapping",
    "read_image_size",
    "remap_classes",
]

DAMAGED_HINT = "`check --fix OUT` of this task decodes every image and writes a copy without the damaged ones."


class BoxDataset:
    """A detection dataset on disk. Workers share its arrays; reading a sample has no side effects.

    The header and the end of every image were checked when the table was built. An image that fails only when it is
    decoded raises; training and evaluation replace it or leave it out if the policy says so.

    Args:
        table: The ground truth.
        folder: The folder of the table's files.
        channels: Channels of the network's input.
        max_pixels: Larger images are refused.
        notes: What was fixed or skipped.
        cache: Keeps decoded images.
    """

    def __init__(
        self,
        table: BoxTable,
        folder: str | os.PathLike[str],
        channels: int,
        max_pixels: int,
        notes: Sequence[str] = (),
        cache: ImageCache | None = None,
    ):
        self.table, self.folder, self.channels, self.max_pixels = table, Path(folder), channels, max_pixels
        self.notes, self.cache = tuple(notes), cache

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        """Reads an image, (H, W, channels), with its boxes.

        Raises:
            DataError: The image cannot be read, or its size has changed since the dataset was opened.
        """
        path = self.file(index)
        truth = self.truth(index)
        try:
            image = convert_channels(read_cached_image(path, self.max_pixels, self.cache), self.channels)
        except CorruptImageError as failure:
            raise CorruptImageError(failure.problem, file=path, hint=f"{failure.hint} {DAMAGED_HINT}") from None
        except DataError as failure:
            raise failure if failure.file else DataError(failure.problem, file=path, hint=failure.hint) from None
        if image.shape[:2] != truth.size:
            problem = f"the size of the image has changed since the dataset was opened, from {truth.size}"
            raise DataError(problem, file=path, value=image.shape[:2])
        return Sample({"image": image}, truth, int(self.table.image_ids[index]), path)

    def file(self, index: int) -> str:
        """Returns the file of an image."""
        return str(self.folder / self.table.files[index])

    def size(self, index: int) -> Size:
        """Returns the (height, width) of an image without reading it."""
        height, width = self.table.sizes[index].tolist()
        return height, width

    def truth(self, index: int) -> Detections:
        """Returns the boxes of an image without reading it."""
        table = self.table
        rows = slice(int(table.offsets[index]), int(table.offsets[index + 1]))
        return Detections.from_arrays(
            table.boxes[rows].copy(),
            table.labels[rows],
            table.names,
            self.size(index),
            category_ids=table.ids,
            crowd=table.crowd[rows].copy(),
            areas=table.areas[rows].copy(),
            source=self.file(index),
        )


class SceneBoxDataset:
    """The boxes of procedural scenes.

    Args:
        scenes: The scenes.
        channels: Channels of the network's input.
        names: Classes that labels are indices into; objects of other classes are skipped.
        ids: Category ids of the classes.

    Raises:
        DataError: The scenes have none of the classes.
    """

    notes: Sequence[str] = ()

    def __init__(
        self,
        scenes: Scenes,
        channels: int = 3,
        names: tuple[str, ...] = CLASSES,
        ids: tuple[int, ...] | None = None,
    ):
        self.scenes, self.channels, self.names, self.ids = scenes, channels, names, ids
        self.mapping = build_class_mapping(CLASSES, names)

    def __len__(self) -> int:
        return len(self.scenes)

    def file(self, index: int) -> str:
        """Returns the name of a scene without rendering it."""
        return self.scenes.name(index)

    def size(self, index: int) -> Size:
        """Returns the (height, width) of a scene."""
        return self.scenes.size

    def __getitem__(self, index: int) -> Sample:
        """Renders a scene with its objects."""
        scene = self.scenes[index]
        image = convert_channels(scene.image, self.channels)
        labels = self.mapping[scene.labels]
        truth = self.truth(scene, labels, labels >= 0, image)
        return Sample({"image": image}, truth, index, scene.name)

    def truth(self, scene: Scene, labels: np.ndarray, keep: np.ndarray, image: np.ndarray) -> Detections:
        """Returns the boxes of the objects selected by `keep`, (M,) bool."""
        boxes = scene.boxes[keep]
        return Detections.from_arrays(boxes, labels[keep], self.names, scene.size, category_ids=self.ids, source=image)


@runtime_checkable
class SizedSamples(Protocol):
    """A dataset that knows the sizes of its images without reading them."""

    def size(self, index: int) -> Size:
        """Returns the (height, width) of an image."""


def read_image_size(dataset: SampleSet, index: int) -> Size:
    """The (height, width) of an image, which is read only if the dataset does not know sizes by itself."""
    return dataset.size(index) if isinstance(dataset, SizedSamples) else dataset[index].size


def remap_classes(table: BoxTable, names: tuple[str, ...], ids: tuple[int, ...] | None) -> tuple[BoxTable, int]:
    """Maps the labels of a table to indices into other class names.

    Args:
        table: A dataset.
        names: The requested classes, at least one of them in the dataset.
        ids: Their category ids; those of the dataset by default.

    Returns:
        The table, and how many boxes of other classes were removed.

    Raises:
        DataError: The dataset has none of the classes.
    """
    if names == table.names:
        return (table if ids is None else replace(table, ids=ids)), 0
    mapping = build_class_mapping(table.names, names)
    if ids is None:
        dataset_ids = dict(zip(table.names, table.ids))
        unused_ids = iter(set(range(1, 2 * len(names) + 1)) - set(table.ids))
        ids = tuple(dataset_ids[name] if name in dataset_ids else next(unused_ids) for name in names)
    labels = mapping[table.labels]
    keep = labels >= 0
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    rows = {name: getattr(table, name)[keep] for name in ("boxes", "crowd", "areas", "origin")}
    remapped = replace(table, offsets=kept_before[table.offsets], labels=labels[keep], names=names, ids=ids, **rows)
    return remapped, int(len(keep) - kept_before[-1])


def build_class_mapping(dataset_names: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Maps the classes of a dataset to requested ones.

    Returns:
        (len(dataset_names),) int32: index into `names`, -1 for classes that are not requested.

    Raises:
        DataError: None of the requested classes is in the dataset.
    """
    index = {name: position for position, name in enumerate(names)}
    mapping = np.array([index.get(name, -1) for name in dataset_names], np.int32)
    if (mapping < 0).all():
        hint = f"The dataset has: {', '.join(dataset_names[:20])}."
        raise DataError("the dataset has none of the requested classes", field="classes", value=names, hint=hint)
    return mapping
