"""Boxes as a record: what other tools read of it, and what an affine map does to it."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO

from densevision.results import Detections

NAMES = ("disk", "star")


@pytest.fixture
def found() -> Detections:
    boxes = [[10, 20, 30, 60], [0.5, 1.5, 99.5, 79]]
    return Detections.from_arrays(boxes, [1, 0], NAMES, (80, 100), scores=[0.25, 0.75], category_ids=(7, 3))


def test_coco__pycocotools_reads_it_back(found: Detections) -> None:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 9, "height": 80, "width": 100}],
        "annotations": [],
        "categories": [{"id": 7, "name": "disk"}, {"id": 3, "name": "star"}],
    }
    truth.createIndex()
    read = truth.loadRes(json.loads(json.dumps(found.to_coco(9)))).loadAnns([1, 2])
    assert [truth.cats[row["category_id"]]["name"] for row in read] == ["star", "disk"]
    assert [row["score"] for row in read] == [0.25, 0.75]
    corners = [[x, y, x + width, y + height] for x, y, width, height in (row["bbox"] for row in read)]
    np.testing.assert_allclose(corners, found.boxes)
    np.testing.assert_allclose([row["area"] for row in read], found.areas)


def test_yolo__lines_say_the_same(found: Detections, tmp_path) -> None:
    found.save(tmp_path / "a.txt")
    rows = np.array([line.split() for line in (tmp_path / "a.txt").read_text().splitlines()], float)
    assert rows[:, 0].tolist() == [1, 0] and rows[:, 5].tolist() == [0.25, 0.75]
    centers, sides = rows[:, 1:3] * (100, 80), rows[:, 3:5] * (100, 80)
    np.testing.assert_allclose(np.concatenate([centers - sides / 2, centers + sides / 2], 1), found.boxes, atol=1e-4)


def test_supervision__gets_arrays_and_names(found: Detections, monkeypatch) -> None:
    """The package itself is no dependency: what it would be given is looked at."""
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=lambda **given: given))
    given = found.to_supervision()
    assert given["xyxy"].shape == (2, 4) and given["class_id"].tolist() == [1, 0]
    assert given["data"]["class_name"].tolist() == ["star", "disk"] and given["confidence"].tolist() == [0.25, 0.75]


def test_save__json_and_drawing(found: Detections, tmp_path) -> None:
    found.save(tmp_path / "a.json")
    written = json.loads((tmp_path / "a.json").read_text())
    np.testing.assert_allclose(written["boxes"], found.boxes)
    drawn = found.draw(np.zeros((80, 100, 3), np.uint8))
    assert drawn.shape == (80, 100, 3) and drawn[20:60, 10].any() and not drawn[40:50, 45:55].any()


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0])
def test_warp__encloses_every_corner(found: Detections, turn: float) -> None:
    cosine, sine = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    matrix = np.array([[cosine, -sine, 300.0], [sine, cosine, 300.0]])
    moved = found.warp(matrix, (800, 800))
    for box, before in zip(moved.boxes, found.boxes, strict=True):
        x1, y1, x2, y2 = before
        corners = np.array([[x1, y1, 1], [x2, y1, 1], [x1, y2, 1], [x2, y2, 1]]) @ matrix.T
        np.testing.assert_allclose(box, [*corners.min(0), *corners.max(0)], rtol=1e-5)
    np.testing.assert_allclose(moved.areas, found.areas)
    assert moved.labels.tolist() == [1, 0] and moved.size == (800, 800)


def test_warp__what_leaves_the_canvas_is_left_out(found: Detections) -> None:
    moved = found.warp(np.array([[1.0, 0, -29.5], [0, 1, 0]]), (80, 100))
    assert moved.labels.tolist() == [0] and moved.boxes[0].tolist() == [0, 1.5, 70, 79]


def test_none__is_a_record_too(tmp_path) -> None:
    nothing = Detections.from_arrays([], [], NAMES, (8, 9))
    assert len(nothing) == 0 and nothing.to_coco() == [] and nothing.to_yolo() == ""
    assert len(nothing.warp(np.eye(2, 3), (8, 9))) == 0
    assert not nothing.draw(np.zeros((8, 9, 3), np.uint8)).any()
