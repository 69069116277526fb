"""Supervised flow losses: the flow after every iteration, later ones weighted more, and the occlusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.ops.warp import get_bilinear_neighbors, pixel_grid
from densevision.results import FlowField

__all__ = [
    "FlowCriterion",
    "Iterations",
    "IterativeCriterion",
    "collate_targets",
    "flow_loss",
    "matching_loss",
    "occlusion_loss",
    "visibility_loss",
]

Tensors = dict[str, Tensor]

DistanceKind = Literal["l1", "robust"]


def collate_targets(target_records: Sequence[FlowField | None]) -> Tensors:
    """Stacks ground truths on the canvas as training targets, padded to one size.

    Args:
        target_records: One record per pair; None where nothing is known.

    Returns:
        "flow" (B, 2, H, W), "valid" (B, H, W) bool, "occlusion" (B, H, W) in [0, 1], "occlusion_valid" (B, H, W) bool:
        where occlusion is known.
    """
    sizes = [truth.size for truth in target_records if truth is not None] or [(1, 1)]
    height, width = (max(sides) for sides in zip(*sizes))
    shape = (len(target_records), height, width)
    flow, occlusion = np.zeros((len(target_records), 2, height, width), np.float32), np.zeros(shape, np.float32)
    valid, occlusion_valid = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, truth in enumerate(target_records):
        if truth is None:
            continue
        place = row, slice(truth.size[0]), slice(truth.size[1])
        flow[row, :, place[1], place[2]], valid[place] = truth.flow, truth.valid
        if truth.occlusion is not None:
            occlusion[place], occlusion_valid[place] = truth.occlusion, truth.valid
    arrays = {"flow": flow, "valid": valid, "occlusion": occlusion, "occlusion_valid": occlusion_valid}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class Iterations(NamedTuple):
    """What an iterative network predicts in training.

    Attributes:
        steps: "flow" (B, 2, H, W), and optionally "occlusion" (B, H, W) logits, after every iteration.
        final: The same after refinement of the last one.
        features: (B, D, h, w) of both images, if the criterion needs them.
        backward_flow: (B, 2, H, W) from the second image to the first, if the criterion needs it.
    """

    steps: Sequence[Tensors]
    final: Tensors
    features: tuple[Tensor, Tensor] | None = None
    backward_flow: Tensor | None = None


class IterativeCriterion(nn.Module):
    """The base of losses over the iterations of a network: maps `Iterations`, inputs and targets to named losses.

    Attributes:
        needs_features: Whether it needs the correlated features.
        needs_backward_flow: Whether it needs the flow from the second image to the first.
    """

    needs_features: bool = False
    needs_backward_flow: bool = False

    def compute_step_losses(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of final outputs alone, where these and the targets suffice."""
        raise NotImplementedError("these losses need the images: use Model.compute_losses")


