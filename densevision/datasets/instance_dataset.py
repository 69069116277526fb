"""Images with instance masks and keypoints; masks are rasterized when a sample is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from densevision.datasets.box_dataset import BoxDataset, SceneBoxDataset
from densevision.datasets.scenes import Scene
from densevision.io.box_table import BoxTable
from densevision.io.image_cache import ImageCache
from densevision.io.segmentations import Segmentations
from densevision.ops.masks import compute_areas, encode
from densevision.ops.skeleton import Skeleton
from densevision.results import Instances

__all__ = ["InstanceDataset", "InstanceTable", "SceneInstanceDataset", "select_objects", "take_first_images"]

OBJECT_COLUMNS = ("boxes", "labels", "crowd", "areas", "origin")
"""The columns of a table with one row per object."""


@dataclass(frozen=True, eq=False)
class InstanceTable:
    """The ground truth of an instance dataset.

    Attributes:
        boxes: Boxes, classes and images.
        masks: One per box; None if masks are not read.
        keypoints: (M, K, 3) x, y, visibility; None if keypoints are not read.
        skeleton: Names and edges of the keypoints.
    """

    boxes: BoxTable
    masks: Segmentations | None = None
    keypoints: np.ndarray | None = None
    skeleton: Skeleton | None = None

    def select(self, keep: np.ndarray) -> InstanceTable:
        """Selects the objects of `keep`, (M,) bool; `masks` must be selected already."""
        keypoints = None if self.keypoints is None else self.keypoints[keep]
        return replace(self, boxes=select_objects(self.boxes, keep), keypoints=keypoints)


class InstanceDataset(BoxDataset):
    """An instance dataset on disk. Workers share its arrays; reading a sample has no side effects.

    Args:
        table: The ground truth.
        folder, channels, max_pixels, notes, cache: As of `BoxDataset`.
    """

    def __init__(
        self,
        table: InstanceTable,
        folder: str | os.PathLike[str],
        channels: int,
        max_pixels: int,
        notes: Sequence[str] = (),
        cache: ImageCache | None = None,
    ):
        super().__init__(table.boxes, folder, channels, max_pixels, notes, cache)
        self.objects = table

    def truth(self, index: int) -> Instances:
        """Returns the objects of an image without reading it."""
        detections = super().truth(index)
        rows = range(int(self.table.offsets[index]), int(self.table.offsets[index + 1]))
        masks, keypoints = self.objects.masks, self.objects.keypoints
        return Instances(
            boxes=detections.boxes,
            scores=detections.scores,
            labels=detections.labels,
            names=detections.names,
            category_ids=detections.category_ids,
            crowd=detections.crowd,
            areas=detections.areas,
            size=detections.size,
            source=detections.source,
            masks=None if masks is None else tuple(masks.mask(row, detections.size) for row in rows),
            keypoints=None if keypoints is None else keypoints[rows.start : rows.stop].copy(),
            skeleton=self.objects.skeleton,
        )


class SceneInstanceDataset(SceneBoxDataset):
    """The objects of procedural scenes with their visible parts as masks."""

    def truth(self, scene: Scene, labels: np.ndarray, keep: np.ndarray, image: np.ndarray) -> Instances:
        """Returns the objects selected by `keep`, (M,) bool, with their masks."""
        masks = tuple(encode(mask) for mask in scene.masks[keep])
        return Instances.from_arrays(
            scene.boxes[keep],
            labels[keep],
            self.names,
            scene.size,
            category_ids=self.ids,
            source=image,
            masks=masks,
            areas=compute_areas(masks),
        )


def take_first_images(table: BoxTable, count: int) -> BoxTable:
    """Returns the table of the first `count` images."""
    rows = slice(0, int(table.offsets[: count + 1][-1]))
    columns = {name: getattr(table, name)[rows] for name in OBJECT_COLUMNS}
    return replace(
        table,
        files=table.files.take(np.arange(len(table))[:count]),
        sizes=table.sizes[:count],
        image_ids=table.image_ids[:count],
        offsets=table.offsets[: count + 1],
        orientations=None if table.orientations is None else table.orientations[:count],
        **columns,
    )


def select_objects(table: BoxTable, keep: np.ndarray) -> BoxTable:
    """Returns the table with the objects of `keep`, (M,) bool; all images stay."""
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    columns = {name: getattr(table, name)[keep] for name in OBJECT_COLUMNS}
    return replace(table, offsets=kept_before[table.offsets], **columns)
