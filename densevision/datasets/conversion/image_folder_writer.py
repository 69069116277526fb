"""Writes objects as Hugging Face's imagefolder."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from densevision.datasets.conversion.box_writers import copy_image
from densevision.datasets.conversion.losses import count_annotation_losses
from densevision.datasets.conversion.objects import ObjectSplit, iterate_images, list_labeled_rows, round_number
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.image_folder import METADATA
from densevision.io.atomic_write import write_text

__all__ = ["write_image_folder"]

SPLIT_FOLDERS = {"val": "validation"}
"""Split -> the name by which `datasets` knows its folder, where that differs."""


def write_image_folder(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes the folders train and validation with images and metadata.jsonl, and README.md with the classes.

    `objects` of a line are lists `bbox` (x, y, width, height in pixels) and `categories` (names, which
    `datasets.ClassLabel` turns into numbers). The format has no masks and no crowd regions: they are left out.
    """
    categories = count_annotation_losses(splits, report, keeps_boxes=True)
    for split, objects in splits.items():
        folder, lines = out / SPLIT_FOLDERS.get(split, split), []
        for image, name in iterate_images(objects):
            rows = list_labeled_rows(objects, image)
            boxes = [_describe_box(objects.boxes.boxes[row].astype(float).tolist()) for row in rows]
            content = {"bbox": boxes, "categories": [objects.name(row) for row in rows]}
            lines.append(json.dumps({"file_name": name, "objects": content}, ensure_ascii=False))
            copy_image(objects, image, folder / name)
        write_text(folder / METADATA, "".join(f"{line}\n" for line in lines))
        if objects.masks is not None:
            report.add("masks", len(objects.boxes.labels))
    write_text(out / "README.md", _describe_dataset(list(categories)))


def _describe_box(corners: list[float]) -> list[float]:
    x1, y1, x2, y2 = corners
    return [float(round_number(value)) for value in (x1, y1, x2 - x1, y2 - y1)]


def _describe_dataset(names: list[str]) -> str:
    """The dataset card: the features in the form of `datasets`; `class_label` lists the classes in their order."""
    classes = {"class_label": {"names": {str(number): name for number, name in enumerate(names)}}}
    columns = [
        {"name": "bbox", "list": {"list": "float32", "length": 4}},
        {"name": "categories", "list": classes},
    ]
    features = [{"name": "image", "dtype": "image"}, {"name": "objects", "struct": columns}]
    text = yaml.safe_dump({"dataset_info": {"features": features}}, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n"
