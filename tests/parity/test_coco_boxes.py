"""COCO's numbers equal pycocotools, from arrays and from files, over random sets full of odd cases."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.coco_files import score_files

pytestmark = pytest.mark.parity
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
BORDERS = (1024.0, np.nextafter(1024.0, 0), np.nextafter(1024.0, 1e9), 9216.0, np.nextafter(9216.0, 1e9))


class World:
    """A random dataset with predictions, as COCO holds them; boxes also as the corners that arrays come with."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        count, classes = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        self.image_ids = rng.choice(10_000, count, replace=False).tolist()
        self.category_ids = rng.choice(np.arange(1, 200), classes, replace=False).tolist()
        # The last class may have predictions but no truth.
        self.true_classes = self.category_ids[: max(1, classes - int(rng.integers(0, 2)))]
        self.truths, self.predictions, self.corners = [], [], {}
        kind = rng.random()
        for image in self.image_ids:
            if kind > 0.04 and rng.random() > 0.2:
                self.add_truths(image)
            if kind < 0.96 and rng.random() > 0.15:
                self.add_predictions(image)
        # Files come in any order; within one picture the order of equal scores matters and is kept by both tools.
        rng.shuffle(self.predictions)

    def box(self, corners, record):
        corners = np.asarray(corners, np.float64)
        record["bbox"] = [*corners[:2].tolist(), *(corners[2:] - corners[:2]).tolist()]
        self.corners[id(record)] = corners
        return record

    def side(self):
        return (
            float(self.rng.choice([0.0, 1.0, 32.0, 96.0])) if self.rng.random() < 0.15 else self.rng.lognormal(3.5, 1)
        )

    def add_truths(self, image):
        rng = self.rng
        for _ in range(rng.poisson(4)):
            x, y = rng.uniform(0, 300, 2)
            record = {"id": len(self.truths) + 1, "image_id": image, "category_id": int(rng.choice(self.true_classes))}
            record = self.box([x, y, x + self.side(), y + self.side()], record)
            area = record["bbox"][2] * record["bbox"][3] * rng.uniform(0.4, 1)
            record["area"] = float(rng.choice(BORDERS)) if rng.random() < 0.2 else float(area)
            record["iscrowd"] = int(rng.random() < 0.12)
            self.truths.append(record)

    def add_predictions(self, image):
        rng = self.rng
        mine = [truth for truth in self.truths if truth["image_id"] == image]
        # More than 100 of one class, now and then.
        for _ in range(int(rng.integers(110, 160)) if rng.random() < 0.1 else int(rng.integers(0, 40))):
            if mine and rng.random() < 0.6:
                truth = mine[rng.integers(len(mine))]
                corners = self.corners[id(truth)] + rng.normal(0, 4, 4) * (rng.random() < 0.8)
                label = truth["category_id"] if rng.random() < 0.9 else rng.choice(self.category_ids)
            else:
                corners = np.tile(rng.uniform(-20, 300, 2), 2) + np.array([0, 0, self.side(), self.side()])
                label = rng.choice(self.category_ids)
            corners[2:] = np.maximum(corners[2:], corners[:2])
            score = float(np.round(rng.random(), 1 if rng.random() < 0.7 else 6))
            record = {"image_id": image, "category_id": int(label), "score": score}
            self.predictions.append(self.box(corners, record))

    def truth(self):
        images = [{"id": image, "width": 320, "height": 320, "file_name": f"{image}.jpg"} for image in self.image_ids]
        names = [{"id": category, "name": f"class {category}"} for category in self.category_ids]
        return {"info": {}, "images": images, "annotations": self.truths, "categories": names}

    def records(self, image, entries):
        """What a metric sees of one picture."""
        mine = [entry for entry in entries if entry["image_id"] == image]
        return SimpleNamespace(
            size=(320, 320),
            boxes=np.array([self.corners[id(entry)] for entry in mine]).reshape(-1, 4),
            labels=np.array([self.category_ids.index(entry["category_id"]) for entry in mine], int),
            scores=np.array([entry.get("score", 1) for entry in mine]),
            areas=np.array([entry.get("area", 0) for entry in mine]),
            crowd=np.array([entry.get("iscrowd", 0) for entry in mine], bool),
            masks=[entry.get("segmentation") for entry in mine],
        )


