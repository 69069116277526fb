"""D-FINE's training: Hungarian matching of every layer, and the losses of classes, boxes and edge distributions.

Sources: Peng et al., "D-FINE", ICLR 2025, section 4 (fine-grained localization, self-distillation, matching by union);
Zhao et al., "RT-DETR", CVPR 2024 (varifocal loss with IoU targets, denoising); Carion et al., "DETR", ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from densevision.tasks.detection.models.deformable_decoder import weighting_function
from densevision.tasks.detection.models.dfine_targets import Assignment, BoxTargets, overlap, to_corners

__all__ = [
    "WEIGHTS",
    "EdgeScale",
    "LayerOutputs",
    "LayerPrediction",
    "Prediction",
    "bin_position",
    "box_losses",
    "class_loss",
    "denoising_losses",
    "distillation_balance",
    "distillation_loss",
    "edge_distances",
    "edge_scale",
    "localization_loss",
    "match",
    "mean_over_processes",
    "set_losses",
    "union",
    "weighted_sums",
]

CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0
COST_ALPHA, VFL_ALPHA, GAMMA = 0.25, 0.75, 2.0
TEMPERATURE = 5.0
"""Of the distillation's distributions."""
CROWD_OVERLAP = 0.5
"""A query whose box lies in a crowd region to more than this part is no negative."""

WEIGHTS = {"vfl": 1.0, "l1": 5.0, "giou": 2.0, "fgl": 0.15, "ddf": 1.5}
"""The published weights of the losses."""


@dataclass(frozen=True)
class Prediction:
    """Classes and boxes of the queries.

    Attributes:
        logits: (B, Q, C).
        boxes: (B, Q, 4), normalized cxcywh.
    """

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class LayerPrediction(Prediction):
    """What a layer of the decoder predicts, whose boxes come from distributions.

    Attributes:
        corners: (B, Q, 4 * (bins + 1)), logits of the edges' distributions.
    """

    corners: Tensor


class EdgeScale(NamedTuple):
    """How edges are measured: boxes (B, Q, 4) cxcywh that distances start from, and the weighting function.

    Attributes:
        reference: (B, Q, 4), normalized cxcywh.
        weights: (bins + 1,) values of the weighting function.
        reg_scale: (1,); this many of them are a side of a reference box.
    """

    reference: Tensor
    weights: Tensor
    reg_scale: Tensor


@torch.no_grad()
def match(predictions: Sequence[Prediction], targets: BoxTargets) -> list[Assignment]:
    """The cheapest one-to-one assignment of objects to queries, for every prediction and image.

    Args:
        predictions: Layers of one number of queries.
        targets: Ground truth.

    Returns:
        One assignment per prediction.
    """
    device = targets.boxes.device
    cost = _matching_cost(
        torch.stack([prediction.logits for prediction in predictions]).float(),
        torch.stack([prediction.boxes for prediction in predictions]).float(),
        targets,
    ).cpu()
    costs = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).numpy()
    counts = targets.valid.sum(1).tolist()
    assignments = []
    for layer in costs:
        pairs = [linear_sum_assignment(image[:, :count]) for image, count in zip(layer, counts)]
        assignments.append(_assignment(pairs, device))
    return assignments


def _matching_cost(logits: Tensor, boxes: Tensor, targets: BoxTargets) -> Tensor:
    """Logits (S, B, Q, C) and boxes (S, B, Q, 4) to costs (S, B, Q, N)."""
    index = targets.labels[None, :, None].expand(*logits.shape[:3], -1)
    score = logits.sigmoid().gather(-1, index)
    positive = COST_ALPHA * (1 - score) ** GAMMA * -(score + 1e-8).log()
    negative = (1 - COST_ALPHA) * score**GAMMA * -(1 - score + 1e-8).log()
    distance = torch.cdist(boxes, targets.boxes.expand(len(boxes), -1, -1, -1), p=1)
    _, giou = overlap(to_corners(boxes)[..., None, :], to_corners(targets.boxes)[None, :, None])
    return CLASS_COST * (positive - negative) + L1_COST * distance - GIOU_COST * giou


