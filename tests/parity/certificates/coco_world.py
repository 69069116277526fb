"""Random COCO datasets with many special cases, and their evaluation by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevision.metrics.average_precision import AveragePrecision

BORDERS = (1024.0, np.nextafter(1024.0, 0), np.nextafter(1024.0, 1e9), 9216.0, np.nextafter(9216.0, 1e9))


class World:
    """A random dataset with predictions in COCO's format; boxes also as corners."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        count, classes = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        self.image_ids = rng.choice(10_000, count, replace=False).tolist()
        self.category_ids = rng.choice(np.arange(1, 200), classes, replace=False).tolist()
        # The last class may have predictions but no truth.
        self.true_classes = self.category_ids[: max(1, classes - int(rng.integers(0, 2)))]
        self.target_records, self.predictions, self.corners = [], [], {}
        kind = rng.random()
        for image in self.image_ids:
            if kind > 0.04 and rng.random() > 0.2:
                self.add_target_records(image)
            if kind < 0.96 and rng.random() > 0.15:
                self.add_predictions(image)
        # Files come in any order; within one image the order of equal scores matters and is kept by both tools.
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

    def add_target_records(self, image):
        rng = self.rng
        for _ in range(rng.poisson(4)):
            x, y = rng.uniform(0, 300, 2)
            record = {
                "id": len(self.target_records) + 1,
                "image_id": image,
                "category_id": int(rng.choice(self.true_classes)),
            }
            record = self.box([x, y, x + self.side(), y + self.side()], record)
            area = record["bbox"][2] * record["bbox"][3] * rng.uniform(0.4, 1)
            record["area"] = float(rng.choice(BORDERS)) if rng.random() < 0.2 else float(area)
            record["iscrowd"] = int(rng.random() < 0.12)
            self.target_records.append(record)

    def add_predictions(self, image):
        rng = self.rng
        own = [truth for truth in self.target_records if truth["image_id"] == image]
        # More than 100 of one class, now and then.
        for _ in range(int(rng.integers(110, 160)) if rng.random() < 0.1 else int(rng.integers(0, 40))):
            if own and rng.random() < 0.6:
                truth = own[rng.integers(len(own))]
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
        return {"info": {}, "images": images, "annotations": self.target_records, "categories": names}

    def records(self, image, entries):
        """One image as a metric gets it."""
        own = [entry for entry in entries if entry["image_id"] == image]
        return SimpleNamespace(
            size=(320, 320),
            boxes=np.array([self.corners[id(entry)] for entry in own]).reshape(-1, 4),
            labels=np.array([self.category_ids.index(entry["category_id"]) for entry in own], int),
            scores=np.array([entry.get("score", 1) for entry in own]),
            areas=np.array([entry.get("area", 0) for entry in own]),
            crowd=np.array([entry.get("iscrowd", 0) for entry in own], bool),
            masks=[entry.get("segmentation") for entry in own],
        )


def evaluate_pycocotools(truth, predictions, iou_type="bbox", max_detections=100):
    """The evaluation by pycocotools, whose own loader fails on an empty list of predictions."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = json.loads(json.dumps(truth))
        objects.createIndex()
        results = COCO()
        results.dataset = dict(objects.dataset, annotations=[])
        results.createIndex()
        if predictions:
            results = objects.loadRes(json.loads(json.dumps(predictions)))
        evaluation = COCOeval(objects, results, iou_type)
        evaluation.params.maxDets[-1] = max_detections
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def summarize(evaluation):
    """The twelve numbers of a pycocotools evaluation with any `maxDets`; its own `summarize` reads AP at 100 only."""
    sizes, (*_, most) = ("all", "small", "medium", "large"), evaluation.params.maxDets
    thresholds = np.round(evaluation.params.iouThrs, 2)

    def average(values):
        return values[values > -1].mean() if (values > -1).any() else np.nan

    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    numbers = {"AP": average(precision[..., 0, -1])}
    numbers |= {f"AP{int(100 * t)}": average(precision[thresholds == t][..., 0, -1]) for t in (0.5, 0.75)}
    numbers |= {f"AP{size[0]}": average(precision[..., area, -1]) for area, size in enumerate(sizes) if area}
    numbers |= {f"AR{limit}": average(recall[..., 0, n]) for n, limit in enumerate((1, 10, most))}
    return numbers | {f"AR{size[0]}": average(recall[..., area, -1]) for area, size in enumerate(sizes) if area}


def evaluate_arrays(world, iou_type="bbox", max_detections=100):
    names = [f"class {category}" for category in world.category_ids]
    metric = AveragePrecision(names, iou_type, max_detections=max_detections)
    for image in world.rng.permutation(world.image_ids).tolist():
        prediction, truth = (world.records(image, entries) for entries in (world.predictions, world.target_records))
        metric.update(prediction, truth, image)
    return metric
