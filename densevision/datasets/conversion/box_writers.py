"""Writes objects as COCO JSON, YOLO txt and Pascal VOC XML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from densevision.datasets.conversion.losses import TOLERANCE, count_ids_and_areas
from densevision.datasets.conversion.objects import (
    ObjectSplit,
    claim_image_name,
    collect_categories,
    count_category_ids,
    dump_json,
    is_polygon,
    round_number,
)
from densevision.datasets.conversion.polygons import get_polygons, join_polygons
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.voc import CORNERS
from densevision.errors import DataError
from densevision.io.atomic_write import write_bytes, write_text
from densevision.io.decode import read_header
from densevision.io.placeholders import copy_file
from densevision.ops import masks as rle

__all__ = ["copy_image", "write_coco", "write_roboflow_coco", "write_roboflow_yolo", "write_voc", "write_yolo"]

ROBOFLOW_SPLITS = {"val": "valid"}
"""Split -> Roboflow's name of its folder, where that differs."""


def write_coco(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes annotations/instances_<split>.json, and images into images/<split>."""
    for split, objects in splits.items():
        _write_coco_split(objects, out / "annotations" / f"instances_{split}.json", out / "images" / split)


def write_roboflow_coco(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes the folders train and valid, each with its images and _annotations.coco.json, as Roboflow exports COCO."""
    for split, objects in splits.items():
        folder = out / ROBOFLOW_SPLITS.get(split, split)
        _write_coco_split(objects, folder / "_annotations.coco.json", folder)


def _write_coco_split(objects: ObjectSplit, file: Path, folder: Path) -> None:
    boxes = objects.boxes
    claimed: dict[str, str] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, image_id in enumerate(boxes.image_ids.tolist()):
        name, (height, width) = claim_image_name(objects, image, claimed), objects.size(image)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for row in objects.rows(image):
            entry = _build_coco_object(objects, image, row)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **entry})
        copy_image(objects, image, folder / name)
    categories = [{"id": category_id, "name": name} for category_id, name in zip(boxes.ids, boxes.names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(file, dump_json(content))


def _build_coco_object(objects: ObjectSplit, image: int, row: int) -> dict[str, Any]:
    boxes = objects.boxes
    x1, y1, x2, y2 = boxes.boxes[row].astype(float).tolist()
    entry: dict[str, Any] = {
        "category_id": boxes.ids[boxes.labels[row]],
        "bbox": [round_number(value) for value in (x1, y1, x2 - x1, y2 - y1)],
        "iscrowd": int(boxes.crowd[row]),
    }
    area = objects.stated_areas[row]
    if objects.masks is not None:
        mask = objects.masks.mask(row, objects.size(image))
        if is_polygon(objects, row):
            parts = objects.masks.polygons(row)
            entry["segmentation"] = [[round_number(value) for value in part.ravel()] for part in parts]
        else:
            entry["segmentation"] = mask
        area = rle.compute_areas([mask])[0] if np.isnan(area) else area
    return entry | {"area": round_number(boxes.areas[row] if np.isnan(area) else area)}


def write_yolo(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes data.yaml, images/<split> and labels/<split>; polygons if there are masks, boxes otherwise.

    Classes are numbered from 0 without gaps, as Ultralytics requires. A line is always one object, so crowd regions are
    left out, and coordinates are clipped to the image, because training programs refuse labels that extend beyond.
    """
    folders = {split: (f"images/{split}", f"labels/{split}") for split in splits}
    names = _write_yolo_splits(splits, out, folders, report)
    content = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(names))}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_roboflow_yolo(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes data.yaml, and the folders train and valid with images and labels each, as Roboflow exports YOLO."""
    parts = {split: ROBOFLOW_SPLITS.get(split, split) for split in splits}
    folders = {split: (f"{part}/images", f"{part}/labels") for split, part in parts.items()}
    names = _write_yolo_splits(splits, out, folders, report)
    content = {split: folders[split][0] for split in splits} | {"nc": len(names), "names": names}
    write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _write_yolo_splits(
    splits: dict[str, ObjectSplit], out: Path, folders: dict[str, tuple[str, str]], report: ConversionReport
) -> list[str]:
    """Writes images and labels into the two folders of each split; returns the class names."""
    categories = collect_categories(splits)
    numbers = {name: number for number, name in enumerate(categories)}
    for split, objects in splits.items():
        image_folder, label_folder = (out / folder for folder in folders[split])
        claimed: dict[str, str] = {}
        for image in range(len(objects.boxes)):
            name = claim_image_name(objects, image, claimed)
            rows = [row for row in objects.rows(image) if not objects.boxes.crowd[row]]
            lines = [f"{numbers[objects.name(row)]} {_format_yolo_shape(objects, image, row, report)}" for row in rows]
            label = label_folder / f"{os.path.splitext(name)[0]}.txt"
            write_text(label, "".join(f"{line}\n" for line in lines))
            copy_image(objects, image, image_folder / name)
        report.add("crowd regions", int(objects.boxes.crowd.sum()))
        count_ids_and_areas(objects, report)
    count_category_ids(categories.values(), 0, report)
    return list(categories)


def _format_yolo_shape(objects: ObjectSplit, image: int, row: int, report: ConversionReport) -> str:
    boxes, (height, width) = objects.boxes, objects.size(image)
    if objects.masks is None:
        limits = (width, height, width, height)
        x1, y1, x2, y2 = np.clip(boxes.boxes[row].astype(float), 0, limits).tolist()
        report.add("parts of boxes outside the image", int([x1, y1, x2, y2] != boxes.boxes[row].astype(float).tolist()))
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    else:
        polygon = join_polygons(get_polygons(objects, image, row, report), report)
        clipped = np.clip(polygon.astype(np.float64), 0, (width, height))
        report.add("parts of polygons outside the image", int((clipped != polygon).any()))
        values = (clipped / (width, height)).ravel().tolist()
        bounds = np.concatenate([polygon.min(0), polygon.max(0)])
        report.add("boxes that differ from their polygons", int(np.abs(bounds - boxes.boxes[row]).max() > TOLERANCE))
    return " ".join(f"{value:.9g}" for value in values)


def write_voc(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes Annotations, JPEGImages, ImageSets/Main and labels.txt; crowds become difficult objects."""
    claimed: dict[str, str] = {}
    for split, objects in splits.items():
        stems = []
        for image in range(len(objects.boxes)):
            path = claim_image_name(objects, image, {})
            name = path.replace(os.sep, "_")
            report.add("folders in image names", int(name != path))
            stem = os.path.splitext(name)[0]
            if stem in claimed:
                hint = "Rename one: Pascal VOC has one image folder for all splits."
                raise DataError("two images would have the same name", file=name, value=claimed[stem], hint=hint)
            claimed[stem] = f"{split}/{path}"
            stems.append(stem)
            write_bytes(out / "Annotations" / f"{stem}.xml", _build_voc_annotation(objects, image, name))
            copy_image(objects, image, out / "JPEGImages" / name)
        write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
        if objects.masks is not None:
            report.add("masks", len(objects.boxes.labels))
        count_ids_and_areas(objects, report)
    categories = collect_categories(splits)
    count_category_ids(categories.values(), 1, report)
    write_text(out / "labels.txt", "".join(f"{name}\n" for name in categories))


def _build_voc_annotation(objects: ObjectSplit, image: int, name: str) -> bytes:
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
            ElementTree.SubElement(box, corner).text = str(round_number(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, "utf-8") + b"\n"


def copy_image(objects: ObjectSplit, image: int, target: Path) -> None:
    """Copies an image, with its times, into a folder that may not exist yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(objects.folder / objects.boxes.files[image], target)
