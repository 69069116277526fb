"""Detections: conversion to other formats, warping, selection."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO

from densevision.errors import UsageError
from densevision.metrics.coco_predictions import _read_prediction
from densevision.results import Detections

NAMES = ("disk", "star")


@pytest.fixture
def detections() -> Detections:
    boxes = [[10, 20, 30, 60], [0.5, 1.5, 99.5, 79]]
    return Detections.from_arrays(boxes, [1, 0], NAMES, (80, 100), scores=[0.25, 0.75], category_ids=(7, 3))


def test_to_coco__read_by_pycocotools(detections: Detections) -> None:
    ground_truth = COCO()
    ground_truth.dataset = {
        "images": [{"id": 9, "height": 80, "width": 100}],
        "annotations": [],
        "categories": [{"id": 7, "name": "disk"}, {"id": 3, "name": "star"}],
    }
    ground_truth.createIndex()
    rows = ground_truth.loadRes(json.loads(json.dumps(detections.to_coco(9)))).loadAnns([1, 2])
    assert [ground_truth.cats[row["category_id"]]["name"] for row in rows] == ["star", "disk"]
    assert [row["score"] for row in rows] == [0.25, 0.75]
    corners = [[x, y, x + width, y + height] for x, y, width, height in (row["bbox"] for row in rows)]
    np.testing.assert_allclose(corners, detections.boxes)
    np.testing.assert_allclose([row["area"] for row in rows], detections.areas)


def test_to_yolo__equals_the_boxes(detections: Detections, tmp_path) -> None:
    detections.save(tmp_path / "a.txt")
    rows = np.array([line.split() for line in (tmp_path / "a.txt").read_text().splitlines()], float)
    assert rows[:, 0].tolist() == [1, 0] and rows[:, 5].tolist() == [0.25, 0.75]
    centers, sides = rows[:, 1:3] * (100, 80), rows[:, 3:5] * (100, 80)
    np.testing.assert_allclose(
        np.concatenate([centers - sides / 2, centers + sides / 2], 1), detections.boxes, atol=1e-4
    )


def test_to_supervision__arrays_and_names(detections: Detections, monkeypatch) -> None:
    """The package is not a dependency: a stand-in records the arguments."""
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **arguments: arguments))
    arguments = detections.to_supervision()
    assert arguments["tracker_id"] is None
    assert replace(detections, track_ids=np.array([3, -1])).to_supervision()["tracker_id"].tolist() == [3, -1]
    assert arguments["xyxy"].shape == (2, 4) and arguments["class_id"].tolist() == [1, 0]
    assert arguments["data"]["class_name"].tolist() == ["star", "disk"] and arguments["confidence"].tolist() == [
        0.25,
        0.75,
    ]


def test_save__json_and_drawing(detections: Detections, tmp_path) -> None:
    detections.save(tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    np.testing.assert_allclose(values["boxes"], detections.boxes)
    drawn = detections.draw(np.zeros((80, 100, 3), np.uint8))
    assert drawn.shape == (80, 100, 3) and drawn[20:60, 10].any() and not drawn[40:50, 45:55].any()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
def test_warp__encloses_every_corner(detections: Detections, angle: float) -> None:
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[cosine, -sine, 300.0], [sine, cosine, 300.0]])
    moved = detections.warp(matrix, (800, 800))
    for box, before in zip(moved.boxes, detections.boxes, strict=True):
        x1, y1, x2, y2 = before
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x1, y2, 1], [x2, y2, 1]]) @ matrix.T
        np.testing.assert_allclose(box, [*corners.min(0), *corners.max(0)], rtol=1e-5)
    np.testing.assert_allclose(moved.areas, detections.areas)
    assert moved.labels.tolist() == [1, 0] and moved.size == (800, 800)


def test_warp__objects_outside_the_canvas_are_dropped(detections: Detections) -> None:
    moved = detections.warp(np.array([[1.0, 0, -29.5], [0, 1, 0]]), (80, 100))
    assert moved.labels.tolist() == [0] and moved.boxes[0].tolist() == [0, 1.5, 70, 79]


def test_detections__empty(tmp_path) -> None:
    empty = Detections.from_arrays([], [], NAMES, (8, 9))
    assert len(empty) == 0 and empty.to_coco() == [] and empty.to_yolo() == ""
    assert len(empty.warp(np.eye(2, 3), (8, 9))) == 0
    assert not empty.draw(np.zeros((8, 9, 3), np.uint8)).any()


def test_to_pandas__one_row_per_object(detections: Detections) -> None:
    pytest.importorskip("pandas")
    table = detections.to_pandas()
    np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]], detections.boxes)
    assert table["name"].tolist() == ["star", "disk"] and table["score"].tolist() == [0.25, 0.75]
    assert table["label"].tolist() == [1, 0] and list(detections[:0].to_pandas().columns) == list(table.columns)


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_pandas"), ("supervision", "to_supervision")])
def test_conversion__missing_package_is_named(detections: Detections, package: str, method: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"pip install {package}"):
        getattr(detections, method)()


def test_repr__counts_classes(detections: Detections) -> None:
    assert repr(detections) == "Detections(2 objects: 1 star, 1 disk, size=(80, 100))"
    many = Detections.from_arrays(np.zeros((500, 4)), np.arange(500) % 50, [f"class{i}" for i in range(50)], (9, 9))
    assert len(repr(many)) < 120


def test_getitem__mask_slice_index_and_array(detections: Detections) -> None:
    for key, labels in [([True, False], [1]), (slice(1, None), [0]), (0, [1]), (-1, [0]), ([1, 0], [0, 1]), ([], [])]:
        index = np.array(key, dtype=None if key else int) if isinstance(key, list) else key
        assert detections[index].labels.tolist() == labels
    both = Detections.concatenate([detections, detections[1:]])
    assert both.labels.tolist() == [1, 0, 0] and both.areas.tolist() == [800, 99 * 77.5, 99 * 77.5]


# Identities


@pytest.fixture
def tracked(detections: Detections) -> Detections:
    return replace(detections, track_ids=np.array([12, -1]))


def test_track_ids__follow_their_objects(tracked: Detections) -> None:
    assert tracked[1].track_ids.tolist() == [-1] and tracked[tracked.scores < 0.5].track_ids.tolist() == [12]
    joined = Detections.concatenate([tracked, tracked[:1]])
    assert joined.track_ids.tolist() == [12, -1, 12]
    shifted = tracked.warp(np.array([[1.0, 0, -50], [0, 1, 0]]), (80, 100))  # the first object leaves the canvas
    assert shifted.track_ids.tolist() == [-1] and len(shifted) == 1
    assert tracked.numpy()["track_ids"].tolist() == [12, -1]


def test_track_ids__survive_json_and_csv(tracked: Detections, tmp_path) -> None:
    tracked.save(tmp_path / "a.json")
    categories = {"disk": [7], "star": [3]}
    assert _read_prediction(tmp_path / "a.json", categories).track_ids.tolist() == [12, -1]
    tracked.save(tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["track_id"], row["name"], float(row["x2"])) for row in rows] == [
        ("12", "star", 30),
        ("-1", "disk", 99.5),
    ]


def test_csv__without_identities(detections: Detections, tmp_path) -> None:
    detections[:0].save(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x1,y1,x2,y2,score,label,name"]


def test_overlay__color_of_the_identity(tracked: Detections) -> None:
    """A box has one color for the same identity whatever its class is, and another for another identity."""
    canvas = np.zeros((80, 100, 3), np.uint8)
    first, other, none = (
        replace(tracked[:1], track_ids=np.array([number])).overlay(canvas)[40, 10].tolist() for number in (1, 2, -1)
    )
    same = replace(tracked[:1], labels=np.array([0]), track_ids=np.array([1])).overlay(canvas)[40, 10].tolist()
    assert first == same and len({tuple(color) for color in (first, other, none)}) == 3
