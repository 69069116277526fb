"""Random objects with masks and keypoints, pycocotools' evaluation of them, and Boundary IoU as its paper writes it."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.boundary import RIM
from densevision.ops.masks import areas, boxes, decode, encode
from densevision.results import Instances

NAMES = ("a", "b", "c")
SIZE = (120, 160)
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
POINT_NUMBERS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def blobs(rng: np.random.Generator, count: int) -> list[dict]:
    found = []
    for _ in range(count):
        mask = np.zeros(SIZE, np.uint8)
        center = tuple(int(value) for value in rng.integers((10, 10), (150, 110)))
        axes = tuple(int(value) for value in rng.integers(3, 60, 2))
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        found.append(encode(mask.astype(bool)))
    return found


def record(rng: np.random.Generator, masks: list[dict], truth: bool) -> Instances:
    more = {"crowd": rng.random(len(masks)) < 0.15} if truth else {"scores": rng.random(len(masks))}
    points = boxes(masks)[:, None, :2] + rng.random((len(masks), 17, 2)) * 40
    visible = rng.integers(0, 3, (len(masks), 17)) if truth else np.full((len(masks), 17), 2)
    return Instances.of(
        boxes(masks),
        rng.integers(0, len(NAMES), len(masks)),
        NAMES,
        SIZE,
        masks=tuple(masks),
        areas=areas(masks),
        keypoints=np.dstack([points, visible]).astype(np.float32),
        **more,
    )


def pairs(seed: int) -> list[tuple[Instances, Instances]]:
    """Truths, and answers of which some are the truth moved a little."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(8):
        truth = record(rng, blobs(rng, int(rng.integers(0, 8))), truth=True)
        near = [encode(np.roll(decode(mask), rng.integers(-4, 5, 2), (0, 1))) for mask in truth.masks]
        answer = record(rng, near + blobs(rng, int(rng.integers(0, 4))), truth=False)
        answer.labels[: len(truth)] = truth.labels
        answer.keypoints[: len(truth), :, :2] = truth.keypoints[..., :2] + rng.normal(0, 3, (len(truth), 17, 2))
        found.append((answer, truth))
    return found


def coco(records: list[Instances], truth: bool, points: bool) -> COCO:
    dataset = COCO()
    entries = []
    for number, one in enumerate(records, 1):
        for row in range(len(one)):
            x1, y1, x2, y2 = one.boxes[row].astype(float).tolist()
            mask = {"size": one.masks[row]["size"], "counts": one.masks[row]["counts"].encode()}
            entry = {"id": len(entries) + 1, "image_id": number, "category_id": int(one.labels[row]) + 1}
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": mask, "area": float(one.areas[row])}
            own = one.keypoints[row].astype(float)
            entry |= {"keypoints": own.ravel().tolist(), "num_keypoints": int((own[:, 2] > 0).sum())}
            if not truth and points:
                entry["area"] = float(np.ptp(own[:, 0]) * np.ptp(own[:, 1]))
            entry |= {"iscrowd": int(one.crowd[row])} if truth else {"iscrowd": 0, "score": float(one.scores[row])}
            entries.append(entry)
    dataset.dataset = {
        "images": [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(1, len(records) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
        "annotations": entries,
    }
    dataset.createIndex()
    return dataset


def reference(found, kind: str, evaluation=COCOeval) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        answers, ground_truths = ([one[row] for one in found] for row in (0, 1))
        points = kind == "keypoints"
        judged = evaluation(coco(ground_truths, True, points), coco(answers, False, points), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return np.where(judged.stats < 0, np.nan, judged.stats)


def ours(found, kind: str) -> AveragePrecision:
    metric = AveragePrecision(NAMES, kind)
    for number, (answer, truth) in enumerate(found):
        metric.update(answer, truth, number)
    return metric


class Paper(COCOeval):
    """Boundary IoU on whole images, as its authors write it: mask minus eroded mask, and the smaller IoU."""

    def computeIoU(self, imgId, catId):
        whole = super().computeIoU(imgId, catId)
        ground_truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not ground_truths or not found:
            return whole
        found = sorted(found, key=lambda one: -one["score"])[: self.params.maxDets[-1]]
        result = np.array(whole)
        for i, one in enumerate(found):
            for j, other in enumerate(ground_truths):
                first, second = (_band(self._dense(entry)) for entry in (one, other))
                common = (first & second).sum()
                union = first.sum() if other["iscrowd"] else (first | second).sum()
                result[i, j] = min(whole[i, j], common / union if union else 0)
        return result

    @staticmethod
    def _dense(entry):
        return decode(entry["segmentation"])


def _band(mask: np.ndarray) -> np.ndarray:
    steps = max(1, round(RIM * np.hypot(*mask.shape)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)
