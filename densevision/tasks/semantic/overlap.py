"""Region overlap losses: soft Dice, Jaccard and Tversky, from three areas per class.

The definitions are those of segmentation_models_pytorch, over the known pixels of a batch as if they were one image;
classes without a pixel in the ground truth count as zero. The areas are summed without one-hot targets and their
copies, which would cost as much as a small network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densevision.results.semantic_map import UNKNOWN

__all__ = ["Areas", "compute_class_areas", "compute_multilabel_areas", "tversky_loss"]

MIN_AREA = 1e-7
"""Smallest divisor."""


class Areas(NamedTuple):
    """Soft areas of every class in pixels, (C,) each.

    Attributes:
        intersection: Of prediction and ground truth.
        prediction: Of the prediction.
        target: Of the ground truth.
    """

    intersection: Tensor
    prediction: Tensor
    target: Tensor


def compute_class_areas(probabilities: Tensor, labels: Tensor) -> Areas:
    """Areas where every pixel has one class.

    Args:
        probabilities: (B, C, H, W).
        labels: (B, H, W) int64, 255 unknown.
    """
    classes = probabilities.shape[1]
    known = labels != UNKNOWN
    weights = known.flatten(1).to(probabilities.dtype)
    prediction = torch.bmm(probabilities.flatten(2), weights[..., None]).sum((0, 2))
    index = torch.where(known, labels, 0)
    at_target = probabilities.gather(1, index[:, None]).flatten(1) * weights
    intersection = probabilities.new_zeros(classes).index_add(0, index.flatten(), at_target.flatten())
    target = torch.bincount(labels[known], minlength=classes).to(probabilities.dtype)
    return Areas(intersection, prediction, target)


def compute_multilabel_areas(probabilities: Tensor, targets: Tensor) -> Areas:
    """Areas where a pixel has any number of classes.

    Args:
        probabilities: (P, C) of the known pixels.
        targets: (P, C) of 0 and 1.
    """
    return Areas((probabilities * targets).sum(0), probabilities.sum(0), targets.sum(0))


def tversky_loss(areas: Areas, alpha: float, beta: float) -> Tensor:
    """Mean Tversky loss over the classes; Dice with both weights 1/2, Jaccard with both 1.

    Source: Salehi et al., Tversky Loss Function for Image Segmentation, MLMI 2017, eq. 1.

    Args:
        areas: Of every class.
        alpha: Weight of false positives.
        beta: Weight of false negatives.
    """
    false_positives, false_negatives = areas.prediction - areas.intersection, areas.target - areas.intersection
    area = areas.intersection + alpha * false_positives + beta * false_negatives
    loss = 1 - areas.intersection / area.clamp(min=MIN_AREA)
    return (loss * (areas.target > 0)).mean()
