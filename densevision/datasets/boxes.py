"""Images with boxes as samples: from files, or from the procedural world."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from densevision.datasets.scenes import CLASSES, Scene, Scenes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.decode import Damaged
from densevision.io.image import read_image, to_channels
from densevision.ops.view import Size
from densevision.results import Detections
from densevision.sample import Sample

CLEANED = "The command `check` of this task decodes every image: its --fix OUT writes a copy without the damaged ones."


class BoxSet:
    """A detection dataset on disk. Reading is pure, so workers may share it; what they share are arrays.

    Opening has looked at every image's header and end. An image that fails only when it is decoded stops the run
    under every policy, because a worker could not count it for the others; the error names what does.

    Args:
        table: The truth.
        folder: Where the table's files start.
        channels: Channels that the network wants.
        max_pixels: Limit of an image.
        notes: What was fixed or left out.
    """

    def __init__(
        self, table: BoxTable, folder: str | os.PathLike[str], channels: int, max_pixels: int, notes: Sequence[str] = ()
    ):
        self.table, self.folder, self.channels, self.max_pixels = table, Path(folder), channels, max_pixels
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        """The image, (H, W, `channels`) as read, with its boxes.

        Raises:
            DataError: The image cannot be read, or has changed since the dataset was opened.
        """
        path = str(self.folder / self.table.files[index])
        truth = self.truth(index)
        try:
            image = to_channels(read_image(path, self.max_pixels), self.channels)
        except Damaged as failure:
            raise Damaged(failure.problem, file=path, hint=f"{failure.hint} {CLEANED}") from None
        except DataError as failure:
            raise failure if failure.file else DataError(failure.problem, file=path, hint=failure.hint) from None
        if image.shape[:2] != truth.size:
            problem = f"the image has changed its size since the dataset was opened, from {truth.size}"
            raise DataError(problem, file=path, value=image.shape[:2])
        return Sample({"image": image}, truth, int(self.table.image_ids[index]), path)

    def size(self, index: int) -> Size:
        """(height, width) of an image, without reading it."""
        height, width = self.table.sizes[index].tolist()
        return height, width

    def truth(self, index: int) -> Detections:
        """The boxes of one image, without reading it."""
        table = self.table
        rows = slice(int(table.offsets[index]), int(table.offsets[index + 1]))
        return Detections.of(
            table.boxes[rows].copy(),
            table.labels[rows],
            table.names,
            self.size(index),
            ids=table.ids,
            crowd=table.crowd[rows].copy(),
            areas=table.areas[rows].copy(),
            source=str(self.folder / table.files[index]),
        )


class SceneBoxes:
    """The boxes of procedural scenes.

    Args:
        scenes: The scenes.
        channels: Channels that the network wants.
        names: Classes that the labels are indices into; things of other classes are left out.
        ids: Category ids of the classes.

    Raises:
        DataError: The scenes show none of the classes.
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
        self.mapping = class_mapping(CLASSES, names)

    def __len__(self) -> int:
        return len(self.scenes)

    def size(self, index: int) -> Size:
        """(height, width) of a scene."""
        return self.scenes.size

    def __getitem__(self, index: int) -> Sample:
        """A scene with its objects."""
        scene = self.scenes[index]
        image = to_channels(scene.image, self.channels)
        labels = self.mapping[scene.labels]
        truth = self.truth(scene, labels, labels >= 0, image)
        return Sample({"image": image}, truth, index, scene.name)

    def truth(self, scene: Scene, labels: np.ndarray, keep: np.ndarray, image: np.ndarray) -> Detections:
        """The boxes of those things that (M,) bool picks."""
        boxes = scene.boxes[keep]
        return Detections.of(boxes, labels[keep], self.names, scene.size, ids=self.ids, source=image)


def with_classes(table: BoxTable, names: tuple[str, ...], ids: tuple[int, ...] | None) -> tuple[BoxTable, int]:
    """The table with its labels as indices into other names, and how many boxes of other classes were left out.

    Args:
        table: A dataset.
        names: The classes that are wanted, some of them at least the dataset's.
        ids: Their category ids; the dataset's own when not given.

    Raises:
        DataError: The dataset has none of the classes.
    """
    if names == table.names:
        return (table if ids is None else replace(table, ids=ids)), 0
    mapping = class_mapping(table.names, names)
    if ids is None:
        own = dict(zip(table.names, table.ids))
        unused = iter(set(range(1, 2 * len(names) + 1)) - set(table.ids))
        ids = tuple(own[name] if name in own else next(unused) for name in names)
    labels = mapping[table.labels]
    keep = labels >= 0
    kept = np.concatenate([[0], np.cumsum(keep)])
    rows = {name: getattr(table, name)[keep] for name in ("boxes", "crowd", "areas", "origin")}
    moved = replace(table, offsets=kept[table.offsets], labels=labels[keep], names=names, ids=ids, **rows)
    return moved, int(len(keep) - kept[-1])


def class_mapping(own: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """(len(own),) int32: the index of each own class among the wanted ones, -1 where it is none of them."""
    index = {name: position for position, name in enumerate(wanted)}
    mapping = np.array([index.get(name, -1) for name in own], np.int32)
    if (mapping < 0).all():
        hint = f"The dataset has: {', '.join(own[:20])}."
        raise DataError("the dataset has none of the wanted classes", field="classes", value=wanted, hint=hint)
    return mapping