def union(assignments: Sequence[Assignment], images: int) -> Assignment:
    """All pairs of several assignments; a query with several objects keeps that which most assignments give it.

    Args:
        assignments: Of all layers.
        images: Number of images of the batch.
    """
    device = assignments[0].image.device
    joined = torch.cat([torch.stack(assignment, 1) for assignment in assignments]).cpu().numpy()
    pairs = []
    for image in range(images):
        unique, counts = np.unique(joined[joined[:, 0] == image, 1:], axis=0, return_counts=True)
        unique = unique[np.argsort(-counts, kind="stable")]
        _, first = np.unique(unique[:, 0], return_index=True)
        pairs.append((unique[first, 0], unique[first, 1]))
    return _assignment(pairs, device)


def _assignment(pairs: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device) -> Assignment:
    image = np.repeat(np.arange(len(pairs)), [len(query) for query, _ in pairs])
    columns = (image, *(np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)))
    return Assignment(*(torch.from_numpy(column.astype(np.int64)).to(device) for column in columns))


def class_loss(prediction: Prediction, targets: BoxTargets, assignment: Assignment, normalizer: float) -> Tensor:
    """Varifocal loss: cross-entropy with the IoU as score of the assigned class (RT-DETR, equation 4).

    Args:
        prediction: Of a layer.
        targets: Ground truth.
        assignment: Which query is assigned to which object; the others are negative, unless they lie in crowd regions.
        normalizer: Number of objects that the sum is divided by.
    """
    image, query, target = assignment
    logits = prediction.logits.float()
    labels = targets.labels[image, target]
    with torch.no_grad():
        iou, _ = overlap(*_assigned_boxes(prediction, targets, assignment))
        goal = torch.zeros_like(logits)
        goal[image, query, labels] = iou
        weight = VFL_ALPHA * logits.sigmoid() ** GAMMA
        weight = weight * ~_in_crowd(prediction.boxes, targets.crowd_boxes)[..., None]
        weight[image, query, labels] = iou
    return F.binary_cross_entropy_with_logits(logits, goal, weight, reduction="sum") / normalizer


def box_losses(
    prediction: Prediction, targets: BoxTargets, assignment: Assignment, normalizer: float
) -> dict[str, Tensor]:
    """The "l1" distance of normalized cxcywh, and "giou": 1 - GIoU, summed over pairs."""
    image, query, target = assignment
    difference = prediction.boxes[image, query].float() - targets.boxes[image, target]
    _, giou = overlap(*_assigned_boxes(prediction, targets, assignment))
    return {"l1": difference.abs().sum() / normalizer, "giou": (1 - giou).sum() / normalizer}


def localization_loss(
    prediction: LayerPrediction, targets: BoxTargets, assignment: Assignment, scale: EdgeScale, normalizer: float
) -> Tensor:
    """Fine-grained localization: cross-entropy of the two bins about each edge's true distance (equation 5).

    Pairs weigh as much as their boxes overlap.
    """
    image, query, _ = assignment
    boxes, true_boxes = _assigned_boxes(prediction, targets, assignment)
    with torch.no_grad():
        iou, _ = overlap(boxes, true_boxes)
        goal = edge_distances(scale.reference[image, query], true_boxes, scale.reg_scale)
        left, fraction = bin_position(goal, scale.weights)
    log_probability = prediction.corners[image, query].float().unflatten(-1, (4, -1)).log_softmax(-1)
    at_left, at_right = (log_probability.gather(-1, bins[..., None])[..., 0] for bins in (left, left + 1))
    loss = -(at_left * (1 - fraction) + at_right * fraction)
    return (loss * iou[:, None]).sum() / normalizer


