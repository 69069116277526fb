"""Random objects with masks and keypoints, and their evaluation by pycocotools and by Boundary IoU."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevision.metrics.average_precision import AveragePrecision
from densevision.metrics.boundary import BAND_WIDTH
from densevision.ops.masks import compute_areas, compute_boxes, decode, encode
from densevision.results import Instances

NAMES = ("a", "b", "c")
SIZE = (120, 160)
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def draw_masks(rng: np.random.Generator, count: int) -> list[dict]:
    results = []
    for _ in range(count):
        mask = np.zeros(SIZE, np.uint8)
        center = tuple(int(value) for value in rng.integers((10, 10), (150, 110)))
        axes = tuple(int(value) for value in rng.integers(3, 60, 2))
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        results.append(encode(mask.astype(bool)))
    return results


def make_record(rng: np.random.Generator, masks: list[dict], truth: bool) -> Instances:
    more = {"crowd": rng.random(len(masks)) < 0.15} if truth else {"scores": rng.random(len(masks))}
    points = compute_boxes(masks)[:, None, :2] + rng.random((len(masks), 17, 2)) * 40
    visible = rng.integers(0, 3, (len(masks), 17)) if truth else np.full((len(masks), 17), 2)
    return Instances.from_arrays(
        compute_boxes(masks),
        rng.integers(0, len(NAMES), len(masks)),
        NAMES,
        SIZE,
        masks=tuple(masks),
        areas=compute_areas(masks),
        keypoints=np.dstack([points, visible]).astype(np.float32),
        **more,
    )


def make_pairs(seed: int) -> list[tuple[Instances, Instances]]:
    """(prediction, ground truth) pairs; some predictions are shifted ground truths, others false positives."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(8):
        truth = make_record(rng, draw_masks(rng, int(rng.integers(0, 8))), truth=True)
        near = [encode(np.roll(decode(mask), rng.integers(-4, 5, 2), (0, 1))) for mask in truth.masks]
        prediction = make_record(rng, near + draw_masks(rng, int(rng.integers(0, 4))), truth=False)
        prediction.labels[: len(truth)] = truth.labels
        prediction.keypoints[: len(truth), :, :2] = truth.keypoints[..., :2] + rng.normal(0, 3, (len(truth), 17, 2))
        results.append((prediction, truth))
    return results


def build_dataset(records: list[Instances], is_truth: bool, has_keypoints: bool) -> COCO:
    dataset = COCO()
    entries = []
    for number, one in enumerate(records, 1):
        for row in range(len(one)):
            x1, y1, x2, y2 = one.boxes[row].astype(float).tolist()
            mask = {"size": one.masks[row]["size"], "counts": one.masks[row]["counts"].encode()}
            entry = {"id": len(entries) + 1, "image_id": number, "category_id": int(one.labels[row]) + 1}
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": mask, "area": float(one.areas[row])}
            points = one.keypoints[row].astype(float)
            entry |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            if not is_truth and has_keypoints:
                entry["area"] = float(np.ptp(points[:, 0]) * np.ptp(points[:, 1]))
            entry |= {"iscrowd": int(one.crowd[row])} if is_truth else {"iscrowd": 0, "score": float(one.scores[row])}
            entries.append(entry)
    dataset.dataset = {
        "images": [{"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(1, len(records) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
        "annotations": entries,
    }
    dataset.createIndex()
    return dataset


def evaluate_reference(pairs, kind: str, evaluation=COCOeval, sigmas=None) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        predictions, target_records = zip(*pairs)
        has_keypoints = kind == "keypoints"
        truth = build_dataset(target_records, True, has_keypoints)
        result = evaluation(truth, build_dataset(predictions, False, has_keypoints), kind)
        if sigmas is not None:
            result.params.kpt_oks_sigmas = np.array(sigmas)
        result.evaluate()
        result.accumulate()
        result.summarize()
    return np.where(result.stats < 0, np.nan, result.stats)


def evaluate(pairs, kind: str, sigmas=()) -> AveragePrecision:
    metric = AveragePrecision(NAMES, kind, sigmas)
    for number, (prediction, truth) in enumerate(pairs):
        metric.update(prediction, truth, number)
    return metric


class BoundaryEval(COCOeval):
    """Boundary IoU on full masks, as its authors compute it: mask minus eroded mask, and the smaller IoU."""

    def computeIoU(self, imgId, catId):
        mask_iou = super().computeIoU(imgId, catId)
        target_records, detections = self._gts[imgId, catId], self._dts[imgId, catId]
        if not target_records or not detections:
            return mask_iou
        detections = sorted(detections, key=lambda entry: -entry["score"])[: self.params.maxDets[-1]]
        result = np.array(mask_iou)
        for i, one in enumerate(detections):
            for j, other in enumerate(target_records):
                first, second = (_band(self._decode(entry)) for entry in (one, other))
                common = (first & second).sum()
                union = first.sum() if other["iscrowd"] else (first | second).sum()
                result[i, j] = min(mask_iou[i, j], common / union if union else 0)
        return result

    @staticmethod
    def _decode(entry):
        return decode(entry["segmentation"])


def _band(mask: np.ndarray) -> np.ndarray:
    steps = max(1, round(BAND_WIDTH * np.hypot(*mask.shape)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)
