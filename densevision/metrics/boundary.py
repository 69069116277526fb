"""Average precision of boundaries: two masks match as well as they overlap, and as well as their rims do.

Source: Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021; the smaller of
the two intersections over union decides. pycocotools does the matching, because hotcoco cannot be told another overlap.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from densevision.metrics.coco_protocol import Scored
from densevision.metrics.curves import curves_of, table
from densevision.ops.masks import RLE, areas, boxes, encode_window, window

RIM = 0.02
"""Width of the rim as a part of the image's diagonal."""


def boundary_protocol() -> dict[str, Any]:
    """What differs from the protocol of masks."""
    import pycocotools

    version = getattr(pycocotools, "__version__", "2.0")
    overlap = f"the smaller of mask IoU and IoU of the rims, {RIM:.0%} of the diagonal wide"
    return {"tool": f"pycocotools {version}", "iou_type": "boundary", "overlap": overlap}


def rim(mask: RLE) -> RLE:
    """The pixels of a mask within the rim's width of its border or of the image's."""
    height, width = mask["size"]
    steps = max(1, round(RIM * math.hypot(height, width)))
    pixels, corner = window(mask)
    if not pixels.size:
        return mask
    padded = np.pad(pixels.view(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)[1:-1, 1:-1]
    return encode_window((pixels & (inner == 0)).T, corner, (height, width))


def score_boundaries(images: Sequence[Any], names: Sequence[str]) -> Scored:
    """Matches the masks of all images.

    Args:
        images: With size, scores, labels, masks and true_labels, true_masks, areas, crowd.
        names: Class names in the order of the labels.
    """
    evaluation = matched_boundaries(images, names)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    import hotcoco

    params, arrays = hotcoco.Params("segm"), evaluation.eval
    numbers = table(definitions(), params, arrays["precision"], arrays["recall"])
    return Scored(tuple(names), numbers, curves_of(params, arrays, names))


def definitions() -> list[dict[str, Any]]:
    """What COCO's metrics of masks are made of."""
    import hotcoco

    empty = hotcoco.COCO.from_arrays([], [], np.zeros(0), np.zeros(0), np.zeros((0, 4)))
    return hotcoco.COCOeval(empty, empty, "segm").metric_defs()


def matched_boundaries(images: Sequence[Any], names: Sequence[str]) -> Any:
    """A pycocotools evaluation whose images are matched and whose numbers are not yet accumulated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class _Rims(COCOeval):
        def computeIoU(self, imgId: int, catId: int) -> Any:
            whole = super().computeIoU(imgId, catId)
            if not len(whole):
                return whole
            from pycocotools.mask import iou

            ground_truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
            order = np.argsort([-one["score"] for one in found], kind="mergesort")[: self.params.maxDets[-1]]
            rims = [found[row]["rim"] for row in order], [one["rim"] for one in ground_truths]
            return np.minimum(whole, iou(*rims, [one["iscrowd"] for one in ground_truths]))

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = _dataset(images, names, True), _dataset(images, names, False)
        truth.createIndex()
        found.createIndex()
        evaluation = _Rims(truth, found, "segm")
        evaluation.evaluate()
    return evaluation


def _dataset(images: Sequence[Any], names: Sequence[str], true: bool) -> dict[str, Any]:
    annotations = []
    for number, image in enumerate(images, 1):
        masks, labels = (image.true_masks, image.true_labels) if true else (image.masks, image.labels)
        corners, own_areas = boxes(masks), image.areas if true else areas(masks)
        for row, (mask, label) in enumerate(zip(masks, labels.tolist())):
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": label + 1,
                "segmentation": _bytes(mask),
                "rim": _bytes(rim(mask)),
                "area": float(own_areas[row]),
                "bbox": [*corners[row, :2].tolist(), *(corners[row, 2:] - corners[row, :2]).tolist()],
                "iscrowd": int(image.crowd[row]) if true else 0,
            }
            annotations.append(entry if true else {**entry, "score": float(image.scores[row])})
    return {
        "images": [
            {"id": number, "height": image.size[0], "width": image.size[1]} for number, image in enumerate(images, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": annotations,
    }


def _bytes(mask: RLE) -> RLE:
    return {"size": mask["size"], "counts": mask["counts"].encode("ascii")}
