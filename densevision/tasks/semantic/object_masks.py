"""Class maps drawn from objects, in every format that the task instance reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densevision.datasets.box_sources import FileBoxSource
from densevision.datasets.format_detection import detect_format
from densevision.datasets.formats.coco_masks import BACKGROUND
from densevision.datasets.instance_dataset import InstanceTable
from densevision.datasets.instance_sources import read_instance_table
from densevision.io.label_issues import LabelIssues
from densevision.ops.masks import decode

__all__ = ["ObjectMaskSource", "ObjectMasks", "detect_object_format"]


@dataclass(frozen=True, eq=False)
class ObjectMasks:
    """The class maps of one split.

    Attributes:
        file: The dataset's file or folder, for messages.
        folder: The folder that image names are relative to.
        names: The background, then the classes of the objects.
        table: The objects.
        stuff: Names of the classes that are not objects.
    """

    file: Path
    folder: Path
    names: tuple[str, ...]
    table: InstanceTable
    stuff: tuple[str, ...] = (BACKGROUND,)

    @property
    def images(self) -> tuple[str, ...]:
        """File names of the images."""
        return tuple(self.table.boxes.files)

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """Draws the objects of an image; small ones on top of large ones, all on top of crowds.

        Args:
            index: Number of the image.
            size: (height, width) of the image.
            multilabel: Return sets of classes, because objects may overlap.

        Returns:
            (H, W) uint8 indices into `names`; with `multilabel` uint16 sets of `names[1:]`.
        """
        boxes, masks = self.table.boxes, self.table.masks
        assert masks is not None
        rows = range(int(boxes.offsets[index]), int(boxes.offsets[index + 1]))
        labels = np.zeros(size, np.uint16 if multilabel else np.uint8)
        for row in sorted(rows, key=lambda row: (not boxes.crowd[row], -float(boxes.areas[row]))):
            mask, label = decode(masks.mask(row, size)).astype(bool), int(boxes.labels[row])
            if multilabel:
                labels[mask] |= np.uint16(1 << label)
            else:
                labels[mask] = label + 1
        return labels


@dataclass(frozen=True)
class ObjectMaskSource:
    """One split of a dataset of objects, not read yet."""

    source: FileBoxSource

    def names(self) -> tuple[str, ...]:
        """The background, then the classes of the objects."""
        return (BACKGROUND, *self.source.classes().names)

    def read(self, issues: LabelIssues, max_pixels: int) -> ObjectMasks:
        """Reads the objects.

        Raises:
            DataError: The format holds no masks, or a label is invalid under `on_error: fail`.
        """
        source, names = self.source, self.names()
        table = read_instance_table(source, source.read(issues, max_pixels), True, None, issues)
        file = getattr(source, "file", source.folder)
        return ObjectMasks(Path(file), Path(source.folder), names, table)


def detect_object_format(path: str, train: str | None = None, val: str | None = None) -> dict[str, ObjectMaskSource]:
    """Detects the splits of a dataset of objects; see `datasets.format_detection.detect_format`."""
    return {
        split: ObjectMaskSource(source)  # type: ignore[arg-type]
        for split, source in detect_format(path, train, val).splits.items()
    }
