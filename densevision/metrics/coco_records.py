"""COCO files as records, image by image, for what looks at single objects; `coco_files` goes for the numbers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.segmentations import runs_of
from densevision.metrics.coco_faults import examine_predictions
from densevision.metrics.coco_files import class_name, image_name
from densevision.ops.masks import RLE, from_polygons
from densevision.ops.skeleton import Skeleton
from densevision.results import Detections, Instances

Pair = tuple[Detections, Detections]


def read_records(truth: Path, predictions: Path, kinds: tuple[str, ...]) -> dict[str, Pair]:
    """Answers and truths of all images of a COCO json: name of the image -> (answer, truth).

    Args:
        truth: COCO json.
        predictions: COCO results.
        kinds: What the objects have: "bbox", "segm", "keypoints".

    Raises:
        DataError: A file is missing or broken, or an entry has an absent, unknown or impossible value.
    """
    for kind in kinds:
        examine_predictions(predictions, truth, kind)
    told, said = (json.loads(path.read_bytes()) for path in (truth, predictions))
    categories = sorted(told["categories"], key=lambda category: category["id"])
    build = _Builder(categories, kinds, truth)
    true, found = _by_image(told["annotations"]), _by_image(said)
    shared = Counter(map(image_name, told["images"]))
    pairs = {}
    for entry in told["images"]:
        name = image_name(entry) if shared[image_name(entry)] == 1 else f"{image_name(entry)} ({entry['id']})"
        mine, theirs = found[entry["id"]], true[entry["id"]]
        size = _size(entry, [*mine, *theirs])
        pairs[name] = build(mine, size), build(theirs, size)
    return pairs


class _Builder:
    """Makes records of entries."""

    def __init__(self, categories: list[dict[str, Any]], kinds: tuple[str, ...], file: Path):
        shared = Counter(map(class_name, categories))
        self.names = tuple(
            f"{class_name(one)} ({one['id']})" if shared[class_name(one)] > 1 else class_name(one) for one in categories
        )
        self.ids = tuple(one["id"] for one in categories)
        self.kinds, self.file = kinds, file
        self.skeleton = next((_skeleton(one) for one in categories if one.get("keypoints")), None)

    def __call__(self, entries: list[dict[str, Any]], size: tuple[int, int]) -> Detections:
        boxes = np.array([entry.get("bbox", (0, 0, 0, 0)) for entry in entries], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        record = {
            "boxes": boxes,
            "labels": np.array([self.ids.index(entry["category_id"]) for entry in entries], np.int64),
            "scores": np.array([entry.get("score", 1.0) for entry in entries], np.float64),
            "crowd": np.array([entry.get("iscrowd", 0) for entry in entries], bool),
            "names": self.names,
            "ids": self.ids,
            "size": size,
        }
        if entries and "area" in entries[0]:
            record["areas"] = np.array([entry["area"] for entry in entries], np.float64)
        if self.kinds == ("bbox",):
            return Detections(**record)
        if "segm" in self.kinds:
            record["masks"] = tuple(self._mask(entry, size) for entry in entries)
        if "keypoints" in self.kinds:
            record["keypoints"] = _points(entries)
            record["skeleton"] = self.skeleton
        return Instances(**record)

    def _mask(self, entry: dict[str, Any], size: tuple[int, int]) -> RLE:
        value = entry["segmentation"]
        mask = runs_of(value, size) if isinstance(value, dict) else from_polygons(_outlines(value), size)
        if mask is None:
            problem, hint = "a mask is not of its image's size", f"The image is {size}."
            raise DataError(problem, file=self.file, field=f"image {entry['image_id']}", value=value["size"], hint=hint)
        return mask


def _by_image(entries: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        found[entry["image_id"]].append(entry)
    return found


def _size(entry: dict[str, Any], objects: list[dict[str, Any]]) -> tuple[int, int]:
    """(height, width) as stated, or as far as the boxes reach."""
    if "height" in entry and "width" in entry:
        return int(entry["height"]), int(entry["width"])
    boxes = np.array([one["bbox"] for one in objects if "bbox" in one] or [(0, 0, 1, 1)], np.float64)
    right, bottom = np.ceil(boxes[:, :2] + boxes[:, 2:]).max(0).clip(1).astype(int).tolist()
    return bottom, right


def _outlines(value: Any) -> list[np.ndarray]:
    return [np.asarray(outline, np.float64).reshape(-1, 2) for outline in value]


def _points(entries: list[dict[str, Any]]) -> np.ndarray:
    count = max((len(entry["keypoints"]) // 3 for entry in entries), default=0)
    return np.array([entry["keypoints"] for entry in entries], np.float32).reshape(len(entries), count, 3)


def _skeleton(category: dict[str, Any]) -> Skeleton:
    skeleton_edges = tuple((int(start) - 1, int(end) - 1) for start, end in category.get("skeleton", []))
    return Skeleton(tuple(map(str, category["keypoints"])), skeleton_edges)
