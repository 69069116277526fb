"""Mask R-CNN and Keypoint R-CNN on a feature pyramid.

Source: He et al., Mask R-CNN, ICCV 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from densevision.nn.model import Tensors
from densevision.nn.rcnn.heads import KeypointHead, MaskHead
from densevision.nn.rcnn.two_stage import TwoStageDetector
from densevision.tasks.instance.keypoints import make_heatmaps

__all__ = ["KeypointRCNN", "MaskKeypointRCNN", "MaskRCNN"]

MIN_IDEAL_RESOLUTION = 64
"""Smallest side of ideal masks and heatmaps; a large box gets two cells per pixel."""


class MaskRCNN(TwoStageDetector):
    """Faster R-CNN with a mask head.

    Args:
        num_classes: Number of classes, without background.
        mask_resolution: Side of the features that are pooled for each object; its mask has twice as many cells per
            side.
        mask_convs: Convolutions before the mask is upsampled.
        mask_channels: Their channels.
        mask_weight: Weight of the masks' cross-entropy.
        options: Further arguments of `TwoStageDetector`.
    """

    def __init__(
        self,
        num_classes: int = 80,
        *,
        mask_resolution: int = 14,
        mask_convs: int = 4,
        mask_channels: int = 256,
        mask_weight: float = 1.0,
        **options: Any,
    ):
        super().__init__(num_classes, **options)
        channels = self.fpn_channels
        self.head.mask = MaskHead(channels, num_classes, mask_resolution, mask_convs, mask_channels, self.norm)
        self.loss_weights["mask"] = mask_weight

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Each object detected by its own box, with a mask finer than the network's."""
        outputs = super().ideal_outputs(targets, size)
        resolution = _ideal_resolution(outputs)
        masks = torch.zeros(*outputs["valid"].shape, resolution, resolution)
        for image, row in outputs["valid"].nonzero().tolist():
            masks[image, row] = _sample_box(targets["masks"][image, row], targets["boxes"][image, row], resolution)
        return {**outputs, "masks": masks}


class KeypointRCNN(TwoStageDetector):
    """Faster R-CNN with a keypoint head.

    Args:
        num_classes: Number of classes, without background.
        num_keypoints: Number of keypoints K.
        keypoint_resolution: Side of the features that are pooled for each object; its heatmaps have four times as many
            cells per side.
        keypoint_convs: Convolutions before the heatmaps are upsampled.
        keypoint_channels: Their channels.
        keypoint_weight: Weight of the heatmaps' cross-entropy.
        options: Further arguments of `TwoStageDetector`.
    """

    def __init__(
        self,
        num_classes: int = 1,
        *,
        num_keypoints: int = 17,
        keypoint_resolution: int = 14,
        keypoint_convs: int = 8,
        keypoint_channels: int = 512,
        keypoint_weight: float = 1.0,
        **options: Any,
    ):
        super().__init__(num_classes, **options)
        self.head.keypoint = KeypointHead(
            self.fpn_channels, num_keypoints, keypoint_resolution, keypoint_convs, keypoint_channels
        )
        self.loss_weights["keypoint"] = keypoint_weight

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Each object detected by its own box, with heatmaps finer than the network's."""
        outputs = super().ideal_outputs(targets, size)
        resolution = _ideal_resolution(outputs)
        points, boxes = (targets[name].flatten(0, 1).numpy() for name in ("keypoints", "boxes"))
        heatmaps = torch.from_numpy(make_heatmaps(points[..., :2], boxes, resolution))
        return {**outputs, "heatmaps": heatmaps.unflatten(0, outputs["valid"].shape)}


class MaskKeypointRCNN(MaskRCNN, KeypointRCNN):
    """Faster R-CNN with a mask head and a keypoint head; its arguments are those of both."""


def _ideal_resolution(outputs: Tensors) -> int:
    """Cells per side of ideal masks and heatmaps."""
    sides = (outputs["boxes"][..., 2:] - outputs["boxes"][..., :2]).amax(-1) * outputs["valid"]
    return max(MIN_IDEAL_RESOLUTION, 2 * int(sides.max().ceil()))


def _sample_box(mask: Tensor, box: Tensor, resolution: int) -> Tensor:
    """(resolution, resolution) float32: the mask (H, W) at the center of each cell of the box."""
    fractions = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    x, y = (
        (box[axis] + fractions * (box[axis + 2] - box[axis])).floor().long().clamp(0, mask.shape[1 - axis] - 1)
        for axis in (0, 1)
    )
    return mask[y][:, x].float()
