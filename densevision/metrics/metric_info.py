"""What the names of numbers mean, and which way is better: one line for each, for tables, pages and comparisons."""

from __future__ import annotations

import re
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a number says.

    Attributes:
        text: A line.
        rising: Whether more is better.
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
    "AR1": "recall, at most 1 prediction an image and class",
    "AR10": "recall, at most 10",
    "AR100": "recall, at most 100",
    "AR": "recall, at most 20 predictions an image",
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
_RISING = {
    "mIoU": "mean over classes of intersection over union",
    "mAcc": "mean over classes of the part answered right",
    "aAcc": "part of all pixels answered right",
    "fwIoU": "IoU, classes weighted by their pixels",
    "mDice": "mean over classes of Dice",
    "boundaryIoU": "mean IoU within 2 % of the diagonal of borders",
    "IoU": "intersection over union",
    "delta1": "part of pixels within a factor of 1.25",
    "delta2": "part of pixels within 1.25²",
    "delta3": "part of pixels within 1.25³",
    "F1_occ": "F1 of occluded pixels",
    "PSNR": "peak signal-to-noise ratio [dB]",
    "SSIM": "structural similarity",
}
_FALLING = {
    "AbsRel": "mean relative error of depth",
    "SqRel": "mean squared error over depth [m]",
    "RMSE": "root of the mean squared error [m]",
    "RMSElog": "the same of log depth",
    "log10": "mean difference of log10 depth",
    "SILog": "100 x scale-invariant log error",
    "EPE": "mean length of the error [px]",
    "EPE_images": "mean over images of their EPE [px]",
    "D1": "part of disparities off by > 3 px and > 5 %",
    "bad1": "part of disparities off by > 1 px",
    "bad2": "part of disparities off by > 2 px",
    "bad3": "part of disparities off by > 3 px",
    "medRel": "median relative error of disparity",
    "1px": "part of pixels off by > 1 px",
    "3px": "part of pixels off by > 3 px",
    "5px": "part of pixels off by > 5 px",
    "Fl": "part of pixels off by > 3 px and > 5 %",
    "AAE": "mean angle of the error [°]",
    "s0-10": "EPE where motion is below 10 px",
    "s10-40": "EPE where motion is 10 to 40 px",
    "s40+": "EPE where motion is 40 px and more",
    "EPE_occ": "EPE of occluded pixels",
    "EPE_noc": "EPE of pixels seen in both images",
    "L1": "mean absolute difference, white is 1",
    "LPIPS": "perceptual distance",
    "FD": "Fréchet distance between the sets of images",
}
_KINDS = {"bbox": "boxes", "segm": "masks", "boundary": "masks and rims", "keypoints": "keypoints"}
_QUALITY = re.compile(r"(PSNR|SSIM)_(Y|RGB)_crop(\d+)$")


def metric_info(name: str) -> Meaning:
    """What a number means, by its name: with a kind before it (segm/AP) or a protocol behind it (AbsRel/median).

    A name that is not known has no text, and more of it is taken to be better.

    >>> meaning("segm/AP50").text
    'masks: IoU 0.50, all sizes, at most 100 predictions'
    >>> meaning("AbsRel/median/80m")
    Meaning(text='mean relative error of depth; median, 80m', rising=False)
    """
    first, _, rest = name.partition("/")
    if first in _KINDS and rest:
        table = _COCO | (_KEYPOINTS if first == "keypoints" else {})
        return Meaning(f"{_KINDS[first]}: {table[rest]}" if rest in table else "", True)
    quality = _QUALITY.match(name)
    if quality:
        kind, color, crop = quality.groups()
        where = "luma" if color == "Y" else "all colors"
        return Meaning(
            f"{_RISING[kind]}, {where}, {f'border of {crop} left out' if int(crop) else 'whole image'}", True
        )
    protocol = f"; {rest.replace('/', ', ')}" if rest else ""
    for table, higher_is_better in ((_COCO | _RISING, True), (_FALLING, False)):
        if first in table:
            return Meaning(table[first] + protocol, higher_is_better)
    return Meaning("", True)


def better(name: str, one: float, other: float) -> bool:
    """Whether one value of a number is better than another.

    >>> better("EPE", 1.0, 2.0), better("mIoU", 0.1, 0.2)
    (True, False)
    """
    return one > other if metric_info(name).higher_is_better else one < other
