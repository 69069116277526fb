"""Average precision of boundaries: the IoU of two masks is limited by the IoU of their boundary bands.

Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021; the smaller of
mask IoU and boundary IoU decides. pycocotools does the matching, because hotcoco takes no custom overlap.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from densevision.metrics.coco_columns import ImageArrays
from densevision.metrics.coco_protocol import MAX_DETECTIONS, CocoScores, define_metrics, list_max_detections
from densevision.metrics.curves import extract_curves, extract_metrics
from densevision.ops.masks import RLE, compute_areas, compute_boxes, crop_to_box, encode_window

__all__ = [
    "BAND_WIDTH",
    "describe_boundary_protocol",
    "extract_boundary_band",
    "get_metric_definitions",
    "match_boundaries",
    "score_boundaries",
]

BAND_WIDTH = 0.02
"""Width of the boundary band as a share of the image's diagonal."""


def describe_boundary_protocol() -> dict[str, Any]:
    """What differs from the protocol of masks."""
    import pycocotools

    version = getattr(pycocotools, "__version__", "2.0")
    overlap = f"the smaller of mask IoU and IoU of the boundary bands, {BAND_WIDTH:.0%} of the diagonal wide"
    return {"tool": f"pycocotools {version}", "iou_type": "boundary", "overlap": overlap}


def extract_boundary_band(mask: RLE) -> RLE:
    """The pixels of a mask within the band's width of the mask's or the image's border."""
    height, width = mask["size"]
    steps = max(1, round(BAND_WIDTH * math.hypot(height, width)))
    pixels, corner = crop_to_box(mask)
    if not pixels.size:
        return mask
    padded = np.pad(pixels.view(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
    return encode_window((pixels & (inner == 0)).T, corner, (height, width))


def score_boundaries(
    images: Sequence[ImageArrays], names: Sequence[str], max_detections: int = MAX_DETECTIONS
) -> CocoScores:
    """Matches the masks of all images and computes COCO's metrics.

    Args:
        images: Arrays with masks.
        names: Class names in the order of the labels.
        max_detections: See `metrics.coco_protocol.list_max_detections`.
    """
    import hotcoco

    evaluation = match_boundaries(images, names, max_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    params, arrays = hotcoco.Params("segm"), evaluation.eval
    params.max_dets = evaluation.params.maxDets
    table = extract_metrics(get_metric_definitions(max_detections), params, arrays["precision"], arrays["recall"])
    return CocoScores(tuple(names), table, extract_curves(params, arrays, names))


def get_metric_definitions(max_detections: int = MAX_DETECTIONS) -> list[dict[str, Any]]:
    """hotcoco's definitions of COCO's mask metrics."""
    import hotcoco

    empty = hotcoco.COCO.from_arrays([], [], np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    evaluation = hotcoco.COCOeval(empty, empty, "segm")
    evaluation.params.max_dets = list_max_detections("segm", max_detections)
    return define_metrics(evaluation)


def match_boundaries(images: Sequence[ImageArrays], names: Sequence[str], max_detections: int = MAX_DETECTIONS) -> Any:
    """A pycocotools evaluation with matched images, before accumulation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class _BoundaryEval(COCOeval):
        def computeIoU(self, imgId: int, catId: int) -> Any:
            mask_iou = super().computeIoU(imgId, catId)
            if not len(mask_iou):
                return mask_iou
            from pycocotools.mask import iou

            truth_list, predictions = self._gts[imgId, catId], self._dts[imgId, catId]
            order = np.argsort([-entry["score"] for entry in predictions], kind="mergesort")
            predicted_bands = [predictions[row]["band"] for row in order[: self.params.maxDets[-1]]]
            true_bands = [entry["band"] for entry in truth_list]
            return np.minimum(mask_iou, iou(predicted_bands, true_bands, [entry["iscrowd"] for entry in truth_list]))

    with contextlib.redirect_stdout(io.StringIO()):
        truth, predictions = COCO(), COCO()
        truth.dataset, predictions.dataset = (_build_dataset(images, names, is_truth) for is_truth in (True, False))
        truth.createIndex()
        predictions.createIndex()
        evaluation = _BoundaryEval(truth, predictions, "segm")
        evaluation.params.maxDets = list_max_detections("segm", max_detections)
        evaluation.evaluate()
    return evaluation


def _build_dataset(images: Sequence[ImageArrays], names: Sequence[str], is_truth: bool) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, 1):
        masks: Any = image.true_masks if is_truth else image.masks
        labels = image.true_labels if is_truth else image.labels
        corners, mask_areas = compute_boxes(masks), image.areas if is_truth else compute_areas(masks)
        for row, (mask, label) in enumerate(zip(masks, labels.tolist())):
            entry = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": label + 1,
                "segmentation": _to_bytes(mask),
                "band": _to_bytes(extract_boundary_band(mask)),
                "area": float(mask_areas[row]),
                "bbox": [*corners[row, :2].tolist(), *(corners[row, 2:] - corners[row, :2]).tolist()],
                "iscrowd": int(image.crowd[row]) if is_truth else 0,
            }
            annotations.append(entry if is_truth else {**entry, "score": float(image.scores[row])})
    sizes = [image.size for image in images]
    return {
        "images": [{"id": n, "height": height, "width": width} for n, (height, width) in enumerate(sizes, 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": annotations,
    }


def _to_bytes(mask: RLE) -> RLE:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
