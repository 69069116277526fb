"""COCO's metrics equal pycocotools, from arrays and from files, on random datasets with many special cases."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from certificates.coco_world import BORDERS, World, evaluate_arrays, evaluate_pycocotools
from pycocotools import mask as rle

from densevision.metrics.coco_files import score_files

pytestmark = pytest.mark.parity
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def evaluate_files(folder, truth, predictions, iou_type="bbox"):
    paths = folder / "truth.json", folder / "predictions.json"
    for path, data in zip(paths, (truth, predictions)):
        path.write_text(json.dumps(data))
    return score_files(*paths, iou_type=iou_type)


def assert_equal(numbers, stats):
    assert list(numbers) == METRICS
    result, expected = np.array(list(numbers.values())), np.where(stats == -1, np.nan, stats)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(210))
def test_boxes__equal_pycocotools(seed, tmp_path):
    world = World(seed)
    evaluation = evaluate_pycocotools(world.truth(), world.predictions)
    report = evaluate_files(tmp_path, world.truth(), world.predictions)
    metric = evaluate_arrays(world)
    assert_equal(report["metrics"], evaluation.stats)
    assert_equal(metric.compute(), evaluation.stats)

    precision = evaluation.eval["precision"]
    for index, category in enumerate(sorted(world.category_ids)):
        expected = precision[:, :, index, 0, -1].mean()
        for rows in (report["tables"]["per class"], metric.per_class()):
            result = rows[f"class {category}"]["AP"]
            np.testing.assert_allclose(result, np.nan if expected == -1 else expected, rtol=0, atol=1e-9)
    counts = {name: number for name, number in report["counts"].items() if name != "images"}
    assert counts == metric.counts()


def test_worlds__contain_every_special_case():
    worlds = [World(seed) for seed in range(210)]
    target_records = [truth for world in worlds for truth in world.target_records]
    pairs = Counter((n, p["image_id"], p["category_id"]) for n, world in enumerate(worlds) for p in world.predictions)
    assert any(not world.target_records for world in worlds) and any(not world.predictions for world in worlds)
    assert sum(truth["iscrowd"] for truth in target_records) > 50 and max(pairs.values()) > 100
    assert {truth["area"] for truth in target_records} >= set(BORDERS) and any(
        0 in truth["bbox"][2:] for truth in target_records
    )
    assert any(
        category not in {t["category_id"] for t in w.target_records} for w in worlds for category in w.category_ids
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("boxed", [False, True])
def test_masks__equal_pycocotools(seed, boxed, tmp_path):
    world = World(seed)
    for entry in (*world.target_records, *world.predictions):
        x1, y1, x2, y2 = world.corners[id(entry)].round().astype(int).clip(0, 320)
        mask = np.zeros((320, 320), np.uint8, order="F")
        mask[y1:y2, x1 : x2 + 1] = 1
        mask[(y1 + y2) // 2 :, (x1 + x2) // 2 :] = 0
        encoded = rle.encode(mask)
        entry["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    # pycocotools takes the area of a result's box if there is one, else of its mask; arrays take that of the mask.
    predictions = [{k: v for k, v in entry.items() if boxed or k != "bbox"} for entry in world.predictions]
    stats = evaluate_pycocotools(world.truth(), predictions, "segm").stats
    assert_equal(evaluate_files(tmp_path, world.truth(), predictions, "segm")["metrics"], stats)
    if not boxed:
        assert_equal(evaluate_arrays(world, "segm").compute(), stats)
        around = evaluate_pycocotools(world.truth(), predictions, "bbox").stats
        assert_equal(evaluate_files(tmp_path, world.truth(), predictions, "bbox")["metrics"], around)
