"""Instances: selection, concatenation, warping, conversion and drawing."""

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


def make_instances(with_keypoints: bool = False) -> Instances:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:8, 3:10] = True
    masks[1, 10:19, 12:28] = True
    runs = tuple(encode(mask) for mask in masks)
    fields = {}
    if with_keypoints:
        keypoints = np.array([[[5, 3, 2], [4, 6, 2], [8, 6, 1]], [[20, 12, 2], [14, 15, 2], [0, 0, 0]]], np.float32)
        fields = {"keypoints": keypoints, "skeleton": SKELETON}
    boxes = [[3, 2, 10, 8], [12, 10, 28, 19]]
    return Instances.from_arrays(boxes, [0, 1], ("a", "b"), (20, 30), masks=runs, areas=compute_areas(runs), **fields)


def test_getitem__selects_masks_with_boxes():
    single = make_instances(with_keypoints=True)[1]
    assert len(single) == len(single.masks) == len(single.keypoints) == 1
    assert single.dense()[0, 12, 15]
    assert len(make_instances()[np.zeros(2, bool)].masks) == 0
    assert Instances.concatenate([make_instances(), make_instances()[:1]]).dense().shape == (3, 20, 30)


def test_warp__masks_boxes_and_keypoints():
    warped = make_instances(with_keypoints=True).warp(np.array([[-1.0, 0, 30], [0, 1, 0]]), (20, 30))
    assert warped.boxes[0].tolist() == [20, 2, 27, 8]
    assert np.array_equal(warped.dense(), make_instances().dense()[..., ::-1])
    assert warped.keypoints[0].tolist() == [[25, 3, 2], [22, 6, 1], [26, 6, 2]], "left becomes right"


def test_warp__clipped_object_has_the_box_of_its_remaining_mask():
    warped = make_instances().warp(np.array([[1.0, 0, 0], [0, 1, 0]]), (14, 20))
    assert warped.boxes[1].tolist() == [12, 10, 20, 14]
    assert compute_areas(warped.masks).tolist() == [42, 8 * 4]


def test_warp__round_trip():
    warped = make_instances().warp(np.array([[3.0, 0, 7], [0, 2.0, 5]]), (60, 120))
    restored = warped.warp(np.array([[1 / 3, 0, -7 / 3], [0, 0.5, -2.5]]), (20, 30))
    assert np.array_equal(restored.dense(), make_instances().dense())
    assert np.allclose(restored.boxes, make_instances().boxes, atol=1e-4)


def test_crop_objects__image_and_alpha():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    first, second = make_instances().crop_objects(image)
    assert first.shape == (6, 7, 4) and second.shape == (9, 16, 4)
    assert np.array_equal(first[..., :3], image[2:8, 3:10]) and (first[..., 3] == 255).all()
    with pytest.raises(UsageError):
        make_instances().crop_objects()


def test_save__all_formats(tmp_path):
    instances = make_instances(with_keypoints=True)
    entry = instances.to_coco(7)[0]
    assert entry["segmentation"]["size"] == [20, 30] and len(entry["keypoints"]) == 9
    json.dumps(instances.to_dict(), allow_nan=False)
    json.dumps(instances.to_coco())
    for suffix in (".json", ".npz", ".png", ".txt"):
        instances.save(tmp_path / f"a{suffix}")
    assert Image.open(tmp_path / "a.png").size == (30, 20)
    label, *points = (tmp_path / "a.txt").read_text().splitlines()[0].split()
    assert label == "0" and len(points) >= 6
    assert str(np.load(tmp_path / "a.npz")["masks"][0]) == instances.masks[0]["counts"]


def test_draw__small_objects_are_over_large_ones_in_any_order():
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 5:55, 5:75] = True
    masks[1, 20:40, 30:50] = True
    runs, boxes = tuple(encode(mask) for mask in masks), [[5, 5, 75, 55], [30, 20, 50, 40]]
    instances = Instances.from_arrays(boxes, [0, 1], ("a", "b"), (60, 80), masks=runs, areas=compute_areas(runs))
    drawn = instances.draw(np.zeros((60, 80, 3), np.uint8))
    assert np.array_equal(drawn, instances[[1, 0]].draw(np.zeros((60, 80, 3), np.uint8)))
    assert np.abs(drawn[30, 40].astype(int) - drawn[10, 40]).sum() > 30, "the small object is visible"


def test_to_supervision__has_masks():
    pytest.importorskip("supervision")
    assert make_instances().to_supervision().mask.shape == (2, 20, 30)


def test_instances__empty():
    empty = Instances.from_arrays(
        [], [], ("a",), (1, 1), masks=(), keypoints=np.zeros((0, 3, 3), np.float32), skeleton=SKELETON
    )
    assert empty.dense().shape == (0, 1, 1)
    assert empty.to_polygons() == [] and empty.to_coco() == [] and empty.to_yolo() == ""
    assert len(empty.warp(np.eye(2, 3) * 2, (2, 2))) == 0
    assert empty.draw().shape == (1, 1, 3)


def test_to_pandas__masks_and_keypoints():
    pytest.importorskip("pandas")
    table = make_instances(with_keypoints=True).to_pandas()
    assert table["mask_area"].tolist() == [6 * 7, 9 * 16] and table["name"].tolist() == ["a", "b"]
    assert table["left_hand_x"].tolist() == [4, 14] and table["right_hand_visibility"].tolist() == [1, 0]
    assert "nose_x" not in make_instances().to_pandas()


def test_masks__missing_masks_are_an_error():
    boxes_only = Instances.from_arrays([[0, 0, 2, 2]], [0], ("a",), (3, 4), source=np.zeros((3, 4, 3), np.uint8))
    for method in (boxes_only.iterate_masks, boxes_only.to_polygons, boxes_only.crop_objects):
        with pytest.raises(UsageError, match="mask"):
            method()
