"""Losses of semantic segmentation: weighted sums over the pixels whose class is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from densevision.results import SemanticMap
from densevision.results.semantic_map import UNKNOWN, UNKNOWN_MULTILABEL
from densevision.tasks.semantic.overlap import Areas, compute_class_areas, compute_multilabel_areas, tversky_loss

__all__ = [
    "Mode",
    "SegmentationCriterion",
    "compute_enet_weights",
    "compute_median_weights",
    "cross_entropy",
    "focal",
    "ohem",
    "pad_labels",
    "stack_labels",
]

Tensors = dict[str, Tensor]
Mode = Literal["multiclass", "binary", "multilabel"]


@dataclass(frozen=True)
class SegmentationCriterion:
    """Every loss that has a weight, of the logits and, where the model returns them, of the auxiliary logits.

    Attributes:
        mode: "multilabel" compares sets of classes, the others one class per pixel.
        cross_entropy: Weight of the cross-entropy; binary for each class with "multilabel".
        ohem: Weight of the cross-entropy over the hardest pixels; not with "multilabel".
        focal: Weight of the focal loss.
        dice: Weight of the soft Dice loss.
        jaccard: Weight of the soft Jaccard loss.
        lovasz: Weight of the Lovasz extension of the Jaccard loss.
        tversky: Weight of the Tversky loss.
        class_weights: Weight of each class in the cross-entropy and OHEM.
        label_smoothing: Part of the target that is spread over all classes in the cross-entropy.
        ohem_fraction: Part of the known pixels that `ohem` counts.
        focal_gamma: Exponent of the focal loss.
        tversky_alpha: Weight of false positives in the Tversky loss.
        tversky_beta: Weight of false negatives in the Tversky loss.
        auxiliary: Factor of the losses of the auxiliary logits.
    """

    mode: Mode = "multiclass"
    cross_entropy: float = 1.0
    ohem: float = 0.0
    focal: float = 0.0
    dice: float = 0.0
    jaccard: float = 0.0
    lovasz: float = 0.0
    tversky: float = 0.0
    class_weights: Sequence[float] | None = None
    label_smoothing: float = 0.0
    ohem_fraction: float = 0.25
    focal_gamma: float = 2.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    auxiliary: float = 0.5

    def __post_init__(self) -> None:
        if self.ohem and self.mode == "multilabel":
            raise ValueError("ohem is not defined for mode='multilabel'; use focal")

    def __call__(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Computes the weighted losses.

        Args:
            outputs: "logits" (B, C, H, W) and perhaps "auxiliary", same shape.
            targets: "labels" (B, h, w) as from `stack_labels`; pixels of the logits beyond them are unknown.

        Returns:
            Scalars by name, those of the auxiliary logits with the prefix "auxiliary_"; 0 without any known pixel.
        """
        losses: Tensors = {}
        for output, prefix, factor in (("logits", "", 1.0), ("auxiliary", "auxiliary_", self.auxiliary)):
            if output in outputs:
                logits = outputs[output].float()
                is_multilabel = self.mode == "multilabel"
                labels = pad_labels(targets["labels"], logits.shape[-2:], is_multilabel)
                values = self._multilabel(logits, labels) if is_multilabel else self._multiclass(logits, labels)
                losses |= {prefix + name: factor * getattr(self, name) * value for name, value in values.items()}
        return losses

    def _multiclass(self, logits: Tensor, labels: Tensor) -> Tensors:
        """Losses of (B, C, H, W) logits against (B, H, W) classes, not yet weighted."""
        known = labels != UNKNOWN
        weight = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        losses = {}
        if self.cross_entropy:
            losses["cross_entropy"] = cross_entropy(logits, labels, weight, self.label_smoothing)
        if self.ohem:
            losses["ohem"] = ohem(logits, labels, weight, self.ohem_fraction)
        if self.focal:
            losses["focal"] = focal(logits, labels, self.focal_gamma)
        if self.lovasz:
            losses["lovasz"] = _lovasz(logits.movedim(1, -1)[known], labels[known], "multiclass")
        if self.dice or self.jaccard or self.tversky:
            losses |= self._overlap(compute_class_areas(logits.softmax(1), labels))
        return losses

    def _multilabel(self, logits: Tensor, labels: Tensor) -> Tensors:
        """Losses of (B, C, H, W) logits against (B, H, W) sets of classes, not yet weighted."""
        known = labels != UNKNOWN_MULTILABEL
        pixels = logits.movedim(1, -1)[known]
        bits = torch.arange(logits.shape[1], device=labels.device, dtype=labels.dtype)
        targets = (labels[known][:, None] >> bits & 1).to(pixels.dtype)
        count = max(1, targets.numel())
        losses = {}
        if self.cross_entropy:
            weight = None if self.class_weights is None else logits.new_tensor(self.class_weights)
            smooth = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            total = F.binary_cross_entropy_with_logits(pixels, smooth, weight, reduction="sum")
            losses["cross_entropy"] = total / count
        if self.focal:
            total = sigmoid_focal_loss(pixels, targets, alpha=-1, gamma=self.focal_gamma, reduction="sum")
            losses["focal"] = total / count
        if self.lovasz:
            losses["lovasz"] = _lovasz(pixels, targets, "multilabel")
        return losses | self._overlap(compute_multilabel_areas(pixels.sigmoid(), targets))

    def _overlap(self, areas: Areas) -> Tensors:
        weights = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (self.tversky_alpha, self.tversky_beta)}
        return {name: tversky_loss(areas, *pair) for name, pair in weights.items() if getattr(self, name)}


