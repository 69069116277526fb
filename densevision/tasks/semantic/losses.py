"""What the network is trained on: weighted sums of losses over the pixels whose class is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from densevision.results import SemanticMap
from densevision.results.semantic_map import UNKNOWN, UNKNOWN_SET
from densevision.tasks.semantic.config import LossConfig
from densevision.tasks.semantic.overlap import areas_of_classes, areas_of_sets, overlap_losses

Tensors = dict[str, Tensor]


def stack(ground_truths: Sequence[SemanticMap | None], multilabel: bool) -> Tensors:
    """Truths of one size on the canvas, as tensors.

    Args:
        truths: One record per image; None where nothing is known.
        multilabel: The records hold sets of classes.

    Returns:
        "labels" (B, H, W): int64 classes, 255 unknown; with `multilabel` int32 sets of classes, 65535 unknown.
    """
    value = UNKNOWN_SET if multilabel else UNKNOWN
    size = tuple(np.max([truth.size for truth in ground_truths if truth is not None] or [(1, 1)], 0))
    labels = np.full((len(ground_truths), *size), value, np.int32 if multilabel else np.int64)
    for row, truth in zip(labels, ground_truths):
        if truth is not None:
            row[: truth.size[0], : truth.size[1]] = truth.labels
    return {"labels": torch.from_numpy(labels)}


def semantic_losses(outputs: Tensors, targets: Tensors, config: LossConfig, multilabel: bool) -> Tensors:
    """Every loss that the config gives a weight, weighted, of the main head and of the auxiliary one.

    Args:
        outputs: Of the head.
        targets: Of `stack`.
        config: Weights and options.
        multilabel: The targets are sets of classes.

    Returns:
        Scalars by name; finite for any truth, zero where none is known.
    """
    losses = {}
    for output, factor in (("logits", 1.0), ("auxiliary", config.auxiliary)):
        if output in outputs:
            logits = outputs[output].float()
            labels = _covering(targets["labels"], logits, multilabel)
            found = _of_sets(logits, labels, config) if multilabel else _of_classes(logits, labels, config)
            prefix = "" if output == "logits" else "auxiliary_"
            losses |= {prefix + name: factor * getattr(config, name) * value for name, value in found.items()}
    return losses


def _of_classes(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensors:
    """Losses of (B, C, H, W) logits against (B, H, W) classes."""
    known = labels != UNKNOWN
    weight = None if config.class_weights is None else logits.new_tensor(config.class_weights)
    found = {}
    if config.cross_entropy:
        found["cross_entropy"] = cross_entropy(logits, labels, weight, config.label_smoothing)
    if config.ohem:
        found["ohem"] = ohem(logits, labels, weight, config.ohem_fraction)
    if config.focal:
        found["focal"] = focal(logits, labels, config.focal_gamma)
    if config.dice or config.jaccard or config.tversky:
        found |= overlap_losses(areas_of_classes(logits.softmax(1), labels), config)
    if config.lovasz:
        found["lovasz"] = _lovasz(logits.movedim(1, -1)[known], labels[known], "multiclass")
    return found


def _of_sets(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensors:
    """Losses of (B, C, H, W) logits against (B, H, W) sets of classes."""
    known = labels != UNKNOWN_SET
    pixels = logits.movedim(1, -1)[known]
    bits = torch.arange(logits.shape[1], device=labels.device, dtype=labels.dtype)
    wanted = (labels[known][:, None] >> bits & 1).to(pixels.dtype)
    count = max(1, wanted.numel())
    found = {}
    if config.cross_entropy:
        weight = None if config.class_weights is None else logits.new_tensor(config.class_weights)
        smooth = wanted * (1 - config.label_smoothing) + config.label_smoothing / 2
        total = F.binary_cross_entropy_with_logits(pixels, smooth, weight, reduction="sum")
        found["cross_entropy"] = total / count
    if config.focal:
        found["focal"] = sigmoid_focal_loss(pixels, wanted, alpha=-1, gamma=config.focal_gamma, reduction="sum") / count
    if config.lovasz:
        found["lovasz"] = _lovasz(pixels, wanted, "multilabel")
    return found | overlap_losses(areas_of_sets(pixels.sigmoid(), wanted), config)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the known pixels, each weighted by its class; zero where none is known.

    Equal to torch's own, which is not a number where none is known.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W), 255 unknown.
        weight: (C,).
        smoothing: Part of the target that is spread over all classes.
    """
    total = F.cross_entropy(logits, labels, weight, ignore_index=UNKNOWN, reduction="sum", label_smoothing=smoothing)
    known = labels[labels != UNKNOWN]
    mass = known.numel() if weight is None else weight[known].sum()
    return total / torch.clamp(torch.as_tensor(mass, dtype=total.dtype, device=total.device), min=1e-6)


def ohem(logits: Tensor, labels: Tensor, weight: Tensor | None, fraction: float) -> Tensor:
    """Mean cross-entropy of the hardest part of the known pixels of a batch.

    Source: Shrivastava et al., OHEM, CVPR 2016, for pixels.
    """
    each = F.cross_entropy(logits, labels, weight, ignore_index=UNKNOWN, reduction="none").flatten()
    count = max(1, int(fraction * int((labels != UNKNOWN).sum())))
    return each.topk(count).values.mean()


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean of (1 - p) ** gamma * -log p over the known pixels, p the probability of the true class.

    Source: Lin et al., Focal Loss, ICCV 2017, eq. 4, over the softmax.
    """
    each = F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="none")
    return ((1 - torch.exp(-each)) ** gamma * each).sum() / (labels != UNKNOWN).sum().clamp(min=1)


def median_weights(pixels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(C,) median frequency balancing; 1 for classes that never occur.

    Source: Eigen and Fergus, ICCV 2015, section 6.3.2.

    Args:
        pixels: (C,) pixels of each class.
        present: (C,) known pixels of all images in which it occurs.
    """
    frequency = pixels / np.maximum(present, 1)
    seen = frequency > 0
    median = np.median(frequency[seen]) if seen.any() else 1.0
    return np.where(seen, median / np.where(seen, frequency, 1), 1.0)


def enet_weights(pixels: np.ndarray) -> np.ndarray:
    """(C,) 1 / log(1.02 + share of the pixels), scaled to a mean of 1.

    Source: Paszke et al., ENet, 2016, section 5.2.
    """
    weights = 1 / np.log(1.02 + pixels / max(1, pixels.sum()))
    return weights / weights.mean()


def _lovasz(pixels: Tensor, truth: Tensor, mode: str) -> Tensor:
    """The Lovasz extension of the Jaccard loss of known pixels (P, C) against classes (P,) or sets (P, C).

    Source: Berman et al., The Lovasz-Softmax Loss, CVPR 2018; by segmentation_models_pytorch, as if they were one
    image.
    """
    from segmentation_models_pytorch.losses import LovaszLoss

    if not len(pixels):
        return pixels.sum()
    pixels, truth = (tensor.movedim(-1, 0)[None, ..., None] for tensor in (pixels, truth))
    return LovaszLoss(mode)(pixels, truth)


def _covering(labels: Tensor, logits: Tensor, multilabel: bool) -> Tensor:
    """Labels padded to the canvas with unknown."""
    down, right = (logits.shape[axis] - labels.shape[axis - 1] for axis in (2, 3))
    return F.pad(labels, (0, right, 0, down), value=UNKNOWN_SET if multilabel else UNKNOWN)
