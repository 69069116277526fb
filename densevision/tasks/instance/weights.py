"""Published weights: torchvision's Mask R-CNN and Keypoint R-CNN, and EoMT of its authors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.instance.config import InstanceConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PUBLISHED", "convert", "infer_config"]

LICENSE = "BSD-3-Clause (torchvision); trained on COCO, whose images have terms of their own"
COCO_SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Edges of COCO's skeleton of a person."""
MAX_CANDIDATES = 4000
"""torchvision suppresses among all boxes; of fewer than this, as many as are needed always remain."""
KEYPOINT_KEY = "roi_heads.keypoint_predictor.kps_score_lowres.weight"

_TORCHVISION = tuple(
    PublishedWeights(
        name=f"torchvision/{name}",
        task="instance",
        address=f"https://download.pytorch.org/models/{name}_coco-{digest}.pth",
        sha256=digest,
        license=LICENSE,
        megabytes=megabytes,
        trained_on="COCO train2017",
        parameters=parameters,
        metric=metric,
    )
    for name, digest, megabytes, parameters, metric in (
        ("maskrcnn_resnet50_fpn", "bf2d0c1e", 169.8, 44.4, ("COCO mask AP", 34.6)),
        ("maskrcnn_resnet50_fpn_v2", "73cbd019", 177.2, 46.4, ("COCO mask AP", 41.8)),
        ("keypointrcnn_resnet50_fpn", "fc266e95", 226.1, 59.1, ("COCO keypoint AP", 65.0)),
    )
)
_EOMT = tuple(
    PublishedWeights(
        name=f"tue-mps/coco_instance_eomt_large_{size}",
        task="instance",
        address=f"https://huggingface.co/tue-mps/coco_instance_eomt_large_{size}/resolve/main/model.safetensors",
        sha256="",
        license="MIT",
        megabytes=megabytes,
        trained_on="COCO train2017",
        parameters=parameters,
        metric=("COCO mask AP", average_precision),
    )
    for size, megabytes, parameters, average_precision in ((640, 1266.6, 316.6, 45.2), (1280, 1286.2, 321.6, 48.8))
)
PUBLISHED = (*_TORCHVISION, *_EOMT)
"""Weights that `convert` knows."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts a state dict of the publisher's class; other numbers of classes get numbers for names.

    Args:
        weights: What the file is.
        file: The published file, or what `torch.save` wrote of such a model's `state_dict()`.
        out: The safetensors file to write.

    Raises:
        WeightsError: The file is no state dict of this network.
    """
    from densevision.nn.rcnn import torchvision_weights
    from densevision.tasks.instance.task import Instance

    if weights.name.startswith("tue-mps/"):
        _convert_eomt(weights, file, out)
        return
    state = torchvision_weights.read_state_dict(file, weights.name)
    config = InstanceConfig.from_dict(infer_config(state))
    model = Instance(config).meta_model
    tensors = torchvision_weights.convert_state_dict(model, state, weights.name, file, weights.sha256, is_exact=True)
    save_weights(out, tensors, weights.card(config.to_dict(), config.classes))


def _convert_eomt(weights: PublishedWeights, file: Path, out: Path) -> None:
    from densevision.io.checkpoint import check_state_dict, read_state_dict
    from densevision.nn import eomt
    from densevision.tasks.instance.task import Instance

    hint = f"Give the file of {weights.address}, or the state dict of such a network."
    published = eomt.convert_state_dict(read_state_dict(file, hint))
    tensors = {f"network.{name}": tensor for name, tensor in published.items()}
    if "network.class_head.weight" not in tensors:
        raise WeightsError(f"does not hold {weights.name}", file=file, hint=hint)
    count = len(tensors["network.class_head.weight"]) - 1  # the last one is "no object"
    names, ids = _list_coco_categories()
    is_coco = count == len(names)
    config = InstanceConfig.from_dict(
        {
            "arch": "eomt_instance_large",
            "classes": names if is_coco else tuple(f"class {label}" for label in range(1, count + 1)),
            "category_ids": ids if is_coco else tuple(range(1, count + 1)),
            "data": {"size": int(weights.name.rpartition("_")[2])},
            "model": {"num_queries": len(tensors["network.queries.weight"])},
        }
    )
    expected = Instance(config).meta_model.state_dict()
    tensors = check_state_dict(tensors, expected, weights.name, file, hint)
    save_weights(out, tensors, weights.card(config.to_dict(), config.classes))


def _list_coco_categories() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of COCO's categories with objects, in the order of their ids."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    rows = enumerate(MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    kept = [(name, number) for number, name in rows if number and name != "N/A"]
    return tuple(name for name, _ in kept), tuple(number for _, number in kept)


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The config that follows from a state dict, with torchvision's sizes and thresholds."""
    from densevision.nn.rcnn import torchvision_weights

    has_keypoints = KEYPOINT_KEY in state
    count = len(state["roi_heads.box_predictor.cls_score.weight"])
    config: dict[str, Any] = {
        "arch": "keypoint_rcnn" if has_keypoints else "mask_rcnn",
        "model": {**torchvision_weights.infer_model(state), "max_candidates": MAX_CANDIDATES},
        "classes": _class_names(count, has_keypoints),
        "category_ids": tuple(range(1, count)),
        "backbone": torchvision_weights.infer_backbone(state),
        "data": {"size": 800},
    }
    if has_keypoints:
        return config | _keypoint_options(state[KEYPOINT_KEY].shape[1])
    return config | {"decode": {"snap_boxes": True}}


def _class_names(count: int, has_keypoints: bool) -> tuple[str, ...]:
    """Names of the classes without background: COCO's if their number is COCO's."""
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, MaskRCNN_ResNet50_FPN_Weights

    published = KeypointRCNN_ResNet50_FPN_Weights if has_keypoints else MaskRCNN_ResNet50_FPN_Weights
    names = published.COCO_V1.meta["categories"]
    return tuple(names[1:]) if len(names) == count else tuple(f"class {label}" for label in range(1, count))


def _keypoint_options(count: int) -> dict[str, Any]:
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    from densevision.ops.skeleton import COCO_SIGMAS

    names = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.meta["keypoint_names"]
    if len(names) == count:
        return {"keypoint_names": tuple(names), "skeleton_edges": COCO_SKELETON, "sigmas": COCO_SIGMAS}
    return {"keypoint_names": tuple(f"keypoint {number}" for number in range(count)), "sigmas": (1 / count,) * count}
