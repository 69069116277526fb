"""Errors of maps by part: what is planted in one part is found there and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.metrics.stratified_errors import PixelErrors, divisions, texture_of
from densevision.results import DepthMap, FlowField, Image, SemanticMap

SIZE = (40, 60)


def found(answer, truth, image=None) -> dict:
    errors = PixelErrors()
    errors.update(answer, truth, image, "x")
    return errors.tables()


def test_classes__confusions_cost_what_mending_them_brings() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 1
    labels[:10] = 2
    said = labels.copy()
    said[20:30, 40:50] = 0
    names = ("road", "tree", "sky")
    truth = SemanticMap(labels=labels, names=names, size=SIZE)
    tables = found(SemanticMap(labels=said, names=names, size=SIZE), truth)
    (title,) = (title for title in tables if title.startswith("confusions"))
    rows = tables[title]
    before = np.mean([900 / 1000, 800 / 900, 1])
    assert list(rows) == ["tree taken for road"] and rows["tree taken for road"]["pixels"] == 100
    assert rows["tree taken for road"]["cost in mIoU"] == pytest.approx(1 - before)
    assert f"{before:.4f}" in title and tables["by class"]["tree"]["wrong pixels"] == pytest.approx(1 / 9)
    assert tables["by class"]["road"]["share of error"] == 0


def test_borders__are_where_planted_errors_lie() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 1
    said = labels.copy()
    said[:, 29] = 1
    truth, answer = (SemanticMap(labels=x, names=("a", "b"), size=SIZE) for x in (labels, said))
    rows = found(answer, truth)["by distance to a border of classes [px]"]
    assert rows["below 1"] == pytest.approx({"wrong pixels": 0.5, "share of pixels": 2 / 60, "share of error": 1})
    assert rows["16 and more"]["wrong pixels"] == 0 and sum(r["share of pixels"] for r in rows.values()) == 1


def test_borders__with_unknown_pixels_are_none() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 255
    truth = SemanticMap(labels=labels, names=("a", "b"), size=SIZE)
    assert list(found(truth, truth)["by distance to a border of classes [px]"]) == ["16 and more"]


def test_flow__by_speed_occlusion_and_motion_border() -> None:
    flow = np.zeros((2, *SIZE), np.float32)
    flow[0, :, 30:] = 20
    hidden = np.zeros(SIZE, bool)
    hidden[:10] = True
    answer = flow.copy()
    answer[1, :10] += 2
    tables = found(FlowField.of(answer), FlowField.of(flow, occlusion=hidden))
    assert tables["by occlusion"]["occluded"]["end-point error"] == pytest.approx(2)
    assert tables["by occlusion"]["seen in both"]["share of error"] == 0
    assert set(tables["by speed [px]"]) == {"below 1", "10 to 40"}
    assert tables["by distance to a border of motion [px]"]["below 1"]["share of pixels"] == pytest.approx(2 / 60)


def test_depth__by_distance_and_texture() -> None:
    depth = np.full(SIZE, 3.0, np.float32)
    depth[:, 30:] = 30
    valid = np.ones(SIZE, bool)
    valid[0] = False
    answer = depth.copy()
    answer[:, 30:] *= 1.1
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 40:] = np.random.default_rng(0).integers(0, 256, (40, 20, 1))
    tables = found(DepthMap.of(answer), DepthMap.of(depth, valid), image)
    rows = tables["by distance [m]"]
    assert rows["20 to 40"]["relative error"] == pytest.approx(0.1, rel=1e-5) and rows["2 to 5"]["relative error"] == 0
    assert rows["20 to 40"]["share of pixels"] == 0.5 and rows["20 to 40"]["share of error"] == 1
    assert tables["by texture"]["flat"]["share of pixels"] > 0.6 and "strong" in tables["by texture"]
    assert "by texture" not in found(DepthMap.of(answer), DepthMap.of(depth, valid))


def test_images__by_their_own_texture() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 30:] = np.random.default_rng(0).integers(0, 256, (40, 30, 3))
    said = image.copy()
    said[:, 45:] //= 2
    rows = found(Image.of(said), Image.of(image))["by texture"]
    textured = sum(rows[part]["share of error"] for part in ("medium", "strong") if part in rows)
    assert textured > 0.95 and rows["flat"]["share of error"] == 0


def test_texture__of_a_ramp_is_its_slope() -> None:
    ramp = np.tile(np.arange(60) * 5.0, (40, 1))[..., None]
    np.testing.assert_allclose(texture_of(ramp)[5:-5, 5:-5], 5, rtol=1e-5)


def test_divisions__every_known_pixel_falls_into_one_part() -> None:
    rng = np.random.default_rng(0)
    ground_truths = [
        SemanticMap(labels=rng.integers(0, 3, SIZE).astype(np.uint8), names=("a", "b", "c"), size=SIZE),
        DepthMap.of(rng.uniform(0.2, 200, SIZE)),
        FlowField.of(rng.normal(0, 30, (2, *SIZE)), occlusion=rng.random(SIZE) < 0.5),
        Image.of(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)),
    ]
    for truth in ground_truths:
        for division in divisions(truth, rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)):
            assert division.place.min() >= 0 and division.place.max() < len(division.parts), division.title
