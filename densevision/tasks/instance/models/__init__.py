"""The architectures of instance segmentation by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from densevision.tasks.registry import Architecture

__all__ = ["MODELS", "InstanceArchitecture"]


@dataclass(frozen=True)
class InstanceArchitecture(Architecture):
    """One named architecture.

    Attributes:
        has_masks: Whether its objects have masks.
        has_keypoints: Whether its objects have keypoints.
    """

    has_masks: bool = True
    has_keypoints: bool = False


_TWO_STAGE = "densevision.tasks.instance.models.mask_rcnn"
_ENCODER: dict[str, Any] = {"encoder": "resnet50"}

MODELS: dict[str, InstanceArchitecture] = {
    "mask_rcnn": InstanceArchitecture(
        f"{_TWO_STAGE}:MaskRCNN", "two-stage: timm backbone, FPN, region proposals, masks", _ENCODER
    ),
    "keypoint_rcnn": InstanceArchitecture(
        f"{_TWO_STAGE}:KeypointRCNN",
        "two-stage: timm backbone, FPN, region proposals, keypoints",
        _ENCODER,
        has_masks=False,
        has_keypoints=True,
    ),
    "mask_keypoint_rcnn": InstanceArchitecture(
        f"{_TWO_STAGE}:MaskKeypointRCNN",
        "two-stage: timm backbone, FPN, region proposals, masks and keypoints",
        _ENCODER,
        has_keypoints=True,
    ),
    **{
        f"eomt_instance_{size}": InstanceArchitecture(
            "densevision.tasks.instance.models.eomt:InstanceEomt",
            f"EoMT, mask queries in a plain ViT-{size}",
            {"encoder": f"vit_{size}_patch14_reg4_dinov2", "num_blocks": num_blocks},
            {"data.size": 640, "decode.eval_score_threshold": 0.0},
        )
        for size, num_blocks in (("small", 3), ("base", 3), ("large", 4))
    },
}
"""Name -> architecture."""