class FlowCriterion(IterativeCriterion):
    """Sums over the iterations, each weighted by gamma to the number of those that follow (RAFT, eq. 7).

    Args:
        distance: Distance of flows: absolute difference, or `robust`.
        gamma: Weight of an iteration's loss relative to the next one's.
        max_flow: Pixels whose true flow is at least this long are ignored.
        occlusion: Weight of the occlusion losses, where occlusion is predicted and known.
        matching: Weight of the cross-entropy of each cell's match among all cells.
    """

    def __init__(
        self,
        distance: DistanceKind = "l1",
        gamma: float = 0.8,
        max_flow: float = 400.0,
        occlusion: float = 0.5,
        matching: float = 0.0,
    ):
        super().__init__()
        self.distance: DistanceKind = distance
        self.gamma, self.max_flow, self.occlusion, self.matching = gamma, max_flow, occlusion, matching
        self.needs_features = bool(matching)

    def forward(self, iterations: Iterations, inputs: Tensors, targets: Tensors) -> Tensors:
        """Computes the losses of a batch.

        Args:
            iterations: What the network predicts, with features for the matching loss.
            inputs: Unused.
            targets: See `collate_targets`.

        Returns:
            "flow"; "occlusion" of the iterations and "visibility" of the refined pixels, if occlusion is predicted;
            "matching", if it has a weight. Finite without any valid pixel.
        """
        steps, final, features, _ = iterations
        weights = [self.gamma ** (len(steps) - 1 - number) for number in range(len(steps))]
        flow_losses = [self._flow_loss(step, targets) for step in steps]
        losses = {"flow": torch.stack([weight * loss for weight, loss in zip(weights, flow_losses)]).sum()}
        if "occlusion" in final and self.occlusion:
            known = targets["occlusion"], targets["occlusion_valid"]
            terms = [occlusion_loss(step["occlusion"], *known) for step in steps]
            total = torch.stack([weight * loss for weight, loss in zip(weights, terms)]).sum()
            losses["occlusion"] = self.occlusion * total
            losses["visibility"] = self.occlusion * visibility_loss(final["occlusion"], *known)
        if self.matching and features is not None:
            visible = targets["valid"] & ~(targets["occlusion_valid"] & (targets["occlusion"] > 0.5))
            losses["matching"] = self.matching * matching_loss(*features, targets["flow"], visible)
        return losses

    def compute_step_losses(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of final outputs alone."""
        losses = {"flow": self._flow_loss(outputs, targets)}
        if "occlusion" in outputs and self.occlusion:
            known = targets["occlusion"], targets["occlusion_valid"]
            losses["visibility"] = self.occlusion * visibility_loss(outputs["occlusion"], *known)
        return losses

    def _flow_loss(self, outputs: Tensors, targets: Tensors) -> Tensor:
        valid = targets["valid"] & (targets["flow"].norm(dim=1) < self.max_flow)
        return flow_loss(outputs["flow"], targets["flow"], valid, self.distance)


def flow_loss(flow: Tensor, target: Tensor, valid: Tensor, distance: DistanceKind) -> Tensor:
    """Mean difference over the valid pixels and both directions; 0 without any.

    Args:
        flow: (B, 2, H, W).
        target: (B, 2, H, W).
        valid: (B, H, W) bool.
        distance: `l1`, or `robust`: (difference + 0.01)^0.4 (Sun et al., PWC-Net, CVPR 2018).
    """
    difference = (flow - target).abs()
    if distance == "robust":
        difference = (difference + 0.01) ** 0.4
    return (difference * valid[:, None]).sum() / (2 * valid.sum()).clamp(min=1)


def occlusion_loss(logits: Tensor, occlusion: Tensor, valid: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels of known occlusion; all (B, H, W)."""
    loss = F.binary_cross_entropy_with_logits(logits, occlusion, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def visibility_loss(logits: Tensor, occlusion: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy plus the Dice loss over the pixels of known occlusion; all (B, H, W).

    Few pixels are occluded: cross-entropy alone would rather miss some, at the cost of F1. Dice is F1 with
    probabilities instead of decisions (Milletari et al., V-Net, 3DV 2016, eq. 3).
    """
    probability, target = logits.sigmoid() * valid, occlusion * valid
    dice = (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
    return occlusion_loss(logits, occlusion, valid) + 1 - dice


def matching_loss(features1: Tensor, features2: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean cross-entropy of each cell's match, with the correlations with all cells as logits; 0 without any cell.

    The true match lies between four cells, which share the probability as in bilinear interpolation. Iterations can
    only learn to use a correlation that is informative: this loss makes it so within the first hundred batches.

    Source: the classification over all matches of Sun et al., LoFTR, CVPR 2021, section 3.5.

    Args:
        features1: (B, D, H, W) of the first image.
        features2: (B, D, H, W) of the second one.
        flow: (B, 2, s H, s W) ground truth in pixels.
        visible: (B, s H, s W) bool, where it is known and not occluded. Only cells that are entirely visible count.
    """
    height, width = features1.shape[2:]
    stride = flow.shape[2] // height
    motion = F.avg_pool2d(flow, stride) / stride
    match = motion + pixel_grid(height, width, motion)
    x, y = match.floor().unbind(1)
    is_counted = F.avg_pool2d(visible.to(flow.dtype)[:, None], stride)[:, 0] == 1
    is_counted &= (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    logits = features1.flatten(2).transpose(1, 2).float() @ features2.flatten(2).float()
    log_probability = (logits / math.sqrt(features1.shape[1])).log_softmax(2)
    loss = flow.new_zeros(())
    for column, row, share in get_bilinear_neighbors(match):
        index = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
        values = log_probability.gather(2, index.flatten(1)[..., None])[..., 0].unflatten(1, (height, width))
        loss = loss - (values * share * is_counted).sum()
    return loss / is_counted.sum().clamp(min=1)
