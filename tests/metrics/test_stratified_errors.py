"""Stratified errors: errors planted in one stratum are reported there and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.metrics.stratified_errors import StratifiedErrors, compute_texture, stratify
from densevision.results import DepthMap, FlowField, Image, SemanticMap

SIZE = (40, 60)


def tabulate(prediction, truth, image=None) -> dict:
    errors = StratifiedErrors()
    errors.update(prediction, truth, image, "x")
    return errors.tables()


def test_classes__cost_of_a_confusion() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 1
    labels[:10] = 2
    predicted = labels.copy()
    predicted[20:30, 40:50] = 0
    names = ("road", "tree", "sky")
    truth = SemanticMap(labels=labels, names=names, size=SIZE)
    tables = tabulate(SemanticMap(labels=predicted, names=names, size=SIZE), truth)
    (title,) = (title for title in tables if title.startswith("confusions"))
    rows = tables[title]
    before = np.mean([900 / 1000, 800 / 900, 1])
    assert list(rows) == ["tree taken for road"] and rows["tree taken for road"]["pixels"] == 100
    assert rows["tree taken for road"]["cost in mIoU"] == pytest.approx(1 - before)
    assert f"{before:.4f}" in title and tables["by class"]["tree"]["wrong pixels"] == pytest.approx(1 / 9)
    assert tables["by class"]["road"]["share of error"] == 0


def test_boundaries__planted_errors() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 1
    predicted = labels.copy()
    predicted[:, 29] = 1
    truth, prediction = (SemanticMap(labels=x, names=("a", "b"), size=SIZE) for x in (labels, predicted))
    rows = tabulate(prediction, truth)["by distance to a border of classes [px]"]
    assert rows["below 1"] == pytest.approx({"wrong pixels": 0.5, "share of pixels": 2 / 60, "share of error": 1})
    assert rows["16 and more"]["wrong pixels"] == 0 and sum(r["share of pixels"] for r in rows.values()) == 1


def test_boundaries__unknown_pixels_are_none() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 30:] = 255
    truth = SemanticMap(labels=labels, names=("a", "b"), size=SIZE)
    assert list(tabulate(truth, truth)["by distance to a border of classes [px]"]) == ["16 and more"]


def test_flow__by_speed_occlusion_and_motion_boundary() -> None:
    flow = np.zeros((2, *SIZE), np.float32)
    flow[0, :, 30:] = 20
    hidden = np.zeros(SIZE, bool)
    hidden[:10] = True
    prediction = flow.copy()
    prediction[1, :10] += 2
    tables = tabulate(FlowField.from_arrays(prediction), FlowField.from_arrays(flow, occlusion=hidden))
    assert tables["by occlusion"]["occluded"]["end-point error"] == pytest.approx(2)
    assert tables["by occlusion"]["seen in both"]["share of error"] == 0
    assert set(tables["by speed [px]"]) == {"below 1", "10 to 40"}
    assert tables["by distance to a border of motion [px]"]["below 1"]["share of pixels"] == pytest.approx(2 / 60)


def test_depth__by_distance_and_texture() -> None:
    depth = np.full(SIZE, 3.0, np.float32)
    depth[:, 30:] = 30
    valid = np.ones(SIZE, bool)
    valid[0] = False
    prediction = depth.copy()
    prediction[:, 30:] *= 1.1
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 40:] = np.random.default_rng(0).integers(0, 256, (40, 20, 1))
    tables = tabulate(DepthMap.from_arrays(prediction), DepthMap.from_arrays(depth, valid), image)
    rows = tables["by distance [m]"]
    assert rows["20 to 40"]["relative error"] == pytest.approx(0.1, rel=1e-5) and rows["2 to 5"]["relative error"] == 0
    assert rows["20 to 40"]["share of pixels"] == 0.5 and rows["20 to 40"]["share of error"] == 1
    assert tables["by texture"]["flat"]["share of pixels"] > 0.6 and "strong" in tables["by texture"]
    assert "by texture" not in tabulate(DepthMap.from_arrays(prediction), DepthMap.from_arrays(depth, valid))


def test_images__by_texture() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, 30:] = np.random.default_rng(0).integers(0, 256, (40, 30, 3))
    predicted = image.copy()
    predicted[:, 45:] //= 2
    rows = tabulate(Image.from_source(predicted), Image.from_source(image))["by texture"]
    textured = sum(rows[part]["share of error"] for part in ("medium", "strong") if part in rows)
    assert textured > 0.95 and rows["flat"]["share of error"] == 0


def test_texture__ramp() -> None:
    ramp = np.tile(np.arange(60) * 5.0, (40, 1))[..., None]
    np.testing.assert_allclose(compute_texture(ramp)[5:-5, 5:-5], 5, rtol=1e-5)


def test_stratify__every_pixel_has_one_stratum() -> None:
    rng = np.random.default_rng(0)
    target_records = [
        SemanticMap(labels=rng.integers(0, 3, SIZE).astype(np.uint8), names=("a", "b", "c"), size=SIZE),
        DepthMap.from_arrays(rng.uniform(0.2, 200, SIZE)),
        FlowField.from_arrays(rng.normal(0, 30, (2, *SIZE)), occlusion=rng.random(SIZE) < 0.5),
        Image.from_source(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)),
    ]
    for truth in target_records:
        for part in stratify(truth, rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)):
            assert part.stratum.min() >= 0 and part.stratum.max() < len(part.names), part.title