def reference(truth, predictions, iou_type="bbox"):
    """pycocotools' evaluation; its own loader fails on an empty list of predictions."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = json.loads(json.dumps(truth))
        objects.createIndex()
        found = COCO()
        found.dataset = dict(objects.dataset, annotations=[])
        found.createIndex()
        if predictions:
            found = objects.loadRes(json.loads(json.dumps(predictions)))
        evaluation = COCOeval(objects, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def from_files(folder, truth, predictions, iou_type="bbox"):
    paths = folder / "truth.json", folder / "predictions.json"
    for path, data in zip(paths, (truth, predictions)):
        path.write_text(json.dumps(data))
    return score_files(*paths, iou_type=iou_type)


def from_arrays(world, iou_type="bbox"):
    metric = AveragePrecision([f"class {category}" for category in world.category_ids], iou_type)
    for image in world.rng.permutation(world.image_ids).tolist():
        answer, truth = (world.records(image, entries) for entries in (world.predictions, world.truths))
        metric.update(answer, truth, image)
    return metric


def assert_equal(numbers, stats):
    assert list(numbers) == METRICS
    found, expected = np.array(list(numbers.values())), np.where(stats == -1, np.nan, stats)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(210))
def test_boxes__equal_pycocotools(seed, tmp_path):
    world = World(seed)
    evaluation = reference(world.truth(), world.predictions)
    report = from_files(tmp_path, world.truth(), world.predictions)
    metric = from_arrays(world)
    assert_equal(report["metrics"], evaluation.stats)
    assert_equal(metric.compute(), evaluation.stats)

    precision = evaluation.eval["precision"]
    for index, category in enumerate(sorted(world.category_ids)):
        expected = precision[:, :, index, 0, -1].mean()
        for rows in (report["tables"]["per class"], metric.per_class()):
            found = rows[f"class {category}"]["AP"]
            np.testing.assert_allclose(found, np.nan if expected == -1 else expected, rtol=0, atol=1e-9)
    counts = {name: number for name, number in report["counts"].items() if name != "images"}
    assert counts == metric.counts()


def test_worlds__hold_every_odd_case():
    worlds = [World(seed) for seed in range(210)]
    truths = [truth for world in worlds for truth in world.truths]
    pairs = Counter((n, p["image_id"], p["category_id"]) for n, world in enumerate(worlds) for p in world.predictions)
    assert any(not world.truths for world in worlds) and any(not world.predictions for world in worlds)
    assert sum(truth["iscrowd"] for truth in truths) > 50 and max(pairs.values()) > 100
    assert {truth["area"] for truth in truths} >= set(BORDERS) and any(0 in truth["bbox"][2:] for truth in truths)
    assert any(category not in {t["category_id"] for t in w.truths} for w in worlds for category in w.category_ids)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("boxed", [False, True])
def test_masks__equal_pycocotools(seed, boxed, tmp_path):
    world = World(seed)
    for entry in (*world.truths, *world.predictions):
        x1, y1, x2, y2 = world.corners[id(entry)].round().astype(int).clip(0, 320)
        mask = np.zeros((320, 320), np.uint8, order="F")
        mask[y1:y2, x1 : x2 + 1] = 1
        mask[(y1 + y2) // 2 :, (x1 + x2) // 2 :] = 0
        encoded = rle.encode(mask)
        entry["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    # Results with a box are sized by it, results without one by their mask; arrays are sized by their masks.
    predictions = [{k: v for k, v in entry.items() if boxed or k != "bbox"} for entry in world.predictions]
    stats = reference(world.truth(), predictions, "segm").stats
    assert_equal(from_files(tmp_path, world.truth(), predictions, "segm")["metrics"], stats)
    if not boxed:
        assert_equal(from_arrays(world, "segm").compute(), stats)
