"""Where the queries of D-FINE's decoder come from: the strongest positions of the encoder, and noised ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from densevision.tasks.detection.models.deformable_decoder import PRIOR, inverse_sigmoid
from densevision.tasks.detection.models.dfine_targets import Assignment, BoxTargets, to_centers, to_corners
from densevision.tasks.detection.models.transformer_layers import MLP

__all__ = ["DenoisingQueries", "QuerySelection", "anchor_logits", "denoising_queries"]

ANCHOR_SIDE = 0.05
"""Side of the finest level's anchors, as part of the image's side; it doubles from level to level."""
MARGIN = 0.01
"""Positions nearer to an edge of the image than this part of its side propose nothing."""


class QuerySelection(nn.Module):
    """Classifies every position of every level, and makes queries of the strongest.

    Args:
        num_classes: Number of classes.
        width: Channels of the levels and features of a query.
        count: Number of queries; fewer where the levels have fewer positions.
    """

    def __init__(self, num_classes: int, width: int, count: int):
        super().__init__()
        self.count = count
        self.project = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.score = nn.Linear(width, num_classes)
        self.box = MLP(width, width, 4, 3)
        nn.init.xavier_uniform_(self.project[0].get_parameter("weight"))
        nn.init.constant_(self.score.bias, -math.log((1 - PRIOR) / PRIOR))
        self.box.init_zero_output()

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """Levels (B, width, H, W) to proposals, strongest first.

        Returns:
            "queries" (B, Q, width), "box_logits" (B, Q, 4) of normalized cxcywh, and "logits" (B, Q, C).
        """
        anchors, is_inside = anchor_logits([level.shape[-2:] for level in levels], levels[0].device)
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        features = self.project(tokens * is_inside.to(tokens.dtype))
        logits = self.score(features)
        strongest = logits.amax(-1).topk(min(self.count, len(anchors)), 1).indices
        queries = features.gather(1, strongest[..., None].expand(-1, -1, features.shape[-1]))
        return {
            "queries": queries,
            "box_logits": self.box(queries).float() + anchors[strongest],
            "logits": logits.gather(1, strongest[..., None].expand(-1, -1, logits.shape[-1])),
        }


def anchor_logits(sizes: Sequence[Sequence[int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Anchor boxes about the positions of levels.

    Args:
        sizes: (height, width) of each level, finest first.
        device: Where to make them.

    Returns:
        (N, 4) float32, logits of normalized cxcywh, the largest number where a position is too near to an edge; and
        whether it is not, (N, 1) bool.
    """
    rows = []
    for index, (height, width) in enumerate(sizes):
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        y, x = torch.meshgrid(y, x, indexing="ij")
        side = torch.full_like(x, ANCHOR_SIDE * 2**index)
        rows.append(torch.stack([x, y, side, side], -1).flatten(0, 1))
    anchors = torch.cat(rows)
    is_inside = ((anchors > MARGIN) & (anchors < 1 - MARGIN)).all(-1, keepdim=True)
    logits = torch.log(anchors / (1 - anchors))
    return torch.where(is_inside, logits, torch.full_like(logits, torch.finfo(torch.float32).max)), is_inside


@dataclass(frozen=True)
class DenoisingQueries:
    """Noised ground truth that the decoder is to restore.

    Attributes:
        labels: (B, D) int64; the number of classes where there is no object.
        box_logits: (B, D, 4), logits of normalized cxcywh.
        mask: (D + Q, D + Q) bool, True where a query may attend to another; the denoising queries come first.
        assignment: The queries of slight noise, each with its object; the others are negative.
        groups: How often every object appears so.
    """

    labels: Tensor
    box_logits: Tensor
    mask: Tensor
    assignment: Assignment
    groups: int

    @property
    def count(self) -> int:
        """Number of denoising queries of an image."""
        return self.labels.shape[1]


def denoising_queries(
    targets: BoxTargets, num_classes: int, num_queries: int, total: int, label_noise: float, box_noise: float
) -> DenoisingQueries | None:
    """Noised copies of the ground truth: of each object, in every group, a slightly and a strongly displaced one.

    Contrastive denoising (Zhang et al., "DINO", ICLR 2023, section 3.3).

    Args:
        targets: Ground truth of the batch.
        num_classes: Number of classes.
        num_queries: Queries that follow.
        total: Number of groups times the largest number of objects of an image stays below this; one group at least.
        label_noise: Half of this part of the labels is replaced by random ones.
        box_noise: Slight displacements of an edge are up to this times half of the box's side, strong ones up to twice.

    Returns:
        The queries; None where no image has an object, or `total` is 0.
    """
    largest = targets.labels.shape[1]
    if total <= 0 or largest == 0:
        return None
    groups = max(total // largest, 1)
    labels = targets.labels.masked_fill(~targets.valid, num_classes).repeat(1, 2 * groups)
    boxes = (targets.boxes * targets.valid[..., None]).repeat(1, 2 * groups, 1)
    valid = targets.valid.repeat(1, 2 * groups)
    place = torch.arange(labels.shape[1], device=labels.device) % (2 * largest)
    is_negative = place >= largest

    if label_noise > 0:
        is_replaced = torch.rand_like(labels, dtype=torch.float32) < 0.5 * label_noise
        labels = torch.where(is_replaced & valid, torch.randint_like(labels, 0, num_classes), labels)
    if box_noise > 0:
        sign = torch.randint_like(boxes, 0, 2) * 2 - 1
        amount = torch.rand_like(boxes) + is_negative[:, None].float()
        half_sides = 0.5 * boxes[..., 2:].repeat(1, 1, 2)
        boxes = to_centers((to_corners(boxes) + sign * amount * half_sides * box_noise).clamp(0, 1))
        boxes = torch.cat([boxes[..., :2], boxes[..., 2:].abs()], -1)  # opposite edges may have changed places

    image, query = torch.nonzero(valid & ~is_negative, as_tuple=True)
    group = torch.arange(labels.shape[1], device=labels.device) // (2 * largest)
    group = torch.cat([group, group.new_full((num_queries,), -1)])
    may_attend = (group[:, None] == group) | (group < 0)
    return DenoisingQueries(labels, inverse_sigmoid(boxes), may_attend, Assignment(image, query, place[query]), groups)