def distillation_loss(
    prediction: LayerPrediction,
    teacher: LayerPrediction,
    targets: BoxTargets,
    assignment: Assignment,
    balance: tuple[Tensor, Tensor],
) -> Tensor:
    """Decoupled distillation focal loss: the last layer's distributions are the targets of a layer's (equation 6).

    Assigned queries weigh as much as their boxes overlap, the others as the teacher's strongest class.

    Args:
        prediction: Of the student layer.
        teacher: Of the last layer; no gradient flows there.
        targets: Ground truth.
        assignment: Which query is assigned to which object.
        balance: Weights of the means over assigned and over other queries, from `distillation_balance`.
    """
    image, query, _ = assignment
    with torch.no_grad():
        iou, _ = overlap(*_assigned_boxes(prediction, targets, assignment))
        weight = teacher.logits.float().sigmoid().amax(-1)
        weight[image, query] = iou
        is_assigned = torch.zeros_like(weight, dtype=torch.bool)
        is_assigned[image, query] = True
    goal, log_probability = (
        (corners.float().unflatten(-1, (4, -1)) / TEMPERATURE).log_softmax(-1)
        for corners in (teacher.corners.detach(), prediction.corners)
    )
    divergence = F.kl_div(log_probability, goal, reduction="none", log_target=True).sum(-1).mean(-1)
    divergence = divergence * weight * TEMPERATURE**2
    means = [(divergence * part).sum() / part.sum().clamp(min=1) for part in (is_assigned, ~is_assigned)]
    return balance[0] * means[0] + balance[1] * means[1]


def distillation_balance(assignment: Assignment, images: int, queries: int) -> tuple[Tensor, Tensor]:
    """Shares of assigned and of other queries: in proportion to the square roots of their numbers."""
    assigned = len(assignment.image)
    roots = torch.tensor([assigned, images * queries - assigned], device=assignment.image.device).sqrt()
    shares = roots / roots.sum()
    return shares[0], shares[1]


def edge_distances(reference: Tensor, boxes: Tensor, reg_scale: Tensor) -> Tensor:
    """How far the edges of boxes lie from those of references: the inverse of `deformable_decoder.move_edges`.

    Args:
        reference: (..., 4), cxcywh.
        boxes: (..., 4), xyxy.
        reg_scale: (1,).

    Returns:
        (..., 4), left, top, right, bottom, outwards; `reg_scale` are a side of the reference.
    """
    center, side = reference.chunk(2, -1)
    unit = torch.cat([side, side], -1) / reg_scale.abs() + 1e-16
    left_top, right_bottom = boxes.chunk(2, -1)
    return torch.cat([center - left_top, right_bottom - center], -1) / unit - 0.5 * reg_scale.abs()


