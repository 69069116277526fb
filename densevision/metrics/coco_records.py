"""COCO files as result records, image by image, for analyses of single objects; `coco_files` computes the metrics."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.segmentations import parse_rle
from densevision.metrics.coco_files import get_class_name, get_image_name, get_unique_names
from densevision.metrics.coco_validation import validate_predictions
from densevision.ops.masks import RLE, encode_polygons
from densevision.ops.skeleton import Skeleton
from densevision.results import Detections, Instances

__all__ = ["read_coco_records"]


def read_coco_records(
    truth: Path, predictions: Path, iou_types: tuple[str, ...]
) -> dict[str, tuple[Detections, Detections]]:
    """Predictions and ground truths of all images: name of the image -> (prediction, ground truth).

    Args:
        truth: COCO json.
        predictions: COCO results.
        iou_types: Geometry of the objects: "bbox", "segm", "keypoints".

    Raises:
        DataError: A file is missing or broken, or an entry has an absent, unknown or impossible value.
    """
    for iou_type in iou_types:
        validate_predictions(predictions, truth, iou_type)
    dataset, results = (json.loads(path.read_bytes()) for path in (truth, predictions))
    categories = sorted(dataset["categories"], key=lambda category: category["id"])
    builder = _RecordBuilder(categories, iou_types, truth)
    annotations, detections = _group_by_image(dataset["annotations"]), _group_by_image(results)
    names = get_unique_names(dataset["images"], list(map(get_image_name, dataset["images"])))
    pairs = {}
    for name, entry in zip(names, dataset["images"]):
        predicted, true = detections[entry["id"]], annotations[entry["id"]]
        size = _get_size(entry, [*predicted, *true])
        pairs[name] = builder.build(predicted, size), builder.build(true, size)
    return pairs


class _RecordBuilder:
    """Builds records from entries."""

    def __init__(self, categories: list[dict[str, Any]], iou_types: tuple[str, ...], file: Path):
        self.names = tuple(get_unique_names(categories, list(map(get_class_name, categories))))
        self.ids = tuple(category["id"] for category in categories)
        self.iou_types, self.file = iou_types, file
        self.skeleton = next((_read_skeleton(entry) for entry in categories if entry.get("keypoints")), None)

    def build(self, entries: list[dict[str, Any]], size: tuple[int, int]) -> Detections:
        boxes = np.array([entry.get("bbox") or (0, 0, 0, 0) for entry in entries], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        record: dict[str, Any] = {
            "boxes": boxes,
            "labels": np.array([self.ids.index(entry["category_id"]) for entry in entries], np.int64),
            "scores": np.array([entry.get("score", 1.0) for entry in entries], np.float64),
            "crowd": np.array([entry.get("iscrowd", 0) for entry in entries], bool),
            "names": self.names,
            "category_ids": self.ids,
            "size": size,
        }
        if entries and "area" in entries[0]:
            record["areas"] = np.array([entry["area"] for entry in entries], np.float64)
        if self.iou_types == ("bbox",):
            return Detections(**record)
        if "segm" in self.iou_types:
            record["masks"] = tuple(self._read_mask(entry, size) for entry in entries)
        if "keypoints" in self.iou_types:
            record["keypoints"] = _read_keypoints(entries)
            record["skeleton"] = self.skeleton
        return Instances(**record)

    def _read_mask(self, entry: dict[str, Any], size: tuple[int, int]) -> RLE:
        value = entry["segmentation"]
        if not isinstance(value, dict):
            return encode_polygons([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in value], size)
        mask = parse_rle(value, size)
        if mask is None:
            problem, hint = "a mask has another size than its image", f"The image is {size}."
            raise DataError(problem, file=self.file, field=f"image {entry['image_id']}", value=value["size"], hint=hint)
        return mask


def _group_by_image(entries: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        groups[entry["image_id"]].append(entry)
    return groups


def _get_size(entry: dict[str, Any], objects: list[dict[str, Any]]) -> tuple[int, int]:
    """(height, width) as stated, or the extent of the boxes."""
    if "height" in entry and "width" in entry:
        return int(entry["height"]), int(entry["width"])
    boxes = np.array([item["bbox"] for item in objects if item.get("bbox")] or [(0, 0, 1, 1)], np.float64)
    right, bottom = np.ceil(boxes[:, :2] + boxes[:, 2:]).max(0).clip(1).astype(int).tolist()
    return bottom, right


def _read_keypoints(entries: list[dict[str, Any]]) -> np.ndarray:
    count = max((len(entry["keypoints"]) // 3 for entry in entries), default=0)
    return np.array([entry["keypoints"] for entry in entries], np.float32).reshape(len(entries), count, 3)


def _read_skeleton(category: dict[str, Any]) -> Skeleton:
    edges = tuple((int(start) - 1, int(end) - 1) for start, end in category.get("skeleton", []))
    return Skeleton(tuple(map(str, category["keypoints"])), edges)
