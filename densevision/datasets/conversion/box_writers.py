"""Objects as COCO json, YOLO txt and Pascal VOC xml."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from densevision.datasets.conversion.objects import (
    Objects,
    categories,
    compact,
    image_name,
    is_outlined,
    lose_category_ids,
    lose_ids,
    rounded,
)
from densevision.datasets.conversion.polygons import joined, outlines_of
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.voc import CORNERS
from densevision.errors import DataError
from densevision.io.atomic_write import write_bytes, write_text
from densevision.io.decode import read_header
from densevision.ops import masks as runs

NEAR = 1.0
"""Pixels by which a stated area may differ from what the target tells, before it counts as lost."""


def write_coco(splits: dict[str, Objects], out: Path, losses: ConversionReport) -> None:
    """annotations/instances_<split>.json, and images in images/<split>."""
    for split, objects in splits.items():
        boxes, taken = objects.boxes, {}
        images, annotations = [], []
        for image, id in enumerate(boxes.image_ids.tolist()):
            name, (height, width) = image_name(objects, image, taken), objects.size(image)
            images.append({"id": id, "file_name": name, "width": width, "height": height})
            for row in objects.rows(image):
                annotations.append({"id": len(annotations) + 1, "image_id": id, **_coco_object(objects, image, row)})
            _copy(objects, image, out / "images" / split / name)
        categories = [{"id": id, "name": name} for id, name in zip(boxes.ids, boxes.names)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_text(out / "annotations" / f"instances_{split}.json", compact(content))


def _coco_object(objects: Objects, image: int, row: int) -> dict[str, Any]:
    boxes = objects.boxes
    x1, y1, x2, y2 = boxes.boxes[row].astype(float).tolist()
    entry: dict[str, Any] = {
        "category_id": boxes.ids[boxes.labels[row]],
        "bbox": [rounded(value) for value in (x1, y1, x2 - x1, y2 - y1)],
        "iscrowd": int(boxes.crowd[row]),
    }
    area = objects.stated[row]
    if objects.masks is not None:
        mask = objects.masks.mask(row, objects.size(image))
        if is_outlined(objects, row):
            parts = objects.masks.outlines(row)
            entry["segmentation"] = [[rounded(value) for value in part.ravel()] for part in parts]
        else:
            entry["segmentation"] = mask
        area = runs.areas([mask])[0] if np.isnan(area) else area
    return entry | {"area": rounded(boxes.areas[row] if np.isnan(area) else area)}


def write_yolo(splits: dict[str, Objects], out: Path, losses: ConversionReport) -> None:
    """data.yaml, images/<split> and labels/<split>; outlines where there are masks, boxes otherwise.

    Classes are numbered from 0 without gaps: Ultralytics refuses others.
    """
    classes = categories(splits)
    numbers = {name: number for number, name in enumerate(classes)}
    for split, objects in splits.items():
        taken: dict[str, str] = {}
        for image in range(len(objects.boxes)):
            name = image_name(objects, image, taken)
            rows = objects.rows(image)
            lines = [f"{numbers[objects.name(row)]} {_yolo_shape(objects, image, row, losses)}" for row in rows]
            label = out / "labels" / split / f"{os.path.splitext(name)[0]}.txt"
            write_text(label, "".join(f"{line}\n" for line in lines))
            _copy(objects, image, out / "images" / split / name)
        losses.add("marks of crowds", int(objects.boxes.crowd.sum()))
        _lose_ids_and_areas(objects, losses)
    lose_category_ids(classes.values(), 0, losses)
    content = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(classes))}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _yolo_shape(objects: Objects, image: int, row: int, losses: ConversionReport) -> str:
    boxes, (height, width) = objects.boxes, objects.size(image)
    if objects.masks is None:
        x1, y1, x2, y2 = boxes.boxes[row].astype(float).tolist()
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    else:
        outline = joined(outlines_of(objects, image, row, losses), losses)
        values = (outline.astype(np.float64) / (width, height)).ravel().tolist()
        tight = np.concatenate([outline.min(0), outline.max(0)])
        losses.add("boxes that are not their outline's", int(np.abs(tight - boxes.boxes[row]).max() > NEAR))
    return " ".join(f"{value:.9g}" for value in values)


def write_voc(splits: dict[str, Objects], out: Path, losses: ConversionReport) -> None:
    """Annotations, JPEGImages, ImageSets/Main and labels.txt; crowds are difficult objects."""
    taken: dict[str, str] = {}
    for split, objects in splits.items():
        stems = []
        for image in range(len(objects.boxes)):
            own = image_name(objects, image, {})
            name = own.replace(os.sep, "_")
            losses.add("folders in names of images", int(name != own))
            stem = os.path.splitext(name)[0]
            if stem in taken:
                hint = "Rename one: Pascal VOC keeps all splits in one folder."
                raise DataError("two images would have one name", file=name, value=taken[stem], hint=hint)
            taken[stem] = f"{split}/{own}"
            stems.append(stem)
            write_bytes(out / "Annotations" / f"{stem}.xml", _voc_annotation(objects, image, name))
            _copy(objects, image, out / "JPEGImages" / name)
        write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
        if objects.masks is not None:
            losses.add("masks", len(objects.boxes.labels))
        _lose_ids_and_areas(objects, losses)
    classes = categories(splits)
    lose_category_ids(classes.values(), 1, losses)
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in classes))


def _voc_annotation(objects: Objects, image: int, name: str) -> bytes:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    height, width = objects.size(image)
    size = ElementTree.SubElement(root, "size")
    depth = 1 if read_header(objects.folder / objects.boxes.files[image]).mode in ("1", "L", "I;16", "I") else 3
    for side, value in (("width", width), ("height", height), ("depth", depth)):
        ElementTree.SubElement(size, side).text = str(value)
    for row in objects.rows(image):
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = objects.name(row)
        ElementTree.SubElement(item, "difficult").text = str(int(objects.boxes.crowd[row]))
        box = ElementTree.SubElement(item, "bndbox")
        corners = (objects.boxes.boxes[row] + np.array([1, 1, 0, 0], np.float32)).tolist()
        for corner, value in zip(CORNERS, corners):
            ElementTree.SubElement(box, corner).text = str(rounded(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8") + b"\n"


def _lose_ids_and_areas(objects: Objects, losses: ConversionReport) -> None:
    """Counts the ids of images that are not 1, 2, ..., and the stated areas that nothing else tells."""
    lose_ids(objects, losses)
    losses.add("areas that differ from what the target tells", sum(_untold(objects)))


def _untold(objects: Objects) -> Iterator[int]:
    for image in range(len(objects.boxes)):
        for row in objects.rows(image):
            stated = objects.stated[row]
            if objects.masks is not None:
                told = runs.areas([objects.masks.mask(row, objects.size(image))])[0]
            else:
                told = float((objects.boxes.boxes[row, 2:] - objects.boxes.boxes[row, :2]).prod())
            yield int(not np.isnan(stated) and abs(stated - told) > NEAR)


def _copy(objects: Objects, image: int, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(objects.folder / objects.boxes.files[image], target)
