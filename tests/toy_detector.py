"""A detector that a test registers by one line: one file is all that an architecture needs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.detector import DetectionOptions, Detector
from densevision.nn.model import Tensors
from densevision.ops.boxes import anchor_points
from densevision.ops.nms import gather_rows, select_detections
from densevision.sample import InputSpec

STRIDE = 8


class ToyDetector(Detector):
    """Three strided convolutions; the cell at the center of an object predicts its class, offset and size.

    Args:
        num_classes: Number of classes C.
        in_channels: Channels of the image.
        image_size: Side that an image is scaled to fit into.
        width: Channels of the convolutions.
    """

    score_threshold, iou_threshold, max_detections, max_candidates = 0.05, 0.5, 20, 100

    def __init__(self, num_classes: int, in_channels: int = 3, image_size: int | tuple[int, int] = 64, width: int = 16):
        super().__init__()
        self.input_spec = {"image": InputSpec(in_channels, "letterbox", image_size, multiple_of=16, min_side=32)}
        layers: list[nn.Module] = []
        for channels in (in_channels, width, width):
            layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_classes + 4, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensors:
        """(B, C, H, W) to "logits" (B, A, C), "deltas" (B, A, 4) and "anchors" (A, 3)."""
        cells = self.layers(image)
        rows = cells.flatten(2).transpose(1, 2)
        return {"logits": rows[..., :-4], "deltas": rows[..., -4:], "anchors": anchor_points([cells], [STRIDE])}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Cross-entropy of every cell, and the distance of the boxes of the cells that hold an object's center."""
        logits, anchors = outputs["logits"], outputs["anchors"][:, :2]
        centers = (targets["boxes"][..., :2] + targets["boxes"][..., 2:]) / 2
        nearest = torch.cdist(centers, anchors.expand(len(centers), -1, -1)).argmin(2)
        image, slot = targets["valid"].nonzero(as_tuple=True)
        cell = nearest[image, slot]
        classes = torch.zeros_like(logits)
        classes[image, cell, targets["labels"][image, slot]] = 1
        boxes = decode_boxes(outputs["deltas"][image, cell], anchors[cell])
        return {
            "class": F.binary_cross_entropy_with_logits(logits, classes, reduction="sum") / max(1, len(image)),
            "box": (boxes - targets["boxes"][image, slot]).abs().sum() / (STRIDE * max(1, len(image))),
        }

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """The strongest boxes after non-maximum suppression."""
        anchors = outputs["anchors"][:, :2]
        return select_detections(
            outputs["logits"].sigmoid(),
            lambda rows: decode_boxes(gather_rows(outputs["deltas"], rows), anchors[rows]),
            *options,
        )


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Offsets of the center and logarithms of the sides (..., 4) to boxes (..., 4) xyxy in pixels."""
    centers, sides = anchors + STRIDE * deltas[..., :2], STRIDE * deltas[..., 2:].clamp(-3, 5).exp()
    return torch.cat([centers - sides / 2, centers + sides / 2], -1)
