"""Per-pixel fields as colors: published colors of the flow wheel, ticks of the depth bar, and drawing in strips."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.draw import canvas as canvas_module
from densevision.draw import fields
from densevision.draw.colors import INVALID_COLOR, apply_colormap, build_palette, get_class_color
from densevision.draw.fields import (
    build_flow_wheel,
    draw_arrows,
    draw_depth,
    draw_flow,
    draw_occlusion,
    draw_semantic,
    flow_to_rgb,
)
from densevision.draw.legends import _compute_ticks, draw_class_legend

# Colors of flow_vis 0.1 for these displacements, scaled by ten pixels.
DIRECTIONS = [[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [0.5, 0], [0, -0.25], [0, 0]]
FLOW_VIS = [[255, 74, 74], [255, 114, 0], [255, 236, 74], [32, 255, 0], [74, 222, 255], [0, 52, 255]]
FLOW_VIS += [[136, 74, 255], [220, 0, 255], [255, 164, 164], [225, 209, 255], [255, 255, 255]]
NAMES = ("sky", "road", "car")


def _photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# -- flow --------------------------------------------------------------------------------------------------------------


def test_build_flow_wheel__known_hues():
    wheel = (build_flow_wheel() * 255).round().astype(int)
    assert len(wheel) == 55
    known = {0: (255, 0, 0), 1: (255, 17, 0), 7: (255, 119, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255)}
    known |= {36: (0, 0, 255), 49: (255, 0, 255), 54: (255, 0, 43)}
    for index, hue in known.items():
        assert tuple(wheel[index]) == hue


def test_draw_flow__equals_flow_vis():
    flow = 10 * np.array(DIRECTIONS).T[:, None]
    np.testing.assert_array_equal(draw_flow(flow, legend=False)[0], FLOW_VIS)


@pytest.mark.parity
def test_draw_flow__equals_torchvision():
    import torch
    from torchvision.utils import flow_to_image

    flow = np.random.default_rng(0).normal(0, 8, (2, 40, 50)).astype(np.float32)
    expected = flow_to_image(torch.from_numpy(flow)).permute(1, 2, 0).numpy()
    # torchvision divides by the largest speed, to which flow_vis adds 1e-5: at most one level of difference.
    assert np.abs(draw_flow(flow, legend=False).astype(int) - expected).max() <= 1


def test_flow_to_rgb__beyond_the_limit_is_darkened():
    at_limit, beyond = (flow_to_rgb(np.full((2, 1, 1), [[[length]], [[0.0]]]), 5.0)[0, 0] for length in (5.0, 50.0))
    assert tuple(at_limit) == (255, 0, 0) and tuple(beyond) == (191, 0, 0)


def test_draw_flow__invalid_pixels_are_gray_and_do_not_set_the_limit():
    flow = np.ones((2, 30, 40), np.float32)
    flow[:, 3, 3] = np.nan
    flow[:, 4, 4] = 1e9
    valid = np.ones((30, 40), bool)
    valid[4, 4] = False
    drawn = draw_flow(flow, valid, legend=False)
    assert tuple(drawn[3, 3]) == tuple(drawn[4, 4]) == INVALID_COLOR
    np.testing.assert_array_equal(drawn[0, 0], draw_flow(np.ones((2, 1, 1)), legend=False)[0, 0])


def test_draw_flow__explicit_limit_fixes_the_colors():
    slow, fast = np.full((2, 4, 4), 1.0), np.full((2, 4, 4), 1.0)
    fast[:, 0, 0] = 3
    np.testing.assert_array_equal(
        draw_flow(slow, limit=5, legend=False)[1:], draw_flow(fast, limit=5, legend=False)[1:]
    )
    assert (draw_flow(slow, legend=False)[1:] != draw_flow(fast, legend=False)[1:]).any()


def test_draw_flow__wheel_shows_directions():
    drawn = draw_flow(np.full((2, 400, 600), 2.0))
    changed = (drawn != drawn[0, 0]).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    legend = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    assert rows[0] > 200 and columns[0] > 300, "the legend is in the lower right corner"
    redness, blueness = legend[..., 0] - legend[..., 2], legend[..., 2] - legend[..., 0]
    across = np.arange(legend.shape[1])
    assert (redness.clip(0) * across).sum() / redness.clip(0).sum() > (
        (blueness.clip(0) * across).sum() / blueness.clip(0).sum()
    ), "red means to the right"


def test_draw_arrows__point_along_the_flow():
    flow = np.zeros((2, 100, 100))
    flow[0, 40:60, 40:60] = 4
    drawn = draw_arrows(np.zeros((100, 100, 3), np.uint8), flow)
    columns = np.flatnonzero((drawn[..., 0] > 100).any(0))
    assert columns[0] >= 38 and columns[-1] >= 58 and not drawn[:, :35].any()


@pytest.mark.parametrize("flow", [np.zeros((2, 30, 40)), np.full((2, 30, 40), np.nan)])
def test_draw_arrows__no_motion(flow):
    photo = _photo(30, 40)
    np.testing.assert_array_equal(draw_arrows(photo, flow), photo)


def test_draw_occlusion__tints_only_occluded_pixels():
    photo, occluded = _photo(40, 60), np.zeros((40, 60), bool)
    np.testing.assert_array_equal(draw_occlusion(photo, occluded), photo)
    occluded[10:20, 10:30] = True
    drawn = draw_occlusion(photo, occluded)
    mixed = photo[12:18, 12:28] * 0.5 + np.array(fields.OCCLUSION_COLOR) * 0.5
    assert np.abs(drawn[12:18, 12:28] - mixed).max() <= 0.5
    np.testing.assert_array_equal(drawn[25:], photo[25:])


# -- depth -------------------------------------------------------------------------------------------------------------


def test_draw_depth__near_is_warm_for_depth_and_disparity():
    depth = np.array([[1.0, 10.0]])
    np.testing.assert_array_equal(draw_depth(depth, limits=(1, 10))[0], apply_colormap(np.array([[1.0, 0.0]]))[0])
    disparity = draw_depth(1 / depth, kind="disparity", limits=(0.1, 1))
    np.testing.assert_array_equal(disparity[0], apply_colormap(np.array([[1.0, 0.0]]))[0])


def test_draw_depth__invalid_pixels_are_gray_and_outliers_do_not_set_the_range():
    depth = np.random.default_rng(0).uniform(2, 4, (50, 60))
    clean = draw_depth(depth, limits=(2, 4), legend=False)
    depth[0, 0], depth[0, 1], depth[0, 2], depth[0, 3] = np.nan, np.inf, 1e6, 0
    valid = np.ones(depth.shape, bool)
    valid[0, 3] = False
    drawn = draw_depth(depth, valid, legend=False)
    assert [tuple(drawn[0, column]) for column in (0, 1, 3)] == [INVALID_COLOR] * 3
    assert np.abs(drawn[1:].astype(int) - clean[1:]).mean() < 12


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (300, 400)])
@pytest.mark.parametrize("value", [0.0, -3.0, 5.5, np.nan])
def test_draw_depth__constant_or_invalid(size, value):
    depth = np.full(size, value, np.float32)
    drawn = draw_depth(depth)
    assert drawn.shape == (*size, 3) and drawn.dtype == np.uint8
    if np.isnan(value):
        assert (drawn == INVALID_COLOR).all()
    else:
        assert len(np.unique(draw_depth(depth, legend=False).reshape(-1, 3), axis=0)) == 1


def test_draw_depth__color_bar_needs_space():
    depth = np.linspace(1, 9, 300 * 400).reshape(300, 400)
    differs = (draw_depth(depth) != draw_depth(depth, legend=False)).any(2)
    rows, columns = np.nonzero(differs)
    assert rows.min() > 150 and columns.min() > 150
    small = depth[:20, :30]
    np.testing.assert_array_equal(draw_depth(small), draw_depth(small, legend=False))


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (0.83, 2.31, ["1.0", "1.5", "2.0"]),
        (-0.5, 0.5, ["-0.4", "-0.2", "0.0", "0.2", "0.4"]),
        (30, 1200, ["500", "1000"]),
        (0.001, 0.0035, ["0.0010", "0.0015", "0.0020", "0.0025", "0.0030", "0.0035"]),
    ],
)
def test_compute_ticks__round_numbers_inside_the_range(low, high, texts):
    values, labels = _compute_ticks(low, high)
    assert labels == texts
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    np.testing.assert_allclose([float(text) for text in labels], values, atol=1e-12)


# -- classes -----------------------------------------------------------------------------------------------------------


def test_draw_semantic__tints_by_class_and_keeps_ignored_pixels():
    photo, labels = _photo(40, 60), np.zeros((40, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:], labels[0, 0] = 2, 255, 7
    before = photo.copy()
    drawn = draw_semantic(photo, labels, NAMES, legend=False)
    np.testing.assert_array_equal(photo, before)
    for columns, label in ((slice(2, 19), 0), (slice(21, 39), 2)):
        mixed = photo[2:38, columns] * 0.4 + np.array(get_class_color(label)) * 0.6
        assert np.abs(drawn[2:38, columns] - mixed).max() <= 1
    np.testing.assert_array_equal(drawn[:, 40:], photo[:, 40:])
    np.testing.assert_array_equal(drawn[0, 0], photo[0, 0])
    assert (drawn[:, 19] == get_class_color(0)).all(1).sum() == 40, "the border is in full color"


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (200, 300)])
def test_draw_semantic__all_ignored_keeps_the_image(size):
    photo = _photo(*size)
    np.testing.assert_array_equal(draw_semantic(photo, np.full(size, 255), NAMES), photo)


def test_draw_semantic__legend_shows_present_classes():
    photo = np.zeros((300, 400, 3), np.uint8)
    drawn = draw_semantic(photo, np.full((300, 400), 1), NAMES)
    assert (drawn[150:, :200] == get_class_color(1)).all(2).any()
    assert not (drawn[150:, :200] == get_class_color(0)).all(2).any()


def test_draw_class_legend__limited_by_space():
    canvas = np.full((200, 300, 3), 90, np.uint8)
    entries = [(f"class {index}", tuple(build_palette(100)[index].tolist())) for index in range(100)]
    draw_class_legend(canvas, entries)
    shown = [color for _, color in entries if (canvas == color).all(2).any()]
    assert 2 <= len(shown) < 10 and shown == [color for _, color in entries[: len(shown)]]


def test_fields__strips_are_seamless(monkeypatch):
    rng = np.random.default_rng(0)
    labels, depth, flow = rng.integers(0, 4, (50, 40)), rng.random((50, 40)), rng.normal(size=(2, 50, 40))
    occluded = depth > 0.5
    photo = _photo(50, 40)

    def draw_all():
        tinted = draw_semantic(photo, labels, NAMES, ignore=3), draw_occlusion(photo, occluded)
        return *tinted, draw_depth(depth, occluded), draw_flow(flow, occluded)

    expected = draw_all()
    monkeypatch.setattr(canvas_module, "STRIP_PIXELS", 100)
    for image, other in zip(expected, draw_all(), strict=True):
        np.testing.assert_array_equal(image, other)