def bin_position(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Where values lie among the increasing values of the weighting function.

    Args:
        values: Of any shape.
        weights: (bins + 1,).

    Returns:
        Index of the value below, from 0 to bins - 1, and how far on the way to the next, from 0 to 1: both of the shape
        of `values`; those out of range sit at the ends.
    """
    left = torch.searchsorted(weights, values.contiguous(), right=True).sub(1).clamp(0, len(weights) - 2)
    low, high = weights[left], weights[left + 1]
    return left, ((values - low) / (high - low)).clamp(0, 1)


def _assigned_boxes(prediction: Prediction, targets: BoxTargets, assignment: Assignment) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes (P, 4) of pairs, xyxy."""
    image, query, target = assignment
    return to_corners(prediction.boxes[image, query].float()), to_corners(targets.boxes[image, target])


def _in_crowd(boxes: Tensor, crowd_boxes: Tensor) -> Tensor:
    """Whether boxes (B, Q, 4) cxcywh lie in one of the crowd regions (B, M, 4) xyxy: (B, Q) bool."""
    if crowd_boxes.shape[1] == 0:
        return torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    corners, regions = to_corners(boxes.float())[:, :, None], crowd_boxes[:, None]
    sides = torch.minimum(corners[..., 2:], regions[..., 2:]) - torch.maximum(corners[..., :2], regions[..., :2])
    common = sides.clamp(min=0).prod(-1).amax(-1)
    return common > CROWD_OVERLAP * boxes[..., 2:].float().clamp(min=0).prod(-1)


class LayerOutputs(NamedTuple):
    """All that the losses of one group of queries need.

    Attributes:
        layers: Predictions of the decoder's layers, with distributions; the last is the teacher of the others.
        initial: The first layer's, before the distributions.
        scale: Of the distributions.
    """

    layers: list[LayerPrediction]
    initial: Prediction
    scale: EdgeScale


def set_losses(
    outputs: LayerOutputs, encoder: Prediction, targets: BoxTargets, objects: float
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Losses of the queries that are matched: of every layer, the initial boxes and the encoder's proposals.

    Classes follow each layer's own matching; boxes and distributions follow the union of all (D-FINE, section 4.2).

    Args:
        outputs: Of the decoder.
        encoder: The proposals.
        targets: Ground truth.
        objects: Number of objects per process, at least 1.

    Returns:
        Losses by name, not yet weighted: kind, and behind it "_aux_i", "_pre" or "_enc" of all but the last layer; and
        the balance of the distillation.
    """
    *earlier, last = outputs.layers
    predictions = [last, *earlier, outputs.initial, encoder]
    endings = ["", *(f"_aux_{index}" for index in range(len(earlier))), "_pre", "_enc"]
    images, queries = last.logits.shape[:2]
    assignments = match(predictions, targets)
    common = union(assignments, images)
    pairs = mean_over_processes(len(common.image), last.logits.device)
    balance = distillation_balance(common, images, queries)
    losses = {}
    for prediction, assignment, ending in zip(predictions, assignments, endings):
        losses[f"vfl{ending}"] = class_loss(prediction, targets, assignment, objects)
        for name, loss in box_losses(prediction, targets, common, pairs).items():
            losses[name + ending] = loss
        if isinstance(prediction, LayerPrediction):
            losses[f"fgl{ending}"] = localization_loss(prediction, targets, common, outputs.scale, pairs)
            if prediction is not last:
                losses[f"ddf{ending}"] = distillation_loss(prediction, last, targets, common, balance)
    return losses, balance


def denoising_losses(
    outputs: LayerOutputs,
    targets: BoxTargets,
    assignment: Assignment,
    normalizer: float,
    balance: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Losses of the denoising queries, whose objects are known; names end in "_dn_i" and "_dn_pre"."""
    last = outputs.layers[-1]
    losses = {}
    endings = [*(f"_dn_{index}" for index in range(len(outputs.layers))), "_dn_pre"]
    for prediction, ending in zip([*outputs.layers, outputs.initial], endings):
        losses[f"vfl{ending}"] = class_loss(prediction, targets, assignment, normalizer)
        for name, loss in box_losses(prediction, targets, assignment, normalizer).items():
            losses[name + ending] = loss
        if isinstance(prediction, LayerPrediction):
            losses[f"fgl{ending}"] = localization_loss(prediction, targets, assignment, outputs.scale, normalizer)
            if prediction is not last:
                losses[f"ddf{ending}"] = distillation_loss(prediction, last, targets, assignment, balance)
    return losses


def mean_over_processes(count: float, device: torch.device) -> float:
    """The mean of a count over the processes that train together, at least 1."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        total = torch.tensor(float(count), device=device)
        torch.distributed.all_reduce(total)
        count = float(total) / torch.distributed.get_world_size()
    return max(float(count), 1.0)


def weighted_sums(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Losses by kind, weighted and summed over layers; those of denoising queries under "denoising"."""
    sums: dict[str, Tensor] = {}
    for name, loss in losses.items():
        kind = name.split("_")[0]
        group = "denoising" if "_dn_" in name else kind
        sums[group] = sums.get(group, 0) + weights[kind] * loss
    return sums


def edge_scale(reference: Tensor, bins: int, up: Tensor, reg_scale: Tensor) -> EdgeScale:
    """The measure of a decoder's edges: its initial boxes, and its weighting function."""
    return EdgeScale(reference.detach(), weighting_function(bins, up, reg_scale), reg_scale)
