"""The region proposal network: boxes that may contain an object of any class.

Source: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1, on a feature pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from densevision.nn.rcnn.anchors import AnchorGenerator
from densevision.nn.rcnn.box_coder import RPN_CODER, clip_boxes, compute_min_side
from densevision.nn.rcnn.losses import box_regression_loss
from densevision.nn.rcnn.matcher import GroundTruth, Matcher, sample_balanced
from densevision.ops.nms import batched_nms, gather_rows, top_k

__all__ = ["RPN", "Proposals", "RPNOutputs"]

MIN_SIDE = 1e-3
"""Shorter side in pixels below which a proposal is dropped."""


class RPNOutputs(NamedTuple):
    """What the network predicts of the anchors of each level.

    Attributes:
        logits: (B, A) objectness.
        deltas: (B, A, 4).
        anchors: (A, 4) xyxy.
    """

    logits: list[Tensor]
    deltas: list[Tensor]
    anchors: list[Tensor]


class Proposals(NamedTuple):
    """Boxes of a batch that may contain an object, strongest first.

    Attributes:
        boxes: (B, K, 4) xyxy in pixels of the canvas, clipped to the image.
        scores: (B, K) in [0, 1].
        valid: (B, K) bool, False for padding.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


class RPN(nn.Module):
    """Convolutions that all levels share predict the objectness and the box of each anchor.

    Args:
        channels: Channels of the levels.
        anchors: Generates the anchors of the levels.
        depth: Convolutions before the predictions.
        pre_nms_top_n: Strongest proposals of each level that enter the suppression, (in training, else).
        post_nms_top_n: Most proposals per image, (in training, else).
        nms_thresh: IoU above which the weaker of two proposals of a level is suppressed.
        score_thresh: Lowest score of a proposal.
        fg_iou_thresh: IoU with an object from which an anchor is positive.
        bg_iou_thresh: IoU with every object below which an anchor is negative.
        batch_size_per_image: Anchors per image that the losses are computed on.
        positive_fraction: Largest part of positive ones among them.
    """

    def __init__(
        self,
        channels: int,
        anchors: AnchorGenerator,
        depth: int = 1,
        pre_nms_top_n: tuple[int, int] = (2000, 1000),
        post_nms_top_n: tuple[int, int] = (2000, 1000),
        nms_thresh: float = 0.7,
        score_thresh: float = 0.0,
        fg_iou_thresh: float = 0.7,
        bg_iou_thresh: float = 0.3,
        batch_size_per_image: int = 256,
        positive_fraction: float = 0.5,
    ):
        super().__init__()
        self.anchors = anchors
        self.pre_nms_top_n, self.post_nms_top_n = pre_nms_top_n, post_nms_top_n
        self.nms_thresh, self.score_thresh = nms_thresh, score_thresh
        self.matcher = Matcher(fg_iou_thresh, bg_iou_thresh, allow_low_quality_matches=True)
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        layers = (Conv2dNormActivation(channels, channels, 3, norm_layer=None) for _ in range(depth))
        self.convs = nn.Sequential(*layers)
        self.cls_logits = nn.Conv2d(channels, anchors.num_per_cell, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors.num_per_cell, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor], canvas: tuple[int, int]) -> RPNOutputs:
        """Levels (B, channels, H, W) of a canvas of (height, width) to predictions."""
        logits, deltas = [], []
        for level in levels:
            x = self.convs(level)
            logits.append(self.cls_logits(x).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.bbox_pred(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4).float())
        return RPNOutputs(logits, deltas, self.anchors(levels, canvas))

    @torch.no_grad()
    def propose(self, outputs: RPNOutputs, image_sizes: Tensor, is_training: bool = False) -> Proposals:
        """The strongest boxes of every level that do not suppress each other.

        Args:
            outputs: Of `forward`.
            image_sizes: (B, 2) height and width of each image on its canvas.
            is_training: Take as many as training uses.
        """
        mode = 0 if is_training else 1
        parts = [self._propose_level(*level, image_sizes, self.pre_nms_top_n[mode]) for level in zip(*outputs)]
        boxes, scores, valid = (torch.cat(part, 1) for part in zip(*parts))
        best, rows = top_k(torch.where(valid, scores, -1.0), self.post_nms_top_n[mode])
        return Proposals(gather_rows(boxes, rows), best.clamp(min=0), best >= 0)

    def losses(self, outputs: RPNOutputs, target_records: Sequence[GroundTruth]) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy of a sample of anchors, and regression loss of its boxes; both per sampled anchor."""
        logits, deltas = (torch.cat(part, 1) for part in outputs[:2])
        anchors = torch.cat(outputs.anchors)
        sampled_logits, labels, predicted, expected = [], [], [], []
        for image_logits, image_deltas, truth in zip(logits, deltas, target_records):
            matches = self.matcher(anchors, truth)
            positive, negative = sample_balanced(matches, self.batch_size_per_image, self.positive_fraction)
            sampled_logits += [image_logits[positive], image_logits[negative]]
            labels += [torch.ones_like(sampled_logits[-2]), torch.zeros_like(sampled_logits[-1])]
            predicted.append(image_deltas[positive])
            expected.append(RPN_CODER.encode(truth.boxes[matches[positive]], anchors[positive]))
        total = max(1, sum(map(len, sampled_logits)))
        entropy = F.binary_cross_entropy_with_logits(torch.cat(sampled_logits), torch.cat(labels), reduction="sum")
        return entropy / total, box_regression_loss(torch.cat(predicted), torch.cat(expected)) / total

    def _propose_level(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, image_sizes: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        best, rows = top_k(logits, count)
        boxes = clip_boxes(RPN_CODER.decode(gather_rows(deltas, rows), anchors[rows]), image_sizes)
        scores = best.sigmoid()
        valid = (compute_min_side(boxes) >= MIN_SIDE) & (scores >= self.score_thresh) & (best > -torch.inf)
        return boxes, scores, batched_nms(boxes, valid, self.nms_thresh)
