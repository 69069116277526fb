"""Descriptions of metrics by name: one line each, and whether higher is better."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["MetricInfo", "get_metric_info"]


class MetricInfo(NamedTuple):
    """What a metric measures.

    Attributes:
        text: One line; empty for unknown metrics.
        higher_is_better: Whether larger values are better.
    """

    text: str
    higher_is_better: bool


_COCO = {
    "AP": "IoU 0.50 to 0.95, all sizes, at most 100 predictions",
    "AP50": "IoU 0.50, all sizes, at most 100 predictions",
    "AP75": "IoU 0.75, all sizes, at most 100 predictions",
    "APs": "small: area below 32²",
    "APm": "medium: area from 32² to 96²",
    "APl": "large: area from 96²",
    "AR1": "recall, at most 1 prediction per image and class",
    "AR10": "recall, at most 10",
    "AR100": "recall, at most 100",
    "AR": "recall, at most 20 predictions per image",
    "AR50": "recall at OKS 0.50",
    "AR75": "recall at OKS 0.75",
    "ARs": "recall of small objects",
    "ARm": "recall of medium objects",
    "ARl": "recall of large objects",
}
_KEYPOINTS = {
    "AP": "OKS 0.50 to 0.95, at most 20 predictions",
    "AP50": "OKS 0.50, at most 20 predictions",
    "AP75": "OKS 0.75, at most 20 predictions",
    "AR": "recall, OKS 0.50 to 0.95",
}
_HIGHER_IS_BETTER = {
    "mIoU": "mean over classes of intersection over union",
    "mAcc": "mean over classes of the share of correct pixels",
    "aAcc": "share of correct pixels",
    "fwIoU": "IoU, classes weighted by their pixels",
    "mDice": "mean over classes of Dice",
    "boundaryIoU": "mean IoU within 2 % of the diagonal of boundaries",
    "IoU": "intersection over union",
    "delta1": "share of pixels within a factor of 1.25",
    "delta2": "share of pixels within 1.25²",
    "delta3": "share of pixels within 1.25³",
    "F1_occ": "F1 of occluded pixels",
    "PSNR": "peak signal-to-noise ratio [dB]",
    "SSIM": "structural similarity",
}
_LOWER_IS_BETTER = {
    "AbsRel": "mean relative error of depth",
    "SqRel": "mean squared error over depth [m]",
    "RMSE": "root mean squared error [m]",
    "RMSElog": "root mean squared error of log depth",
    "log10": "mean difference of log10 depth",
    "SILog": "100 x scale-invariant log error",
    "EPE": "mean end-point error [px]",
    "EPE_images": "mean over images of their EPE [px]",
    "D1": "share of disparities off by > 3 px and > 5 %",
    "bad1": "share of disparities off by > 1 px",
    "bad2": "share of disparities off by > 2 px",
    "bad3": "share of disparities off by > 3 px",
    "medRel": "median relative error of disparity",
    "1px": "share of pixels off by > 1 px",
    "3px": "share of pixels off by > 3 px",
    "5px": "share of pixels off by > 5 px",
    "Fl": "share of pixels off by > 3 px and > 5 %",
    "AAE": "mean angular error [°]",
    "s0-10": "EPE where motion is below 10 px",
    "s10-40": "EPE where motion is 10 to 40 px",
    "s40+": "EPE where motion is 40 px and more",
    "EPE_occ": "EPE of occluded pixels",
    "EPE_noc": "EPE of pixels visible in both images",
    "L1": "mean absolute difference, white is 1",
    "LPIPS": "perceptual distance",
    "FD": "Fréchet distance between the sets of images",
}
_IOU_TYPES = {"bbox": "boxes", "segm": "masks", "boundary": "masks and boundaries", "keypoints": "keypoints"}
_LUMA = {"RGB": "all channels", "Y": "luma, rounded", "Yfloat": "luma, not rounded"}
_IMAGE_QUALITY = re.compile(r"(PSNR|SSIM)_(Yfloat|Y|RGB)_crop(\d+)$")


def get_metric_info(name: str) -> MetricInfo:
    """The description of a metric, whose name may carry an IoU type (segm/AP) or a protocol (AbsRel/median).

    An unknown metric has no text and counts as "higher is better".

    >>> get_metric_info("segm/AP50").text
    'masks: IoU 0.50, all sizes, at most 100 predictions'
    >>> get_metric_info("AbsRel/median/80m")
    MetricInfo(text='mean relative error of depth; median, 80m', higher_is_better=False)
    """
    first, _, rest = name.partition("/")
    if first in _IOU_TYPES and rest:
        table = _COCO | (_KEYPOINTS if first == "keypoints" else {})
        return MetricInfo(f"{_IOU_TYPES[first]}: {table[rest]}" if rest in table else "", True)
    if match := _IMAGE_QUALITY.match(name):
        kind, color, crop = match.groups()
        border = f"border of {crop} px left out" if int(crop) else "whole image"
        return MetricInfo(f"{_HIGHER_IS_BETTER[kind]}, {_LUMA[color]}, {border}", True)
    protocol = f"; {rest.replace('/', ', ')}" if rest else ""
    for table, higher_is_better in ((_COCO | _HIGHER_IS_BETTER, True), (_LOWER_IS_BETTER, False)):
        if first in table:
            return MetricInfo(table[first] + protocol, higher_is_better)
    return MetricInfo("", True)
