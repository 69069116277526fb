"""One split of a detection dataset on disk, not read yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from densevision.datasets.formats import coco, voc, yolo
from densevision.datasets.object_sources import ObjectSource
from densevision.datasets.splits import SceneSource, select_split
from densevision.io.box_table import BoxTable, ClassList, StringArray
from densevision.io.image_files import ImageSelector
from densevision.io.label_issues import LabelIssues

__all__ = [
    "BoxSource",
    "ClassList",
    "CocoSource",
    "FileBoxSource",
    "ObjectSource",
    "VocSource",
    "YoloSource",
    "build_selector",
]


@dataclass(frozen=True)
class CocoSource:
    """A COCO JSON and its image folder; `part` is "train" or "val" if it must be divided."""

    file: Path
    folder: Path
    part: str | None = None

    def classes(self) -> ClassList:
        """Returns names and category ids."""
        return ClassList(*coco.read_categories(self.file))

    def read(self, issues: LabelIssues, max_pixels: int) -> BoxTable:
        """Reads the table of this split."""
        return coco.read_coco(self.file, self.folder, issues, max_pixels, build_selector(self.part))


@dataclass(frozen=True)
class YoloSource:
    """Image folders and image lists of a YOLO dataset; `part` is "train" or "val" if they must be divided."""

    dataset: yolo.YoloDataset
    entries: tuple[str, ...]
    part: str | None = None

    @property
    def folder(self) -> Path:
        """The folder that file names are relative to."""
        return self.dataset.root

    def classes(self) -> ClassList:
        """Returns names and class numbers."""
        return ClassList(self.dataset.names, self.dataset.ids)

    def read(self, issues: LabelIssues, max_pixels: int) -> BoxTable:
        """Reads the table of this split."""
        return yolo.read_yolo(self.dataset, self.entries, issues, max_pixels, build_selector(self.part))


@dataclass(frozen=True)
class VocSource:
    """An image set of a Pascal VOC dataset, or all its images.

    Attributes:
        folder: The dataset.
        split: Name of a list in ImageSets/Main; None reads every XML.
        part: "train" or "val" if the images must be divided.
        labels, images: The folders of XML files and images, relative to `folder`.
    """

    folder: Path
    split: str | None
    part: str | None = None
    labels: str = voc.LABEL_FOLDER
    images: str | None = None

    def classes(self) -> ClassList:
        """Returns names, with ids that count from 1."""
        names = voc.read_class_names(self.folder, self.labels)
        return ClassList(names, tuple(range(1, len(names) + 1)))

    def read(self, issues: LabelIssues, max_pixels: int) -> BoxTable:
        """Reads the table of this split."""
        folders = self.labels, self.images
        return voc.read_voc(self.folder, self.split, issues, max_pixels, build_selector(self.part), *folders)


FileBoxSource = CocoSource | YoloSource | VocSource | ObjectSource
BoxSource = FileBoxSource | SceneSource


def build_selector(part: str | None) -> ImageSelector | None:
    """Builds a selector of the images of "train" or "val" for a dataset without splits; None selects all images."""
    if part is None:
        return None

    def select(files: StringArray) -> np.ndarray:
        return select_split(files, part)

    return select
