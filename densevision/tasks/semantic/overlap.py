"""Losses that compare areas: soft Dice, Jaccard and Tversky, from three sums per class.

The definitions are those of segmentation_models_pytorch, over the known pixels of a batch as if they were one image:
classes that no pixel is of count as zero. Only the sums are taken otherwise: without one-hot truth and its copies,
which would cost as much as a small network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from densevision.results.semantic_map import UNKNOWN
from densevision.tasks.semantic.config import LossConfig

LEAST = 1e-7
"""Smallest area that is divided by."""


class Areas(NamedTuple):
    """Soft areas of every class in pixels, (C,) each.

    Attributes:
        shared: Of what is both answered and true.
        answered: Of what is answered.
        true: Of what is true.
    """

    shared: Tensor
    answered: Tensor
    true: Tensor


def areas_of_classes(probabilities: Tensor, labels: Tensor) -> Areas:
    """Areas where every pixel is of one class.

    Args:
        probabilities: (B, C, H, W).
        labels: (B, H, W), 255 unknown.
    """
    classes = probabilities.shape[1]
    known = labels != UNKNOWN
    weights = known.flatten(1).to(probabilities.dtype)
    answered = torch.bmm(probabilities.flatten(2), weights[..., None]).sum((0, 2))
    index = torch.where(known, labels, 0)
    own = probabilities.gather(1, index[:, None]).flatten(1) * weights
    shared = probabilities.new_zeros(classes).index_add(0, index.flatten(), own.flatten())
    true = torch.bincount(labels[known], minlength=classes).to(probabilities.dtype)
    return Areas(shared, answered, true)


def areas_of_sets(probabilities: Tensor, wanted: Tensor) -> Areas:
    """Areas where a pixel is of any number of classes.

    Args:
        probabilities: (P, C) of the known pixels.
        wanted: (P, C), 1 where it is true.
    """
    return Areas((probabilities * wanted).sum(0), probabilities.sum(0), wanted.sum(0))


def overlap_losses(areas: Areas, config: LossConfig) -> dict[str, Tensor]:
    """Those of Dice, Jaccard and Tversky that the config gives a weight, not yet weighted.

    Source: Salehi et al., Tversky Loss Function for Image Segmentation, MLMI 2017, eq. 1; Dice and Jaccard are its
    cases of 1/2 and 1/2, and of 1 and 1.
    """
    weights: dict[str, tuple[float, float]] = {
        "dice": (0.5, 0.5),
        "jaccard": (1.0, 1.0),
        "tversky": (config.tversky_alpha, config.tversky_beta),
    }
    return {name: _tversky(areas, *pair) for name, pair in weights.items() if getattr(config, name)}


def _tversky(areas: Areas, alpha: float, beta: float) -> Tensor:
    false_positive, false_negative = areas.answered - areas.shared, areas.true - areas.shared
    area = areas.shared + alpha * false_positive + beta * false_negative
    loss = 1 - areas.shared / area.clamp(min=LEAST)
    return (loss * (areas.true > 0)).mean()
