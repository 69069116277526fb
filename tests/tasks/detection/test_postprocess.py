"""Predictions to records in original pixels, and records of several views to one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.ops.view import fit_view
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.postprocess import make_records
from densevision.tasks.object_task import merge_records

CONFIG = DetectionConfig(classes=("a", "b", "c"), category_ids=(7, 90, 3))


def predictions(boxes, scores, labels, valid) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 4),
        "scores": torch.tensor([scores], dtype=torch.float32),
        "labels": torch.tensor([labels], dtype=torch.long),
        "valid": torch.tensor([valid], dtype=torch.bool),
    }


def test_make_records__original_pixels_names_and_ids():
    view = fit_view((50, 100), "letterbox", (96, 128), multiple_of=32)
    boxes = [[10.0, 20, 30, 40], [-5, -5, 200, 200], [0, 0, 9, 9], [0, 0, 9, 1]]
    raw = predictions(boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 2, 0], [True, True, False, True])
    (record,) = make_records(raw, [view], CONFIG)
    assert record.size == (50, 100)
    assert record.scores.tolist() == pytest.approx([0.9, 0.8]), "one is invalid, one outside of the image"
    assert record.get_category_ids().tolist() == [7, 90]
    on_canvas = record.boxes[0] * np.tile(view.scale, 2) + np.tile(view.offset, 2)
    assert on_canvas.tolist() == pytest.approx([10, 20, 30, 40], abs=1e-4)
    assert record.boxes[1].tolist() == [0, 0, 100, 50]
    assert (record.boxes.dtype, record.labels.dtype, record.scores.dtype) == (np.float32, np.int64, np.float32)


def test_make_records__without_detections():
    (record,) = make_records(predictions([], [], [], []), [fit_view((96, 128), "pad")], CONFIG)
    assert len(record) == 0 and record.boxes.shape == (0, 4)


def record(boxes, scores, labels, size=(100, 100)) -> Detections:
    return Detections.from_arrays(boxes, labels, CONFIG.classes, size, scores=scores, category_ids=CONFIG.category_ids)


def merge(*records: Detections, limit: int = 300, **options) -> Detections:
    return merge_records(records, PredictOptions(**options), 0.7, limit)


def test_merge__the_stronger_of_two_views_of_an_object():
    one = record([[10, 10, 30, 30], [50, 50, 60, 60]], [0.6, 0.9], [0, 1])
    merged = merge(one, record([[11, 10, 30, 31]], [0.8], [0]))
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])
    assert merged.get_category_ids().tolist() == [90, 7]


def test_merge__class_agnostic_suppression():
    views = record([[10, 10, 30, 30]], [0.6], [0]), record([[10, 10, 30, 30]], [0.8], [1])
    assert len(merge(*views)) == 2 and merge(*views, class_agnostic=True).labels.tolist() == [1]


def test_merge__parts_that_a_tile_cut_are_dropped():
    complete = record([[10, 20, 50, 62]], [0.9], [0])
    parts = record([[10, 36, 50, 62], [10, 36, 50, 62]], [0.7, 0.8], [0, 1])  # tiles of 64 start at 0 and 36
    assert merge(complete, parts, tile=64).labels.tolist() == [0, 1], "a part of another class is its own object"
    assert len(merge(complete, parts, tta=("flip",))) == 3, "without tiles nothing is cut"


def test_merge__nested_objects_away_from_seams_are_kept():
    large, small = record([[4, 4, 60, 60]], [0.9], [0]), record([[20, 20, 30, 30]], [0.6], [0])
    assert len(merge(large, small, tile=64)) == 2


def test_merge__one_tile_equals_no_tile():
    overlapping = record([[0, 0, 100, 100], [0, 20, 60, 50], [0, 0, 99, 100]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert merge(overlapping, tile=128) is overlapping


def test_merge__at_most_max_detections():
    views = [record([[i * 10, 0, i * 10 + 8, 8] for i in range(5)], [0.5] * 5, [0] * 5)] * 2
    assert len(merge(*views)) == 5 and len(merge(*views, limit=3)) == 3
