"""One split of a detection dataset as it lies on disk, not yet read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from densevision.datasets.formats import coco, voc, yolo
from densevision.datasets.scene_splits import SceneSource
from densevision.io.box_table import BoxTable, Strings
from densevision.io.image_files import Choose, held_out
from densevision.io.label_issues import Findings


class Classes(NamedTuple):
    """Class names, and the dataset's category id of each."""

    names: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class CocoSource:
    """A COCO json and its folder of images; `part` is "train" or "val" where it must be divided."""

    file: Path
    folder: Path
    part: str | None = None

    def classes(self) -> Classes:
        """Names and category ids."""
        return Classes(*coco.read_classes(self.file))

    def read(self, findings: Findings, max_pixels: int) -> BoxTable:
        """The table of this split."""
        return coco.read_coco(self.file, self.folder, findings, max_pixels, chooser(self.part))


@dataclass(frozen=True)
class YoloSource:
    """Folders and lists of images of a YOLO dataset."""

    dataset: yolo.YoloDataset
    entries: tuple[str, ...]
    part: str | None = None

    @property
    def folder(self) -> Path:
        """Where file names start."""
        return self.dataset.root

    def classes(self) -> Classes:
        """Names and class numbers."""
        return Classes(self.dataset.names, self.dataset.ids)

    def read(self, findings: Findings, max_pixels: int) -> BoxTable:
        """The table of this split."""
        return yolo.read_yolo(self.dataset, self.entries, findings, max_pixels, chooser(self.part))


@dataclass(frozen=True)
class VocSource:
    """A list of a Pascal VOC dataset, or all of it."""

    folder: Path
    split: str | None
    part: str | None = None

    def classes(self) -> Classes:
        """Names, numbered from 1."""
        names = voc.class_names(self.folder)
        return Classes(names, tuple(range(1, len(names) + 1)))

    def read(self, findings: Findings, max_pixels: int) -> BoxTable:
        """The table of this split."""
        return voc.read_voc(self.folder, self.split, findings, max_pixels, chooser(self.part))


FileSource = CocoSource | YoloSource | VocSource
Source = FileSource | SceneSource


def chooser(part: str | None) -> Choose | None:
    """Takes the images of one part of a dataset that has no split of its own."""
    if part is None:
        return None

    def choose(files: Strings) -> np.ndarray:
        mask = held_out(files)
        return mask if part == "val" or len(files) == 1 else ~mask

    return choose
