"""Class maps from COCO's json files: panoptic images of segment ids, and polygons or run lengths of instances."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.image import read_image
from densevision.io.image_files import is_inside
from densevision.io.json_stream import stream_json
from densevision.io.masks import UNKNOWN

BACKGROUND = "background"
"""Name of the pixels that no instance covers; the class before the categories."""


@dataclass(frozen=True)
class CocoMasks:
    """One json of class maps.

    Attributes:
        file: The json.
        folder: Panoptic: where its label images are. None for instances.
        images: File name of each image that it lists.
        truths: What it says of each: panoptic (label image, [(segment id, class)]); instances [(class, segmentation,
            area, crowd)].
        names: Class names in the order of their category ids; instances begin with the background.
        stuff: Those of them that are no things: the background, and of panoptic json what it says is stuff.
    """

    file: Path
    folder: Path | None
    images: tuple[str, ...]
    ground_truths: tuple[Any, ...]
    names: tuple[str, ...]
    stuff: tuple[str, ...] = ()

    def kept(self, rows: Sequence[int]) -> CocoMasks:
        """Only these images."""
        images, ground_truths = (tuple(column[row] for row in rows) for column in (self.images, self.ground_truths))
        return replace(self, images=images, ground_truths=ground_truths)

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """The class map of an image.

        Args:
            index: Of the image.
            size: (height, width) of the image; polygons are drawn in this size.
            multilabel: Instances as sets of classes, in which they may overlap.

        Returns:
            (H, W) uint8 indices into `names`, 255 unknown; with `multilabel` uint16 sets of the names but the first.

        Raises:
            DataError: The label image cannot be read or holds a segment that is not listed.
        """
        if self.folder is not None:
            return self._read_panoptic(*self.ground_truths[index])
        masks = [(entry[0], self._decoded(entry[1], size), entry[3]) for entry in self._largest_first(index)]
        if multilabel:
            labels = np.zeros(size, np.uint16)
            for label, mask, _ in masks:
                labels[mask] |= np.uint16(1 << (label - 1))
            return labels
        labels = np.zeros(size, np.uint8)
        for label, mask, _ in masks:
            labels[mask] = label
        return labels

    def _largest_first(self, index: int) -> list[Any]:
        """Crowds, then single objects, so that what is small stays visible."""
        return sorted(self.ground_truths[index], key=lambda entry: (not entry[3], -entry[2]))

    def _read_panoptic(self, name: str, segments: tuple[tuple[int, int], ...]) -> np.ndarray:
        path = (self.folder or Path()) / name
        pixels = read_image(path)[..., :3].astype(np.int64)
        ids = pixels @ np.array([1, 256, 65536])
        known = dict([(0, UNKNOWN), *segments])
        there, inverse = np.unique(ids, return_inverse=True)
        if missing := [segment for segment in there.tolist() if segment not in known]:
            hint = f"List it in segments_info of {self.file.name}."
            raise DataError("a segment is not listed", file=path, field="segment id", value=missing[0], hint=hint)
        return np.array([known[segment] for segment in there.tolist()], np.uint8)[inverse.reshape(ids.shape)]

    def _decoded(self, segmentation: Any, size: tuple[int, int]) -> np.ndarray:
        from pycocotools import mask as coco_mask

        try:
            if isinstance(segmentation, list):
                runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
            elif isinstance(segmentation["counts"], list):
                runs = coco_mask.frPyObjects(segmentation, *segmentation["size"])
            else:
                runs = segmentation
            mask = coco_mask.decode(runs).astype(bool)
        except Exception as failure:  # pycocotools raises whatever its C code meets
            problem = f"a segmentation cannot be read: {failure}"
            raise DataError(problem, file=self.file, field="segmentation", value=segmentation) from None
        if mask.shape != size:
            hint = "The run lengths were made for another image."
            raise DataError(
                "a segmentation is of another size than its image", file=self.file, value=mask.shape, hint=hint
            )
        return mask


def read_coco_masks(file: str | os.PathLike[str], folder: Path | None) -> CocoMasks:
    """Reads a panoptic json (with the folder of its label names_of_images) or an instance json (without).

    Raises:
        DataError: The file is not such a json.
    """
    images: dict[int, str] = {}
    found: dict[int, Any] = {}
    categories: dict[int, str] = {}
    stuff = [] if folder is not None else [BACKGROUND]
    try:
        for key, index, entry in stream_json(file):
            if index is None:
                continue
            if key == "images":
                images[entry["id"]] = _inside(entry["file_name"], file)
            elif key == "categories":
                categories[entry["id"]] = entry["name"]
                stuff += [entry["name"]] if folder is not None and not entry.get("isthing", True) else []
            elif key == "annotations" and folder is not None:
                segments = [(part["id"], part["category_id"]) for part in entry["segments_info"]]
                found[entry["image_id"]] = (_inside(entry["file_name"], file), segments)
            elif key == "annotations":
                row = (entry["category_id"], entry["segmentation"], entry.get("area", 0.0), bool(entry.get("iscrowd")))
                found.setdefault(entry["image_id"], []).append(row)
    except (KeyError, TypeError) as failure:
        hint = "COCO json has images, annotations and categories; panoptic annotations have segments_info."
        raise DataError(f"an entry lacks {failure} or has it of a wrong type", file=file, hint=hint) from None
    order = sorted(categories)
    first = 0 if folder is not None else 1
    index = {category: position + first for position, category in enumerate(order)}
    names = tuple(categories[category] for category in order)
    rows = [_indexed(found.get(image), index, folder is not None, file) for image in images]
    kept = [position for position, row in enumerate(rows) if row is not None]
    images = list(images.values())
    return CocoMasks(
        Path(file),
        folder,
        tuple(images[position] for position in kept),
        tuple(rows[position] for position in kept),
        names if folder is not None else (BACKGROUND, *names),
        tuple(stuff),
    )


def _indexed(truth: Any, index: dict[int, int], panoptic: bool, file: str | os.PathLike[str]) -> Any:
    """A truth with classes in place of category ids; None for an image of which a panoptic json says nothing."""
    try:
        if panoptic:
            return None if truth is None else (truth[0], tuple((id, index[category]) for id, category in truth[1]))
        return tuple((index[row[0]], *row[1:]) for row in truth or ())
    except KeyError as failure:
        hint = "List it among the categories."
        raise DataError(
            "a category is not listed", file=file, field="category_id", value=failure.args[0], hint=hint
        ) from None


def _inside(name: str, file: str | os.PathLike[str]) -> str:
    if not is_inside(name):
        raise DataError("a file name leads out of the folder", file=file, field="file_name", value=name)
    return name
