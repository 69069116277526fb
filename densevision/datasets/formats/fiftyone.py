"""FiftyOne: `labels.json` of its detection datasets, and `samples.json` of its own dataset format, beside `data/`.

`labels.json` maps the image's name without suffix to detections and lists the classes; `samples.json` holds a list of
samples whose fields hold detections or polylines, whose tags may name the split, and whose classes may be listed by
`metadata.json`. Boxes are x, y, width, height as fractions of the image. A detection may have the mask of its box's
window, in the JSON or as an image (`mask_path`); FiftyOne stretches it to the box, whose corners are rounded to pixels.
FiftyOne's exports to COCO (`labels.json` with `images`), YOLO, Pascal VOC (`labels/*.xml`) and CVAT are read as these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densevision.datasets.formats.fiftyone_masks import decode_mask
from densevision.datasets.formats.label_files import parse_numbers, read_head, read_json
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject, MaskWindow
from densevision.datasets.splits import SPLIT_NAMES
from densevision.errors import DataError
from densevision.io.image import read_image_size, read_index_mask
from densevision.io.image_files import IMAGE_SUFFIXES, is_inside, list_files
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import encode
from densevision.ops.view import Size

__all__ = ["FIELD", "METADATA", "find_labels", "read_class_names", "read_images"]

FIELD = "ground_truth"
"""Field of a sample that is read if there are several with objects."""
METADATA = "metadata.json"
SPLIT_TAGS = {word for words in SPLIT_NAMES.values() for word in words} | {"test"}

Sample = tuple[str, str, list[Any], list[str]]


def find_labels(folder: Path) -> Path | None:
    """Finds the JSON of a folder."""
    files = [folder] if folder.is_file() else list_files(folder, "*.json") if folder.is_dir() else []
    return next((file for file in files if file.suffix == ".json" and _is_fiftyone(file)), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns the classes that the file lists, in its order; None if it lists none."""
    content, metadata = (_read_object(path) for path in (file, file.parent / METADATA))
    info = metadata.get("info")
    tables = (content, metadata, info if isinstance(info, dict) else {})
    for classes in (table.get(key) for table in tables for key in ("classes", "default_classes")):
        if isinstance(classes, dict):  # by field
            classes = classes.get(FIELD)
        if isinstance(classes, list) and classes and all(isinstance(name, str) for name in classes):
            return tuple(dict.fromkeys(classes))
    return None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images of a JSON.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    content, lookup = read_json(file, issues), ImageLookup(root)
    samples = _list_samples(content, lookup, file) if isinstance(content, dict) else None
    if samples is None:
        if content is not None:
            issues.add(IssueKind.FILE_MALFORMED, file, None, "no labels and no samples")
        return
    classes = content.get("classes") or []
    for name, field, detections, tags in samples:
        parse = partial(_parse_objects, file, field, detections, classes, root, name)
        subset = next((tag for tag in tags if tag.lower() in SPLIT_TAGS), next(iter(tags), None))
        yield LabeledImage(name, file, field, parse=parse, is_relative=True, subset=subset)


def _parse_objects(
    file: Path, field: str, detections: list[Any], classes: list[Any], root: Path, name: str, issues: LabelIssues
) -> Iterator[LabeledObject]:
    for index, entry in enumerate(detections):
        place = f"{field}[{index}]"
        item = _parse_detection(entry, classes, place) if isinstance(entry, dict) else None
        has_mask = item is not None and item.box is not None and any(entry.get(key) for key in ("mask", "mask_path"))
        if item is not None and has_mask:
            window = _read_mask(entry, item.box, file.parent, read_image_size(root / name))
            item = None if window is None else replace(item, windows=[window])
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, place, entry)


def _read_mask(entry: dict[str, Any], box: Any, folder: Path, size: Size) -> MaskWindow | None:
    """Reads the mask of a detection; None if it is malformed or lies outside the dataset."""
    path = entry.get("mask_path")
    mask = decode_mask(entry["mask"]) if entry.get("mask") else None
    if mask is None and isinstance(path, str) and is_inside(path):
        try:
            mask = read_index_mask(folder / path) > 0
        except DataError:
            return None
    left, top, right, bottom = (round(value * side) for value, side in zip(box, (*size[::-1], *size[::-1])))
    if mask is None or not mask.size or not 0 < right - left <= size[1] or not 0 < bottom - top <= size[0]:
        return None
    if mask.shape != (bottom - top, right - left):
        stretched = cv2.resize(mask.view(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
        mask = stretched.astype(bool)
    return MaskWindow(encode(mask), left, top)


def _read_object(file: Path) -> dict[str, Any]:
    """Reads a JSON that should be an object; an empty one if it cannot be read, which is reported with the images."""
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_fiftyone(file: Path) -> bool:
    head = read_head(file)
    is_detections = '"labels"' in head and '"images"' not in head and ('"bounding_box"' in head or '"classes"' in head)
    return head.lstrip().startswith("{") and (is_detections or ('"samples"' in head and '"filepath"' in head))


def _list_samples(content: dict[str, Any], lookup: ImageLookup, file: Path) -> list[Sample] | None:
    """Returns the image of each sample, its place in the file, its detections and tags; None for other files."""
    if isinstance(content.get("labels"), dict):
        by_stem = {Path(name).with_suffix("").as_posix(): name for name in _list_names(file.parent / "data")}
        return [
            (lookup.find(by_stem.get(stem, stem), file.parent / "data"), f"labels.{stem}", detections or [], [])
            for stem, detections in content["labels"].items()
            if detections is None or isinstance(detections, list)
        ]
    samples = content.get("samples")
    if not isinstance(samples, list):
        return None
    rows = []
    for index, sample in enumerate(samples):
        if isinstance(sample, dict) and isinstance(sample.get("filepath"), str):
            fields = {key: value for key, value in sample.items() if _is_labels(value)}
            name = FIELD if FIELD in fields else next(iter(fields), FIELD)
            value = fields.get(name, {})
            detections, tags = value.get("detections", value.get("polylines")), sample.get("tags")
            rows.append(
                (
                    lookup.find(sample["filepath"], file.parent),
                    f"samples[{index}].{name}",
                    detections if isinstance(detections, list) else [],
                    [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else [],
                )
            )
    return rows


def _is_labels(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_cls") in ("Detections", "Polylines")


def _list_names(folder: Path) -> list[str]:
    files = list_files(folder, "**/*") if folder.is_dir() else []
    return [str(file.relative_to(folder)) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]


def _parse_detection(entry: dict[str, Any], classes: list[Any], field: str) -> LabeledObject | None:
    """Parses a detection or a polyline; None if it is malformed."""
    label = entry.get("label")
    if type(label) is int and 0 <= label < len(classes):
        label = classes[label]
    if not isinstance(label, str):
        return None
    if entry.get("_cls") == "Polyline":
        shapes = entry.get("points")
        polygons = [_parse_points(points) for points in shapes] if isinstance(shapes, list) else [None]
        if any(polygon is None for polygon in polygons):
            return None
        return LabeledObject(label, field, polygons=[polygon for polygon in polygons if polygon])
    box = parse_numbers(entry.get("bounding_box"), 4)
    if box is None:
        return None
    x, y, width, height = box
    return LabeledObject(label, field, box=(x, y, x + width, y + height), crowd=entry.get("iscrowd") in (1, True))


def _parse_points(points: Any) -> list[float] | None:
    pairs = [parse_numbers(point, 2) for point in points] if isinstance(points, list) else [None]
    return None if any(pair is None for pair in pairs) else [value for pair in pairs if pair for value in pair]
