"""What metrics measure: one line each, and whether higher is better. The tables lie beside the metrics of each task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["COCO_INFO", "IMAGE_QUALITY_INFO", "MetricInfo", "find_metric_info"]


class MetricInfo(NamedTuple):
    """What a metric measures.

    Attributes:
        text: One line; empty for unknown metrics.
        higher_is_better: Whether larger values are better.
    """

    text: str
    higher_is_better: bool = True


COCO_INFO = {
    "AP": MetricInfo("IoU 0.50 to 0.95, all sizes"),
    "AP50": MetricInfo("IoU 0.50, all sizes"),
    "AP75": MetricInfo("IoU 0.75, all sizes"),
    "APs": MetricInfo("small: area below 32²"),
    "APm": MetricInfo("medium: area from 32² to 96²"),
    "APl": MetricInfo("large: area from 96²"),
    "AR1": MetricInfo("recall, at most 1 prediction per image and class"),
    "AR10": MetricInfo("recall, at most 10"),
    "AR100": MetricInfo("recall, at most 100"),
    "ARs": MetricInfo("recall of small objects"),
    "ARm": MetricInfo("recall of medium objects"),
    "ARl": MetricInfo("recall of large objects"),
}
"""COCO's metrics of boxes and masks, `AveragePrecision`."""

IMAGE_QUALITY_INFO = {
    "PSNR": MetricInfo("peak signal-to-noise ratio [dB]"),
    "SSIM": MetricInfo("structural similarity"),
    "LPIPS": MetricInfo("perceptual distance", False),
}
"""Metrics of two or more tasks whose results are images."""

_RECALL = re.compile(r"((?:\w+/)?AR)(\d{2,})")
_COLORS = {"RGB": "all channels", "Y": "luma, rounded", "Yfloat": "luma, not rounded"}
_IMAGE_PROTOCOL = re.compile(r"(.+)_(Yfloat|Y|RGB)_crop(\d+)")


def find_metric_info(table: Mapping[str, MetricInfo], name: str) -> MetricInfo:
    """The description of a metric, whose name may carry a protocol: AbsRel/median, PSNR_Y_crop4.

    An unknown metric has no text and counts as "higher is better".

    >>> find_metric_info({"AbsRel": MetricInfo("mean relative error", False)}, "AbsRel/median/80m")
    MetricInfo(text='mean relative error; median, 80m', higher_is_better=False)
    """
    if name in table:
        return table[name]
    if (match := _RECALL.fullmatch(name)) and f"{match[1]}100" in table:  # evaluation.max_detections
        return MetricInfo(table[f"{match[1]}100"].text.replace("100", match[2]))
    first, _, rest = name.partition("/")
    protocol = f"; {rest.replace('/', ', ')}"
    if match := _IMAGE_PROTOCOL.fullmatch(name):
        first, color, crop = match.groups()
        protocol = f", {_COLORS[color]}, {f'border of {crop} px left out' if int(crop) else 'whole image'}"
    if first not in table:
        return MetricInfo("")
    return MetricInfo(table[first].text + protocol, table[first].higher_is_better)
