"""Faster R-CNN weights that torchvision published, and state dicts of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.detection.config import DetectionConfig

if TYPE_CHECKING:
    import torch

LICENSE = "BSD-3-Clause (torchvision); trained on COCO, whose images have terms of their own"

CANDIDATES = 4000
"""torchvision suppresses among all boxes; of fewer than these, as many as are needed always remain."""

SMALL = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
"""The one whose images and proposals are fewer; its tensors do not tell."""

PUBLISHED = tuple(
    PublishedWeights(
        name=f"torchvision/{name}",
        task="detection",
        address=f"https://download.pytorch.org/models/{name}{ending}-{digest}.pth",
        sha256=digest,
        license=LICENSE,
        megabytes=megabytes,
        trained_on="COCO train2017",
    )
    for name, ending, digest, megabytes in (
        ("fasterrcnn_resnet50_fpn", "_coco", "258fb6c6", 159.7),
        ("fasterrcnn_resnet50_fpn_v2", "_coco", "dd69338a", 167.1),
        ("fasterrcnn_mobilenet_v3_large_fpn", "", "fb6a3cc7", 74.2),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", "", "907ea3f9", 74.2),
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
    from densevision.tasks.detection.task import Detection

    state = theirs.read_state(file, weights.name)
    backbone, rcnn = theirs.backbone_options(state), theirs.options(state)
    config = DetectionConfig.checked(_options(weights.name, state, backbone, rcnn))
    with torch.device("meta"):
        net = Detection(config).net()
    tensors = theirs.converted(net, state, file, weights.sha256, exact="resnet" in backbone["name"])
    save_weights(out, tensors, weights.card(config.plain(), config.classes))


def _options(
    name: str, state: dict[str, torch.Tensor], backbone: dict[str, Any], rcnn: dict[str, Any]
) -> dict[str, Any]:
    """The config that a name and a state dict tell, with torchvision's sizes and rules."""
    size = {"size": 320, "longest": 640} if name == SMALL else {"size": 800, "longest": 1333}
    proposals = dict(rcnn.get("proposals", {}))
    if "levels" in rcnn:
        proposals |= {"score_threshold": 0.05}
    if name == SMALL:
        proposals |= {"candidates": 150, "kept": 150}
    count = len(state["roi_heads.box_predictor.cls_score.weight"])
    return {
        "arch": "faster_rcnn",
        "classes": _classes(count),
        "category_ids": tuple(range(1, count)),
        "backbone": backbone,
        "data": size,
        "rcnn": {**rcnn, "proposals": proposals},
        "decode": {"candidates": CANDIDATES},
    }


def _classes(count: int) -> tuple[str, ...]:
    """Names of the classes without background: COCO's where their number is COCO's."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(names[1:]) if len(names) == count else tuple(f"class {label}" for label in range(1, count))
