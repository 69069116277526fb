"""Mask R-CNN and Keypoint R-CNN weights that torchvision published, and state dicts of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.instance.config import InstanceConfig

if TYPE_CHECKING:
    import torch

LICENSE = "BSD-3-Clause (torchvision); trained on COCO, whose images have terms of their own"
LIMBS = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""COCO's skeleton of a person."""

CANDIDATES = 4000
"""torchvision suppresses among all boxes; of fewer than these, as many as are needed always remain."""

PUBLISHED = tuple(
    PublishedWeights(
        name=f"torchvision/{name}",
        task="instance",
        address=f"https://download.pytorch.org/models/{name}_coco-{digest}.pth",
        sha256=digest,
        license=LICENSE,
        megabytes=megabytes,
        trained_on="COCO train2017",
    )
    for name, digest, megabytes in (
        ("maskrcnn_resnet50_fpn", "bf2d0c1e", 169.8),
        ("maskrcnn_resnet50_fpn_v2", "73cbd019", 177.2),
        ("keypointrcnn_resnet50_fpn", "fc266e95", 226.1),
    )
)
"""Weights that `convert` knows."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a state dict of torchvision's class as weights of ours; other numbers of classes get numbers for names.

    Args:
        weights: What the file is.
        file: The published file, or what `torch.save` wrote of such a model's `state_dict()`.
        out: The safetensors to write.

    Raises:
        WeightsError: The file is no state dict of this network.
    """
    import torch

    from densevision.nn.rcnn import torchvision_weights as theirs
    from densevision.tasks.instance.task import Instance

    state = theirs.read_state(file, weights.name)
    config = InstanceConfig.checked(_options(state, theirs.backbone_options(state), theirs.options(state)))
    with torch.device("meta"):
        net = Instance(config).net()
    tensors = theirs.converted(net, state, file, weights.sha256, exact=True)
    save_weights(out, tensors, weights.card(config.plain(), config.classes))


def _options(state: dict[str, torch.Tensor], backbone: dict[str, Any], rcnn: dict[str, Any]) -> dict[str, Any]:
    """The config that a state dict tells, with torchvision's sizes and rules."""
    keypoints = "roi_heads.keypoint_predictor.kps_score_lowres.weight" in state
    count = len(state["roi_heads.box_predictor.cls_score.weight"])
    options: dict[str, Any] = {
        "masks": not keypoints,
        "keypoints": keypoints,
        "classes": _classes(count, keypoints),
        "category_ids": tuple(range(1, count)),
        "backbone": backbone,
        "data": {"size": 800, "longest": 1333},
        "rcnn": rcnn,
        "mask": {"width": 256},
        "decode": {"whole_pixels": True, "candidates": CANDIDATES},
    }
    if keypoints:
        options |= _joints(state["roi_heads.keypoint_predictor.kps_score_lowres.weight"].shape[1])
    return options


def _classes(count: int, keypoints: bool) -> tuple[str, ...]:
    """Names of the classes without background: COCO's where their number is COCO's."""
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

    published = KeypointRCNN_ResNet50_FPN_Weights if keypoints else MaskRCNN_ResNet50_FPN_Weights
    names = published.COCO_V1.meta["categories"]
    return tuple(names[1:]) if len(names) == count else tuple(f"class {label}" for label in range(1, count))


def _joints(count: int) -> dict[str, Any]:
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    from densevision.ops.skeleton import COCO_SIGMAS

    names = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"]
    if len(names) == count:
        return {"keypoint_names": tuple(names), "skeleton_edges": LIMBS, "sigmas": COCO_SIGMAS}
    return {"keypoint_names": tuple(f"joint {number}" for number in range(count)), "sigmas": (1 / count,) * count}
