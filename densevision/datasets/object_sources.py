"""Datasets whose files list objects of any shape: which formats there are, and one split of such a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from densevision.datasets.formats import (
    cvat,
    cvat_video,
    fiftyone,
    image_folder,
    label_studio,
    labelme,
    object_masks,
    supervisely,
    via,
    via3,
)
from densevision.datasets.formats.labeled_objects import LabeledImage, ObjectTable, build_objects
from densevision.datasets.splits import SPLIT_NAMES, select_split
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, ClassList, StringArray
from densevision.io.image_files import list_folders
from densevision.io.label_issues import LabelIssues
from densevision.io.segmentations import Segmentations

__all__ = ["FORMATS", "OBJECT_MASKS", "ObjectFormat", "ObjectSource", "detect_objects"]


class ObjectFormat(Protocol):
    """The functions of a module in `datasets/formats` that reads objects image by image."""

    def find_labels(self, folder: Path) -> Path | None:
        """Returns the label file or folder of a dataset; None if it has another format."""

    def read_class_names(self, labels: Path) -> tuple[str, ...] | None:
        """Returns the classes in the order in which the labels list them; None if they do not."""

    def read_images(self, labels: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
        """Reads the images and their objects."""


OBJECT_MASKS = "SegmentationObject"
FORMATS: dict[str, ObjectFormat] = {
    "labelme": labelme,
    "CVAT for images": cvat,
    "CVAT for video": cvat_video,
    "Label Studio JSON": label_studio,
    "VIA": via,
    "VIA 3": via3,
    "Supervisely": supervisely,
    "FiftyOne": fiftyone,
    "imagefolder": image_folder,
    OBJECT_MASKS: object_masks,
}
"""Format -> the module that reads it."""
WITH_SUBSETS = ("CVAT for images", "FiftyOne", OBJECT_MASKS)
"""Formats that state the split of each image."""


@dataclass(frozen=True)
class ObjectSource:
    """One split of a dataset of objects, not read yet.

    Attributes:
        format_name: A key of `FORMATS`.
        labels: Its label file or folder.
        folder: The dataset, which contains all images; image names are relative to it.
        part: "train" or "val" if the images must be divided.
        subsets: Subsets that label files name, if they are its splits; all by default.
    """

    format_name: str
    labels: Path
    folder: Path
    part: str | None = None
    subsets: tuple[str, ...] = ()

    def classes(self) -> ClassList:
        """Returns the classes that the labels list, otherwise those of the objects in sorted order; ids count from 1.

        Raises:
            DataError: There is no object.
        """
        names = FORMATS[self.format_name].read_class_names(self.labels)
        if names is None:
            silent = LabelIssues("skip")
            images = self._read_images(silent)
            names = tuple(sorted({item.label for image in images for item in image.parse(silent)}))
        if not names:
            raise DataError("no file has an object", file=self.labels, hint="Label at least one object.")
        return ClassList(names, tuple(range(1, len(names) + 1)))

    def read(self, issues: LabelIssues, max_pixels: int) -> BoxTable:
        """Reads the boxes of this split."""
        return self.read_objects(issues, max_pixels).boxes

    def read_masks(self, boxes: BoxTable, issues: LabelIssues) -> tuple[Segmentations, np.ndarray]:
        """Reads the masks of boxes that were read before; returns them, and (M,) bool, which boxes have one."""
        # Problems were reported when the boxes were read.
        return self.read_objects(LabelIssues(issues.on_error)).select_masks(boxes, issues)

    def read_objects(self, issues: LabelIssues, max_pixels: int | None = None) -> ObjectTable:
        """Reads boxes and masks of this split.

        Raises:
            DataError: Something is wrong and the policy is `fail`.
        """
        images = [image for image in self._read_images(issues) if self._is_in_subset(image)]
        limits = {} if max_pixels is None else {"max_pixels": max_pixels}

        def select(files: StringArray) -> np.ndarray:
            return np.ones(len(files), bool) if self.part is None else select_split(files, self.part)

        return build_objects(images, self.classes()[0], self.folder, issues, select=select, **limits)

    def _read_images(self, issues: LabelIssues) -> Iterator[LabeledImage]:
        return FORMATS[self.format_name].read_images(self.labels, self.folder, issues)

    def _is_in_subset(self, image: LabeledImage) -> bool:
        return not self.subsets or (image.subset or "").lower() in self.subsets


def detect_objects(root: Path, split_names: dict[str, str | None]) -> dict[str, ObjectSource]:
    """Detects a dataset of objects: "train" and "val" if its folders or label files have them, else "".

    Label files lie in the folders of the splits, in the dataset's folder, or in one of its subfolders.
    """
    folder = root.parent if root.is_file() else root
    for format_name, reader in FORMATS.items():
        splits = {}
        for split, name in split_names.items():
            for word in (name,) if name else SPLIT_NAMES[split]:
                path = root / word
                labels = reader.find_labels(path) if path.exists() and not root.is_file() else None
                if labels is not None:
                    base = folder if path.resolve().is_relative_to(folder.resolve()) else path
                    splits[split] = ObjectSource(format_name, labels, base)
                    break
        if "train" in splits:
            return splits
        labels = reader.find_labels(root)
        if labels is None and root.is_dir():
            found = [reader.find_labels(path) for path in list_folders(root)]
            unique = [path for path in found if path is not None]
            labels = unique[0] if len(unique) == 1 else None
        if labels is not None:
            return _detect_subsets(ObjectSource(format_name, labels, folder), split_names)
    return {}


def _detect_subsets(source: ObjectSource, split_names: dict[str, str | None]) -> dict[str, ObjectSource]:
    """Divides a source by the subsets that its label file names, if there is one for training."""
    if source.format_name not in WITH_SUBSETS:
        return {"": source}
    images = FORMATS[source.format_name].read_images(source.labels, source.folder, LabelIssues("skip"))
    subsets = {(image.subset or "").lower() for image in images}
    splits = {}
    for split, name in split_names.items():
        words = tuple(word for word in ((name,) if name else SPLIT_NAMES[split]) if word.lower() in subsets)
        if words:
            splits[split] = ObjectSource(source.format_name, source.labels, source.folder, subsets=(words[0].lower(),))
    return splits if "train" in splits else {"": source}
