"""Scores prediction files of any tool against COCO truth files, at about the cost of reading them.

hotcoco reads the files. It lets much pass that would bend the numbers, so cheap signs of every fault are looked for in
what it read. Only when one shows are the files read again in plain Python, to name the first fault exactly.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from densevision.errors import DataError
from densevision.metrics.average_precision import Scored, protocol, score
from densevision.metrics.coco_faults import GEOMETRY, refuse_predictions, refuse_truth

if TYPE_CHECKING:
    from hotcoco import COCO

ANY_AREA = (0.0, 1e300)

# A negative number in the last or last but one place of a list: the width or the height, where the list is a box.
NEGATIVE_SIDE = re.compile(rb"-[0-9.]+(?:[eE][-+]?[0-9]+)?\s*(?:,[^],]*)?\]")

Signs = dict[str, Any]


def score_files(
    truth: str | os.PathLike[str], predictions: str | os.PathLike[str], iou_type: str = "bbox"
) -> dict[str, Any]:
    """COCO's numbers for a predictions file, equal to those of pycocotools.

    Args:
        truth: COCO json with images, annotations (id, image_id, category_id, area, the geometry; iscrowd is 0 where
            absent) and categories.
        predictions: COCO results: a json list of {image_id, category_id, score, and the geometry}. It may be empty.
        iou_type: What overlaps, and with it the geometry: "bbox" (bbox), "segm" (segmentation), "keypoints".

    Returns:
        metrics (name -> number, NaN where no truth defines it), protocol, counts, and tables with the numbers per class.

    Raises:
        DataError: A file that is missing or broken; an entry with an absent, unknown, repeated or impossible value.
    """
    truth, predictions = Path(truth), Path(predictions)
    objects = _load_truth(truth, predictions, iou_type)
    found = _load_predictions(objects, predictions, iou_type)
    names = _names(objects)
    # The matching runs outside Python's lock, so the checks cost little more than nothing beside it.
    with ThreadPoolExecutor(max_workers=1) as pool:
        scoring = pool.submit(score, objects, found, names, iou_type)
        health = objects.healthcheck(found)
        counts = _count(objects, found, health)
        if _truth_is_suspect(objects, truth, health, iou_type):
            refuse_truth(truth, iou_type)
        if _predictions_are_suspect(found, predictions, health, counts, iou_type):
            refuse_predictions(predictions, truth, iou_type)
        scored: Scored = scoring.result()
    return {
        "metrics": scored.summary(),
        "protocol": protocol(iou_type),
        "counts": counts,
        "tables": {"per class": scored.per_class()},
    }
