"""FiftyOne: `labels.json` of its detection datasets, and `samples.json` of its own dataset format, beside `data/`.

`labels.json` maps the image's name without suffix to detections and lists the classes; `samples.json` holds a list of
samples whose fields hold detections or polylines. Boxes are x, y, width, height as fractions of the image. The masks of
detections in `samples.json` are not read: FiftyOne writes them to COCO, which is.
FiftyOne's exports to COCO (`labels.json` with `images`), YOLO, Pascal VOC (`labels/*.xml`) and CVAT are read as these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from densevision.datasets.formats.label_files import parse_numbers, read_head, read_json
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject
from densevision.io.image_files import IMAGE_SUFFIXES, list_files
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["find_labels", "read_class_names", "read_images"]


def find_labels(folder: Path) -> Path | None:
    """Finds the JSON of a folder."""
    files = [folder] if folder.is_file() else list_files(folder, "*.json") if folder.is_dir() else []
    return next((file for file in files if file.suffix == ".json" and _is_fiftyone(file)), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns the classes that the file lists, in its order; None if it lists none."""
    try:
        classes = json.loads(file.read_text("utf-8-sig")).get("classes")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    is_valid = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return tuple(dict.fromkeys(classes)) or None if is_valid else None


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
    for name, field, detections in samples:
        parse = partial(_parse_objects, file, field, detections, classes)
        yield LabeledImage(name, file, field, parse=parse, is_relative=True)


def _parse_objects(
    file: Path, field: str, detections: list[Any], classes: list[Any], issues: LabelIssues
) -> Iterator[LabeledObject]:
    for index, entry in enumerate(detections):
        place = f"{field}[{index}]"
        item = _parse_detection(entry, classes, place) if isinstance(entry, dict) else None
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, place, entry)


def _is_fiftyone(file: Path) -> bool:
    head = read_head(file)
    is_detections = '"labels"' in head and '"images"' not in head and ('"bounding_box"' in head or '"classes"' in head)
    return head.lstrip().startswith("{") and (is_detections or ('"samples"' in head and '"filepath"' in head))


def _list_samples(content: dict[str, Any], lookup: ImageLookup, file: Path) -> list[tuple[str, str, list[Any]]] | None:
    """Returns the image of each sample, its place in the file, and its detections; None for other files."""
    if isinstance(content.get("labels"), dict):
        by_stem = {Path(name).with_suffix("").as_posix(): name for name in _list_names(file.parent / "data")}
        return [
            (lookup.find(by_stem.get(stem, stem), file.parent / "data"), f"labels.{stem}", detections or [])
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
            name = "ground_truth" if "ground_truth" in fields else next(iter(fields), "ground_truth")
            value = fields.get(name, {})
            detections = value.get("detections", value.get("polylines")) or []
            rows.append((lookup.find(sample["filepath"], file.parent), f"samples[{index}].{name}", detections))
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