def stack_labels(target_records: Sequence[SemanticMap | None], multilabel: bool) -> Tensors:
    """Stacks class maps on the canvas as tensors.

    Args:
        target_records: One record per image; None where nothing is known.
        multilabel: The records hold sets of classes.

    Returns:
        "labels" (B, H, W): int64 classes, 255 unknown; with `multilabel` int32 sets of classes, 65535 unknown.
    """
    value = UNKNOWN_MULTILABEL if multilabel else UNKNOWN
    size = tuple(np.max([truth.size for truth in target_records if truth is not None] or [(1, 1)], 0))
    labels = np.full((len(target_records), *size), value, np.int32 if multilabel else np.int64)
    for row, truth in zip(labels, target_records):
        if truth is not None:
            row[: truth.size[0], : truth.size[1]] = truth.labels
    return {"labels": torch.from_numpy(labels)}


def pad_labels(labels: Tensor, size: Sequence[int], multilabel: bool) -> Tensor:
    """Labels (B, h, w) padded with unknown at the right and the bottom to (height, width)."""
    bottom, right = size[0] - labels.shape[1], size[1] - labels.shape[2]
    return F.pad(labels, (0, right, 0, bottom), value=UNKNOWN_MULTILABEL if multilabel else UNKNOWN)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the known pixels, each weighted by its class.

    Equal to torch's, but 0 instead of NaN without any known pixel.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) int64, 255 unknown.
        weight: (C,).
        smoothing: Part of the target that is spread over all classes.
    """
    total = F.cross_entropy(logits, labels, weight, ignore_index=UNKNOWN, reduction="sum", label_smoothing=smoothing)
    known = labels[labels != UNKNOWN]
    mass = known.numel() if weight is None else weight[known].sum()
    return total / torch.clamp(torch.as_tensor(mass, dtype=total.dtype, device=total.device), min=1e-6)


def ohem(logits: Tensor, labels: Tensor, weight: Tensor | None, fraction: float) -> Tensor:
    """Mean cross-entropy of the hardest part of the known pixels of a batch.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example Mining, CVPR 2016,
    applied to pixels.
    """
    losses = F.cross_entropy(logits, labels, weight, ignore_index=UNKNOWN, reduction="none").flatten()
    count = max(1, int(fraction * int((labels != UNKNOWN).sum())))
    return losses.topk(count).values.mean()


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean of (1 - p) ** gamma * -log p over the known pixels, p the probability of the target class.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4, with a softmax.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses).sum() / (labels != UNKNOWN).sum().clamp(min=1)


def compute_median_weights(pixels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Class weights by median frequency balancing, (C,); 1 for classes that never occur.

    Source: Eigen and Fergus, Predicting Depth, Surface Normals and Semantic Labels, ICCV 2015, section 6.3.2.

    Args:
        pixels: (C,) pixels of each class.
        present: (C,) known pixels of all images in which it occurs.
    """
    frequency = pixels / np.maximum(present, 1)
    occurs = frequency > 0
    median = np.median(frequency[occurs]) if occurs.any() else 1.0
    return np.where(occurs, median / np.where(occurs, frequency, 1), 1.0)


def compute_enet_weights(pixels: np.ndarray) -> np.ndarray:
    """Class weights 1 / log(1.02 + share of the pixels), (C,), scaled to a mean of 1.

    Source: Paszke et al., ENet, 2016, section 5.2.
    """
    weights = 1 / np.log(1.02 + pixels / max(1, pixels.sum()))
    return weights / weights.mean()


def _lovasz(pixels: Tensor, targets: Tensor, mode: str) -> Tensor:
    """The Lovasz extension of the Jaccard loss of known pixels (P, C) against classes (P,) or sets (P, C).

    Source: Berman et al., The Lovasz-Softmax Loss, CVPR 2018, as implemented by segmentation_models_pytorch; all
    pixels of the batch count as one image.
    """
    from segmentation_models_pytorch.losses import LovaszLoss

    if not len(pixels):
        return pixels.sum()
    pixels, targets = (tensor.movedim(-1, 0)[None, ..., None] for tensor in (pixels, targets))
    return LovaszLoss(mode)(pixels, targets)
