"""Published weights of detectors: torchvision's Faster R-CNN, Megvii's YOLOX, and D-FINE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.detection.config import DetectionConfig

if TYPE_CHECKING:
    from torch import Tensor

    from densevision.nn.model import Model

__all__ = ["PUBLISHED", "convert"]

COCO_TERMS = "trained on COCO, whose images have terms of their own"
TORCHVISION_LICENSE = f"BSD-3-Clause (torchvision); {COCO_TERMS}"
YOLOX_LICENSE = f"Apache-2.0 (Megvii); {COCO_TERMS}"
DFINE_LICENSE = f"Apache-2.0 (D-FINE authors); {COCO_TERMS}"

MAX_CANDIDATES = 4000
"""torchvision suppresses among all boxes; of fewer than this, as many as are needed always remain."""
MOBILENET_320 = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
"""The weights with fewer proposals and smaller images, which do not follow from the tensors."""

_TORCHVISION = (
    ("fasterrcnn_resnet50_fpn", "_coco", "258fb6c6", 159.7, 41.8, 37.0),
    ("fasterrcnn_resnet50_fpn_v2", "_coco", "dd69338a", 167.1, 43.7, 46.7),
    ("fasterrcnn_mobilenet_v3_large_fpn", "", "fb6a3cc7", 74.2, 19.4, 32.8),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "", "907ea3f9", 74.2, 19.4, 22.8),
)
"""Name, ending of the file, start of its SHA-256, megabytes, millions of parameters, COCO AP."""
_VAL, _TEST = "COCO AP", "COCO AP, test"
_YOLOX = {
    "nano": (7.7, 0.9, (_VAL, 25.8), (_VAL, 25.3)),
    "tiny": (40.7, 5.1, (_VAL, 32.8), (_VAL, 32.8)),
    "s": (72.1, 9.0, (_VAL, 40.5), (_TEST, 39.6)),
    "m": (203.1, 25.3, (_VAL, 46.9), (_TEST, 46.4)),
    "l": (434.4, 54.2, (_VAL, 49.7), (_TEST, 50.0)),
    "x": (793.0, 99.1, (_VAL, 51.1), (_TEST, 51.2)),
}
"""Size -> megabytes, millions of parameters, COCO AP of version 0.1.1 and of the legacy version 0.1.0."""
_YOLOX_MEASURED = {"yolox/nano-legacy": "AP 0.346 on the 64 images of COCO128 val"}
_YOLOX_ADDRESS = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_{}.pth"
_YOLOX_LEGACY_ADDRESS = "https://github.com/Megvii-BaseDetection/storage/releases/download/0.0.1/yolox_{}.pth"
_DFINE = {
    "nano": (15.3, 3.8, "n_coco", 42.8),
    "small": (41.6, 10.3, "s_coco", 48.5),
    "medium": (78.5, 19.6, "m_coco", 52.3),
    "large": (125.6, 31.3, "l_coco", 54.0),
    "xlarge": (250.6, 62.7, "x_coco", 55.8),
    "small-obj365": (41.6, 10.3, "s_obj2coco", 50.7),
    "medium-obj365": (78.5, 19.6, "m_obj2coco", 55.1),
    "large-obj365": (126.1, 31.3, "l_obj2coco_e25", 57.3),
    "xlarge-obj365": (250.6, 62.7, "x_obj2coco", 59.3),
}
"""Size and data -> megabytes, millions of parameters, part of the file's name, COCO AP."""
_DFINE_ADDRESS = "https://github.com/Peterande/storage/releases/download/dfinev1.0/dfine_{}.pth"

PUBLISHED = (
    *(
        PublishedWeights(
            name=f"torchvision/{name}",
            task="detection",
            address=f"https://download.pytorch.org/models/{name}{ending}-{digest}.pth",
            sha256=digest,
            license=TORCHVISION_LICENSE,
            megabytes=megabytes,
            trained_on="COCO train2017",
            parameters=parameters,
            metric=(_VAL, average_precision),
        )
        for name, ending, digest, megabytes, parameters, average_precision in _TORCHVISION
    ),
    *(
        PublishedWeights(
            name=f"yolox/{size}{suffix}",
            task="detection",
            address=address.format("tiny_32dot8" if suffix and size == "tiny" else size),
            sha256="",
            license=YOLOX_LICENSE,
            megabytes=megabytes,
            trained_on="COCO train2017",
            parameters=parameters,
            metric=metrics[bool(suffix)],
            measured=_YOLOX_MEASURED.get(f"yolox/{size}{suffix}", ""),
        )
        for suffix, address in (("", _YOLOX_ADDRESS), ("-legacy", _YOLOX_LEGACY_ADDRESS))
        for size, (megabytes, parameters, *metrics) in _YOLOX.items()
    ),
    *(
        PublishedWeights(
            name=f"dfine/{size}",
            task="detection",
            address=_DFINE_ADDRESS.format(file),
            sha256="",
            license=DFINE_LICENSE,
            megabytes=megabytes,
            trained_on="Objects365, then COCO train2017" if size.endswith("obj365") else "COCO train2017",
            parameters=parameters,
            metric=(_VAL, average_precision),
        )
        for size, (megabytes, parameters, file, average_precision) in _DFINE.items()
    ),
)
"""Weights that `convert` knows."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts a state dict of the publisher's class; other numbers of classes get numbers for names.

    Raises:
        WeightsError: The file is no state dict of this network.
    """
    publisher = weights.name.partition("/")[0]
    config, tensors = _CONVERTERS[publisher](weights, file)
    save_weights(out, tensors, weights.card(config.to_dict(), config.classes))


