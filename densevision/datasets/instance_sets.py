"""Images with masks and keypoints, each drawn when its image is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from densevision.datasets.boxes import BoxSet, SceneBoxes
from densevision.datasets.scenes import Scene
from densevision.io.box_table import BoxTable
from densevision.io.segmentations import Segmentations
from densevision.ops.masks import areas, encode
from densevision.ops.skeleton import Skeleton
from densevision.results import Instances

ROWS = ("boxes", "labels", "crowd", "areas", "origin")
"""The columns of a table with one row per object."""


@dataclass(frozen=True, eq=False)
class InstanceTable:
    """The truth of a dataset of objects.

    Attributes:
        boxes: Boxes, classes and images.
        masks: One for each box; None where the task has no masks.
        keypoints: (M, K, 3) x, y, visibility; None where the task has no keypoints.
        skeleton: What the keypoints are.
    """

    boxes: BoxTable
    masks: Segmentations | None = None
    keypoints: np.ndarray | None = None
    skeleton: Skeleton | None = None

    def kept(self, keep: np.ndarray) -> InstanceTable:
        """Only the objects that (M,) bool picks; masks are taken to be picked already."""
        points = None if self.keypoints is None else self.keypoints[keep]
        return replace(self, boxes=kept_rows(self.boxes, keep), keypoints=points)


class InstanceSet(BoxSet):
    """A dataset on disk. Reading is pure, so workers may share it; what they share are arrays.

    Args:
        table: The truth.
        folder: Where the table's files start.
        channels: Channels that the network wants.
        max_pixels: Limit of an image.
        notes: What was fixed or left out.
    """

    def __init__(
        self,
        table: InstanceTable,
        folder: str | os.PathLike[str],
        channels: int,
        max_pixels: int,
        notes: Sequence[str] = (),
    ):
        super().__init__(table.boxes, folder, channels, max_pixels, notes)
        self.objects = table

    def truth(self, index: int) -> Instances:
        """The objects of one image, without reading it."""
        found = super().truth(index)
        rows = range(int(self.table.offsets[index]), int(self.table.offsets[index + 1]))
        masks, points = self.objects.masks, self.objects.keypoints
        return Instances(
            boxes=found.boxes,
            scores=found.scores,
            labels=found.labels,
            names=found.names,
            ids=found.ids,
            crowd=found.crowd,
            areas=found.areas,
            size=found.size,
            source=found.source,
            masks=None if masks is None else tuple(masks.mask(row, found.size) for row in rows),
            keypoints=None if points is None else points[rows.start : rows.stop].copy(),
            skeleton=self.objects.skeleton,
        )


class SceneInstances(SceneBoxes):
    """The objects of procedural scenes, with the parts of them that are seen."""

    def truth(self, scene: Scene, labels: np.ndarray, keep: np.ndarray, image: np.ndarray) -> Instances:
        """The things that (M,) bool picks, with their masks."""
        masks = tuple(encode(mask) for mask in scene.masks[keep])
        return Instances.of(
            scene.boxes[keep],
            labels[keep],
            self.names,
            scene.size,
            ids=self.ids,
            source=image,
            masks=masks,
            areas=areas(masks),
        )


def first_images(table: BoxTable, count: int) -> BoxTable:
    """The table of the first images only."""
    rows = slice(0, int(table.offsets[: count + 1][-1]))
    columns = {name: getattr(table, name)[rows] for name in ROWS}
    return replace(
        table,
        files=table.files.take(np.arange(len(table))[:count]),
        sizes=table.sizes[:count],
        image_ids=table.image_ids[:count],
        offsets=table.offsets[: count + 1],
        **columns,
    )


def kept_rows(table: BoxTable, keep: np.ndarray) -> BoxTable:
    """The table with only the boxes that (M,) bool picks; its images stay."""
    kept = np.concatenate([[0], np.cumsum(keep)])
    rows = {name: getattr(table, name)[keep] for name in ROWS}
    return replace(table, offsets=kept[table.offsets], **rows)
