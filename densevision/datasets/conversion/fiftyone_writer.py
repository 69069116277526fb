"""Writes objects as a dataset of FiftyOne."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.conversion.box_writers import copy_image
from densevision.datasets.conversion.losses import count_annotation_losses
from densevision.datasets.conversion.objects import ObjectSplit, dump_json, iterate_images
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.fiftyone import FIELD, METADATA
from densevision.datasets.formats.fiftyone_masks import encode_mask
from densevision.io.atomic_write import write_text
from densevision.ops.masks import crop_to_box

__all__ = ["write_fiftyone"]

TAGS = {"val": "validation"}
"""Split -> FiftyOne's tag for it, where that differs."""


def write_fiftyone(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes samples.json, metadata.json and data/<split>, for `fiftyone.Dataset.from_dir` as `FiftyOneDataset`.

    The split is a tag of a sample, crowd regions have `iscrowd`. The files are in FiftyOne's format without version,
    which all its versions read; the format with a version is an image of its database.
    """
    categories = count_annotation_losses(splits, report, keeps_crowds=True)
    samples: list[dict[str, Any]] = []
    for split, objects in splits.items():
        for image, name in iterate_images(objects):
            height, width = objects.size(image)
            detections = [_describe_object(objects, image, row) for row in objects.rows(image)]
            sample = {
                "filepath": f"data/{split}/{name}",
                "tags": [TAGS.get(split, split)],
                "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
                FIELD: {"_cls": "Detections", "detections": detections},
            }
            samples.append(sample)
            copy_image(objects, image, out / "data" / split / name)
    info = {"default_classes": list(categories)}
    write_text(out / METADATA, dump_json({"media_type": "image", "info": info}))
    write_text(out / "samples.json", dump_json({"samples": samples}))


def _describe_object(objects: ObjectSplit, image: int, row: int) -> dict[str, Any]:
    """A detection: its box in fractions of the image, and its mask in the window of the box."""
    size = objects.size(image)
    entry: dict[str, Any] = {"_cls": "Detection", "label": objects.name(row)}
    corners = objects.boxes.boxes[row].astype(float)
    if objects.masks is not None:
        pixels, (left, top) = crop_to_box(objects.masks.mask(row, size))
        corners = np.array([left, top, left + pixels.shape[1], top + pixels.shape[0]], float)
        entry["mask"] = encode_mask(pixels)
    first, last = corners.reshape(2, 2) / size[::-1]
    entry["bounding_box"] = [*first.tolist(), *(last - first).tolist()]
    if objects.boxes.crowd[row]:
        entry["iscrowd"] = True
    return entry