def _convert_torchvision(weights: PublishedWeights, file: Path) -> tuple[DetectionConfig, dict[str, Tensor]]:
    from densevision.nn.rcnn import torchvision_weights

    state = torchvision_weights.read_state_dict(file, weights.name)
    model = {**torchvision_weights.infer_model(state), "max_candidates": MAX_CANDIDATES}
    if weights.name == MOBILENET_320:
        model |= {"max_size": 640, "rpn_pre_nms_top_n_test": 150, "rpn_post_nms_top_n_test": 150}
    backbone = torchvision_weights.infer_backbone(state)
    count = len(state["roi_heads.box_predictor.cls_score.weight"])
    names = _coco_categories()[1:]
    config = DetectionConfig.from_dict(
        {
            "arch": "faster_rcnn",
            "model": model,
            "classes": tuple(names) if len(names) == count - 1 else _numbered_classes(count - 1),
            "category_ids": tuple(range(1, count)),
            "backbone": backbone,
            "data": {"size": 320 if weights.name == MOBILENET_320 else 800},
        }
    )
    is_exact = "resnet" in backbone["name"]
    tensors = torchvision_weights.convert_state_dict(
        _build_on_meta(config), state, weights.name, file, weights.sha256, is_exact
    )
    return config, tensors


def _convert_yolox(weights: PublishedWeights, file: Path) -> tuple[DetectionConfig, dict[str, Tensor]]:
    from densevision.tasks.detection.models.yolox_weights import convert_state_dict

    arch = weights.name.replace("/", "_").replace("-", "_")
    return _convert_one_stage(
        weights, file, arch, convert_state_dict, "head.cls_preds.0.weight", "backbone.stem.conv.weight"
    )


def _convert_dfine(weights: PublishedWeights, file: Path) -> tuple[DetectionConfig, dict[str, Tensor]]:
    from densevision.tasks.detection.models.dfine_weights import convert_state_dict

    arch = f"dfine_{weights.name.partition('/')[2][0]}"
    return _convert_one_stage(
        weights, file, arch, convert_state_dict, "decoder.score.0.weight", "backbone.stem.stem1.conv.weight"
    )


def _convert_one_stage(
    weights: PublishedWeights, file: Path, arch: str, rename: Any, class_tensor: str, stem: str
) -> tuple[DetectionConfig, dict[str, Tensor]]:
    """Converts a state dict of which `class_tensor` has a row per class and `stem` reads the image."""
    from densevision.io.checkpoint import check_state_dict, read_state_dict

    hint = f"Give the file of {weights.address}, or the state dict of such a network."
    try:
        tensors = rename(read_state_dict(file, hint))
        count, channels = len(tensors[class_tensor]), tensors[stem].shape[1]
    except (ValueError, KeyError) as error:
        raise WeightsError(f"does not hold {weights.name}: {error}", file=file, hint=hint) from None
    names = _coco_categories()
    ids = [row for row, name in enumerate(names) if row and name != "N/A"]
    is_coco = len(ids) == count
    config = DetectionConfig.from_dict(
        {
            "arch": arch,
            "backbone": {"channels": channels},
            "classes": tuple(names[row] for row in ids) if is_coco else _numbered_classes(count),
            "category_ids": tuple(ids) if is_coco else tuple(range(1, count + 1)),
        }
    )
    return config, check_state_dict(tensors, _build_on_meta(config).state_dict(), weights.name, file, hint)


def _build_on_meta(config: DetectionConfig) -> Model:
    from densevision.tasks.detection.task import Detection

    return Detection(config).meta_model


def _coco_categories() -> list[str]:
    """COCO's category names by id: background first, "N/A" for ids without a category."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    return FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]


def _numbered_classes(count: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(1, count + 1))


_CONVERTERS: Mapping[str, Any] = {
    "torchvision": _convert_torchvision,
    "yolox": _convert_yolox,
    "dfine": _convert_dfine,
}
