"""EoMT for instance segmentation.

Source: Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.nn.class_matching import ClassRows
from densevision.nn.eomt import EomtNetwork
from densevision.nn.mask_classification import MaskClassificationLoss, MaskPrediction, MaskTargets, pad_targets
from densevision.nn.model import Model, Tensors
from densevision.sample import InputSpec

__all__ = ["InstanceEomt"]

MASK_THRESHOLD = 0.5
"""Probability above which a pixel is inside an object."""


class InstanceEomt(Model):
    """EoMT whose queries are objects.

    Args:
        num_classes: Classes.
        encoder: timm ViT.
        image_size: Side of the square that images are fitted into.
        patch_size: Pixels per patch.
        num_queries: Queries: the largest number of objects.
        num_blocks: Last blocks of the encoder that see the queries.
        in_channels: Channels of the image.
        num_points: Points at which masks are compared in training.
        encoder_options: Fields of `densevision.run_config.BackboneConfig`, such as `pretrained` and `options`.
        score_threshold: Lowest score of an object, where `postprocess` is not given one.
        max_detections: Most objects per image, where it is not given one.
    """

    iou_threshold = 0.7
    """IoU above which boxes of different tiles are taken for the same object."""

    backbone_name = "network.encoder"

    def __init__(
        self,
        num_classes: int = 80,
        encoder: str = "vit_large_patch14_reg4_dinov2",
        image_size: int = 640,
        patch_size: int = 16,
        num_queries: int = 200,
        num_blocks: int = 4,
        in_channels: int = 3,
        num_points: int = 12544,
        encoder_options: Mapping[str, Any] | None = None,
        score_threshold: float = 0.5,
        max_detections: int = 100,
    ):
        super().__init__()
        self.network = EomtNetwork(
            num_classes,
            encoder,
            image_size,
            patch_size,
            num_queries,
            num_blocks,
            in_channels,
            encoder_options,
        )
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.criterion = MaskClassificationLoss(num_points=num_points)
        self.input_spec = {
            "image": InputSpec(in_channels, "letterbox", image_size, multiple_of=patch_size, full_size=True)
        }

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        return {f"network.class_head.{leaf}": ClassRows(after=1) for leaf in ("weight", "bias")}

    def forward(self, image: Tensor) -> Tensors:
        """Predicts masks and their classes.

        Args:
            image: (B, C, H, W) float RGB in [0, 1].

        Returns:
            "mask_logits": (B, Q, h, w) at stride `network.mask_stride` of the image padded to whole patches.
            "class_logits": (B, Q, num_classes + 1), the last one "no object".
        """
        mask_logits, class_logits = self.network(image)[-1]
        return {"mask_logits": mask_logits, "class_logits": class_logits}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of the final prediction; `compute_losses` also supervises the blocks before.

        Args:
            outputs: What `forward` returns.
            targets: "masks" (B, N, H, W) bool, "labels" (B, N) int64, "valid" (B, N) bool, "crowd" (B, N) bool. Pixels
                of crowd regions are unknown.

        Returns:
            "class", "mask" and "dice".
        """
        return self._losses([MaskPrediction(outputs["mask_logits"], outputs["class_logits"])], targets)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Losses summed over the blocks with queries and the final prediction."""
        return self._losses(self.network(inputs["image"]), targets)

    def postprocess(
        self,
        outputs: Tensors,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        class_agnostic: bool = False,
        class_mask: Tensor | None = None,
    ) -> Tensors:
        """The objects of the strongest pairs of query and class, each with its mask.

        Args:
            outputs: What `forward` returns.
            score_threshold: Lowest score, the class's probability times the mean probability inside the mask; the
                constructor's if None.
            iou_threshold: Has no effect: the queries are free of duplicates.
            max_detections: Most objects; the constructor's if None.
            class_agnostic: Whether a query gives its strongest class only.
            class_mask: (C,) of bool or 0 and 1: the classes to detect; all if None.

        Returns:
            "boxes" (B, K, 4) xyxy in canvas pixels, around the masks; "scores" (B, K), strongest first; "labels"
            (B, K) int64; "valid" (B, K) bool; "canvas_masks" (B, K, H, W) probabilities on the padded canvas.
        """
        score_threshold = self.score_threshold if score_threshold is None else score_threshold
        limit = self.max_detections if max_detections is None else max_detections
        classes = outputs["class_logits"].float().softmax(2)[..., :-1]
        if class_mask is not None:
            classes = classes * class_mask.to(classes)
        if class_agnostic:
            classes = classes * (classes == classes.amax(2, keepdim=True))
        count, num_classes = outputs["mask_logits"].shape[1], classes.shape[2]
        limit = min(limit, count * num_classes)
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
        valid = (scores > score_threshold) & inside.flatten(2).any(2)
        return {
            "boxes": _mask_boxes(inside),
            "scores": scores,
            "labels": labels,
            "valid": valid,
            "canvas_masks": masks,
        }

    def _losses(self, predictions: list[MaskPrediction], targets: Tensors) -> Tensors:
        crowd = targets.get("crowd", torch.zeros_like(targets["valid"])) & targets["valid"]
        chosen = targets["valid"] & ~crowd
        known = ~(targets["masks"] & crowd[:, :, None, None]).any(1)
        masks = [rows[keep] for rows, keep in zip(targets["masks"], chosen)]
        classes = [rows[keep] for rows, keep in zip(targets["labels"], chosen)]
        height, width = (side * self.network.mask_stride for side in predictions[-1].mask_logits.shape[-2:])
        return self.criterion(predictions, pad_targets(MaskTargets(masks, classes, known), (height, width)))


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
