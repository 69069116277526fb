"""The first stage: where there may be an object, whatever it is.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1, on a feature pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from densevision.nn.rcnn.box_coder import PROPOSAL_SCALES, clipped, decode, least_side
from densevision.nn.rcnn.config import ProposalConfig
from densevision.nn.rcnn.nms import batched_nms, rows_of, strongest

LEAST_SIDE = 1e-3
"""Shorter side in pixels below which a proposal is nothing."""


class Proposals(NamedTuple):
    """Boxes of a batch that may hold an object, strongest first.

    Attributes:
        boxes: (B, K, 4) xyxy in pixels of the canvas, inside the image.
        scores: (B, K) in [0, 1].
        valid: (B, K) bool; the others only fill the tensor.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


class ProposalHead(nn.Module):
    """A small network that slides over every level, and says of each anchor whether and where it should move.

    Args:
        width: Channels of the levels.
        anchors: Anchors per cell.
        depth: Convolutions before the predictions.
    """

    def __init__(self, width: int, anchors: int, depth: int):
        super().__init__()
        layers = (Conv2dNormActivation(width, width, 3, norm_layer=None) for _ in range(depth))
        self.convolve = nn.Sequential(*layers)
        self.objectness = nn.Conv2d(width, anchors, 1)
        self.offsets = nn.Conv2d(width, 4 * anchors, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels (B, width, H, W) to logits (B, A) and offsets (B, A, 4) of each level's anchors."""
        logits, offsets = [], []
        for level in levels:
            x = self.convolve(level)
            logits.append(self.objectness(x).permute(0, 2, 3, 1).flatten(1).float())
            offsets.append(self.offsets(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4).float())
        return logits, offsets


@torch.no_grad()
def propose(
    logits: Sequence[Tensor],
    offsets: Sequence[Tensor],
    anchors: Sequence[Tensor],
    size: Tensor,
    config: ProposalConfig,
    training: bool = False,
) -> Proposals:
    """The strongest boxes of every level that do not suppress one another.

    Args:
        logits: (B, A) of each level.
        offsets: (B, A, 4) of each level.
        anchors: (A, 4) of each level.
        size: (B, 2) height and width of each image on its canvas.
        config: How many, how strong, how far apart.
        training: Take as many as training asks for.
    """
    count = config.training_candidates if training else config.candidates
    kept = config.training_kept if training else config.kept
    parts = [_of_level(*level, size, count, config) for level in zip(logits, offsets, anchors)]
    boxes, scores, valid = (torch.cat(part, 1) for part in zip(*parts))
    best, rows = strongest(torch.where(valid, scores, -1.0), kept)
    return Proposals(rows_of(boxes, rows), best.clamp(min=0), best >= 0)


def _of_level(logits: Tensor, offsets: Tensor, anchors: Tensor, size: Tensor, count: int, config: ProposalConfig):
    best, rows = strongest(logits, count)
    boxes = clipped(decode(rows_of(offsets, rows), anchors[rows], PROPOSAL_SCALES), size)
    scores = best.sigmoid()
    valid = (least_side(boxes) >= LEAST_SIDE) & (scores >= config.score_threshold) & (best > -torch.inf)
    return boxes, scores, batched_nms(boxes, scores, valid, config.nms)
