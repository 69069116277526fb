"""Boxes, masks and keypoints: positions, unchanged pixels, and labels without overlaps."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from densevision.draw.colors import get_class_color
from densevision.draw.shapes import draw_boxes, draw_keypoints, draw_masks
from densevision.draw.tags import Tag, draw_tags
from densevision.errors import DataError

NAMES = ("person", "traffic light", "Fußgänger mit Kinderwagen auf der linken Straßenseite", "人", "")


def _photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _boxes(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(-0.1, 1.1, (count, 2, 2)) * (width, height)
    return np.concatenate([corners.min(1), corners.max(1)], 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (40, 60), (480, 640)])
def test_draw_boxes__new_image_of_the_same_size_and_unchanged_input(size):
    photo = _photo(*size)
    before = photo.copy()
    labels = np.arange(30) % len(NAMES)
    drawn = draw_boxes(photo, _boxes(30, *size), labels, NAMES, np.linspace(0, 1, 30))
    assert drawn.shape == photo.shape and drawn.dtype == np.uint8
    np.testing.assert_array_equal(photo, before)
    assert (drawn != photo).any()


@pytest.mark.parametrize("draw", [draw_boxes, draw_masks])
def test_draw__no_objects_keep_the_image(draw):
    photo = _photo(50, 70)
    empty = np.zeros((0, 4) if draw is draw_boxes else (0, 50, 70))
    drawn = draw(photo, empty, np.zeros(0, int), NAMES, np.zeros(0))
    np.testing.assert_array_equal(drawn, photo)
    assert not np.shares_memory(drawn, photo)


def test_draw_boxes__lines_lie_on_the_edges():
    drawn = draw_boxes(np.zeros((40, 60, 3), np.uint8), np.array([[10, 8, 50, 32.0]]), [1], NAMES)
    touched = drawn.max(2) > 50
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    # A line about the edge x = 10 covers the pixels on both sides of it, 9 and 10.
    assert (columns[0], columns[-1], rows[0], rows[-1]) == (9, 50, 7, 32)
    assert not drawn[10:30, 12:48].any()


def test_draw_boxes__small_box_is_drawn_over_large_one():
    boxes = np.array([[20, 20, 40, 40.0], [20, 5, 150, 90]])
    drawn = draw_boxes(np.zeros((100, 160, 3), np.uint8), boxes, [0, 1], ("", ""))
    shared_edge = drawn[25:35, 19:21].reshape(-1, 3)
    assert (shared_edge[:, 0] > shared_edge[:, 2]).all()  # orange, not sky blue


def test_draw_boxes__scores_are_written_unless_all_are_one():
    photo, boxes = np.zeros((200, 300, 3), np.uint8), np.array([[50, 50, 250, 150.0]])
    ground_truth = draw_boxes(photo, boxes, [0], NAMES)
    np.testing.assert_array_equal(draw_boxes(photo, boxes, [0], NAMES, np.ones(1)), ground_truth)
    assert (draw_boxes(photo, boxes, [0], NAMES, np.full(1, 0.5)) != ground_truth).any()


def test_draw_boxes__not_finite_and_far_outside_are_skipped():
    photo = _photo(50, 70)
    boxes = np.array([[np.nan, 0, 5, 5], [0, 0, np.inf, 5], [1e12, 1e12, 2e12, 2e12], [-1e9, -9e8, -1e8, -1e8]])
    drawn = draw_boxes(photo, boxes, np.zeros(4, int), ("",), np.full(4, np.nan))
    np.testing.assert_array_equal(drawn, photo)


def test_draw_boxes__class_without_a_name_shows_its_index():
    photo, boxes = np.zeros((200, 300, 3), np.uint8), np.array([[50, 50, 250, 150.0]])
    np.testing.assert_array_equal(
        draw_boxes(photo, boxes, [1], ("person",)), draw_boxes(photo, boxes, [1], ("person", "1"))
    )


@pytest.mark.parametrize(("shape", "kind"), [((9, 9), "u1"), ((9, 9, 4), "u1"), ((9, 9, 3), "f4"), ((0, 9, 3), "u1")])
def test_draw_boxes__unsupported_images_are_refused(shape, kind):
    with pytest.raises(DataError, match="to_display"):
        draw_boxes(np.zeros(shape, kind), np.zeros((0, 4)), [])


def test_draw_tags__stay_inside_without_overlaps():
    rng = np.random.default_rng(1)
    canvas = np.zeros((300, 400, 3), np.uint8)
    boxes = _boxes(80, 300, 400, seed=2)
    colors = [(40 + 2 * index, 255, 255 - index) for index in range(80)]
    tags = [Tag("thing", f"{rng.random():.2f}", c, tuple(box), rng.random()) for c, box in zip(colors, boxes.tolist())]
    draw_tags(canvas, tags)
    tag_boxes = []
    for color in colors:
        rows, columns = np.nonzero((canvas == color).all(2))
        if len(rows):
            tag_boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    assert len(tag_boxes) > 10
    for a, b in itertools.combinations(tag_boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    assert len({tag_box[3] - tag_box[1] for tag_box in tag_boxes}) == 1, "a tag_box was cut off"
    assert (canvas.any(2)).mean() < 0.25, "tags hide little of the image"


def test_draw_tags__highest_weight_is_placed_first():
    canvas = np.zeros((60, 60, 3), np.uint8)
    box = (0.0, 0.0, 60.0, 60.0)
    draw_tags(canvas, [Tag("aaaaaa", "", (255, 0, 0), box, 0.1), Tag("bbbbbb", "", (0, 255, 0), box, 0.9)])
    assert (canvas == (0, 255, 0)).all(2).any()


def test_draw_masks__inside_is_blended_and_outside_is_unchanged():
    photo = _photo(120, 160)
    mask = np.zeros((120, 160), bool)
    mask[30:90, 40:120] = True
    drawn = draw_masks(photo, iter([mask]), [0], ("",))
    blended = photo[33:87, 43:117] * 0.55 + np.array(get_class_color(0)) * 0.45
    assert np.abs(drawn[33:87, 43:117] - blended).max() <= 0.5
    outside = np.ones((120, 160), bool)
    outside[28:92, 38:122] = False
    outside[:30] &= np.arange(160) < 38  # where the tag may be
    np.testing.assert_array_equal(drawn[outside], photo[outside])


def test_draw_masks__accepts_a_generator_and_keeps_the_masks():
    photo = _photo(64, 64)
    masks = [np.random.default_rng(seed).random((64, 64)) > 0.5 for seed in range(5)]
    masks += [np.zeros((64, 64), bool), np.ones((64, 64), bool), np.ones((64, 64), np.uint8)]
    before = [mask.copy() for mask in masks]
    drawn = draw_masks(photo, (mask for mask in masks), np.zeros(8, int), NAMES, np.linspace(0, 1, 8))
    assert drawn.shape == photo.shape
    for mask, unchanged in zip(masks, before):
        np.testing.assert_array_equal(mask, unchanged)


def test_draw_masks__objects_of_one_class_differ_in_shade():
    masks = np.zeros((2, 40, 80), bool)
    masks[0, :, :40] = masks[1, :, 40:] = True
    drawn = draw_masks(np.zeros((40, 80, 3), np.uint8), masks, [0, 0], ("",))
    assert (drawn[20, 20] != drawn[20, 60]).any()


def test_draw_masks__one_pixel():
    drawn = draw_masks(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 1), bool), [0], NAMES)
    assert drawn.any()


def test_draw_keypoints__edges_connect_visible_points():
    photo = np.zeros((100, 100, 3), np.uint8)
    points = np.array([[[20.5, 50.5], [80.5, 50.5], [50.5, 90.5]]])
    drawn = draw_keypoints(photo, points, np.array([[True, True, False]]), [(0, 1), (1, 2)])
    assert tuple(drawn[50, 50]) == get_class_color(0)
    assert not drawn[60:].any() and not photo.any()


def test_draw_keypoints__none_keep_the_image():
    photo = _photo(20, 20)
    drawn = draw_keypoints(photo, np.zeros((0, 17, 2)), np.zeros((0, 17), bool), [(0, 1)])
    np.testing.assert_array_equal(drawn, photo)
    drawn = draw_keypoints(photo, np.full((1, 2, 2), np.nan), np.ones((1, 2), bool), [(0, 1)])
    np.testing.assert_array_equal(drawn, photo)


def test_draw__imports_neither_torch_nor_matplotlib():
    modules = "shapes, fields, plots, contact_sheet, html_page"
    code = f"import sys; from densevision.draw import {modules}; print({{'torch', 'matplotlib'}} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "set()"
