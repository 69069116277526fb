"""EoMT for instance segmentation.

Source: Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.nn.detector import DetectionOptions, Detector
from densevision.nn.eomt_model import EomtModel
from densevision.nn.mask_classification import MaskTargets
from densevision.nn.model import Tensors
from densevision.sample import InputSpec

__all__ = ["InstanceEomt"]

MASK_THRESHOLD = 0.5
"""Probability above which a pixel is inside an object."""


class InstanceEomt(EomtModel, Detector):
    """EoMT whose queries are objects.

    Args:
        num_classes: Classes.
        image_size: Side of the square that images are fitted into.
        num_queries: Queries: the largest number of objects.
        score_threshold: Lowest score of an object, where `postprocess` is not given one.
        max_detections: Most objects per image, where it is not given one.
        options: Further arguments of `EomtModel`.
    """

    def __init__(
        self,
        num_classes: int = 80,
        image_size: int = 640,
        num_queries: int = 200,
        *,
        score_threshold: float = 0.5,
        max_detections: int = 100,
        **options: Any,
    ):
        super().__init__(num_classes, image_size, num_queries, **options)
        self.score_threshold, self.max_detections = score_threshold, max_detections
        channels, multiple = self.network.in_channels, self.network.patch_size
        self.input_spec = {"image": InputSpec(channels, "letterbox", image_size, multiple_of=multiple, full_size=True)}

    def make_targets(self, targets: Tensors) -> MaskTargets:
        """The objects of a batch; pixels of crowd regions are unknown.

        Args:
            targets: "masks" (B, N, H, W) bool, "labels" (B, N) int64, "valid" (B, N) bool, "crowd" (B, N) bool.
        """
        crowd = targets.get("crowd", torch.zeros_like(targets["valid"])) & targets["valid"]
        chosen = targets["valid"] & ~crowd
        known = ~(targets["masks"] & crowd[:, :, None, None]).any(1)
        masks = [rows[keep] for rows, keep in zip(targets["masks"], chosen)]
        classes = [rows[keep] for rows, keep in zip(targets["labels"], chosen)]
        return MaskTargets(masks, classes, known)

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """The objects of the strongest pairs of query and class, each with its mask.

        A score is the class's probability times the mean probability inside the mask. Boxes are those around the masks;
        "canvas_masks" (B, K, H, W) are probabilities on the padded canvas.
        """
        classes = outputs["class_logits"].float().softmax(2)[..., :-1]
        if options.class_mask is not None:
            classes = classes * torch.as_tensor(options.class_mask, dtype=classes.dtype, device=classes.device)
        if options.class_agnostic:
            classes = classes * (classes == classes.amax(2, keepdim=True))
        count, num_classes = outputs["mask_logits"].shape[1], classes.shape[2]
        limit = min(options.max_detections, count * num_classes)
        scores, places = classes.flatten(1).topk(limit, 1)
        queries, labels = places // num_classes, places % num_classes
        logits = outputs["mask_logits"].float()
        logits = logits.gather(1, queries[:, :, None, None].expand(-1, -1, *logits.shape[2:]))
        stride = self.network.mask_stride
        masks = F.interpolate(logits, scale_factor=stride, mode="bilinear").sigmoid()
        inside = masks > MASK_THRESHOLD
        scores = scores * (masks * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)
        scores, order = scores.sort(1, descending=True)
        labels = labels.gather(1, order)
        masks, inside = (each.gather(1, order[:, :, None, None].expand_as(each)) for each in (masks, inside))
        valid = (scores > options.score_threshold) & inside.flatten(2).any(2)
        return {
            "boxes": _mask_boxes(inside),
            "scores": scores,
            "labels": labels,
            "valid": valid,
            "canvas_masks": masks,
        }


def _mask_boxes(inside: Tensor) -> Tensor:
    """Bounding boxes (B, K, 4) xyxy of masks (B, K, H, W) bool; zeros for empty ones."""
    edges = []
    for axis in (2, 3):  # columns first: the extent along x
        present = inside.any(axis).to(torch.int64)
        length = present.shape[2]
        start = present.argmax(2)
        end = length - present.flip(2).argmax(2)
        is_empty = present.sum(2) == 0
        edges += [start.masked_fill(is_empty, 0), end.masked_fill(is_empty, 0)]
    left, right, top, bottom = edges
    return torch.stack([left, top, right, bottom], 2).float()
