"""The record of objects: picking, joining, moving, writing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from densevision.errors import UsageError
from densevision.ops.masks import compute_areas, encode
from densevision.ops.skeleton import Skeleton
from densevision.results import Instances

SKELETON = Skeleton(("nose", "left_hand", "right_hand"), ((0, 1), (0, 2)))


def record(points: bool = False) -> Instances:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:8, 3:10] = True
    masks[1, 10:19, 12:28] = True
    runs = tuple(encode(mask) for mask in masks)
    more = {}
    if points:
        keypoints = np.array([[[5, 3, 2], [4, 6, 2], [8, 6, 1]], [[20, 12, 2], [14, 15, 2], [0, 0, 0]]], np.float32)
        more = {"keypoints": keypoints, "skeleton": SKELETON}
    boxes = [[3, 2, 10, 8], [12, 10, 28, 19]]
    return Instances.from_arrays(boxes, [0, 1], ("a", "b"), (20, 30), masks=runs, areas=compute_areas(runs), **more)


def test_getitem__picks_masks_with_boxes():
    one = record(points=True)[1]
    assert len(one) == len(one.masks) == len(one.keypoints) == 1
    assert one.dense()[0, 12, 15]
    assert len(record()[np.zeros(2, bool)].masks) == 0
    assert Instances.concatenate([record(), record()[:1]]).dense().shape == (3, 20, 30)


def test_warp__masks_boxes_and_points_move_together():
    moved = record(points=True).warp(np.array([[-1.0, 0, 30], [0, 1, 0]]), (20, 30))
    assert moved.boxes[0].tolist() == [20, 2, 27, 8]
    assert np.array_equal(moved.dense(), record().dense()[..., ::-1])
    assert moved.keypoints[0].tolist() == [[25, 3, 2], [22, 6, 1], [26, 6, 2]], "left becomes right"


def test_warp__a_cut_object_has_the_box_of_what_is_left():
    moved = record().warp(np.array([[1.0, 0, 0], [0, 1, 0]]), (14, 20))
    assert moved.boxes[1].tolist() == [12, 10, 20, 14]
    assert compute_areas(moved.masks).tolist() == [42, 8 * 4]


def test_warp__there_and_back_is_itself():
    there = record().warp(np.array([[3.0, 0, 7], [0, 2.0, 5]]), (60, 120))
    back = there.warp(np.array([[1 / 3, 0, -7 / 3], [0, 0.5, -2.5]]), (20, 30))
    assert np.array_equal(back.dense(), record().dense())
    assert np.allclose(back.boxes, record().boxes, atol=1e-4)


def test_crops__show_the_object_alone():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    first, second = record().crops(image)
    assert first.shape == (6, 7, 4) and second.shape == (9, 16, 4)
    assert np.array_equal(first[..., :3], image[2:8, 3:10]) and (first[..., 3] == 255).all()
    with pytest.raises(UsageError):
        record().crops()


def test_save__every_form(tmp_path):
    found = record(points=True)
    entry = found.to_coco(7)[0]
    assert entry["segmentation"]["size"] == [20, 30] and len(entry["keypoints"]) == 9
    json.dumps(found.to_dict(), allow_nan=False)
    json.dumps(found.to_coco())
    for suffix in (".json", ".npz", ".png", ".txt"):
        found.save(tmp_path / f"a{suffix}")
    assert Image.open(tmp_path / "a.png").size == (30, 20)
    label, *points = (tmp_path / "a.txt").read_text().splitlines()[0].split()
    assert label == "0" and len(points) >= 6
    assert str(np.load(tmp_path / "a.npz")["masks"][0]) == found.masks[0]["counts"]


def test_draw__small_objects_lie_over_large_ones_in_any_order():
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 5:55, 5:75] = True
    masks[1, 20:40, 30:50] = True
    runs, boxes = tuple(encode(mask) for mask in masks), [[5, 5, 75, 55], [30, 20, 50, 40]]
    found = Instances.from_arrays(boxes, [0, 1], ("a", "b"), (60, 80), masks=runs, areas=compute_areas(runs))
    drawn = found.draw(np.zeros((60, 80, 3), np.uint8))
    assert np.array_equal(drawn, found[[1, 0]].draw(np.zeros((60, 80, 3), np.uint8)))
    assert np.abs(drawn[30, 40].astype(int) - drawn[10, 40]).sum() > 30, "the small one still shows"


def test_supervision__holds_the_masks():
    pytest.importorskip("supervision")
    assert record().to_supervision().mask.shape == (2, 20, 30)


def test_nothing__is_normal_input():
    empty = Instances.from_arrays([], [], ("a",), (1, 1), masks=(), keypoints=np.zeros((0, 3, 3), np.float32), skeleton=SKELETON)
    assert empty.dense().shape == (0, 1, 1)
    assert empty.polygons() == [] and empty.to_coco() == [] and empty.to_yolo() == ""
    assert len(empty.warp(np.eye(2, 3) * 2, (2, 2))) == 0
    assert empty.draw().shape == (1, 1, 3)
