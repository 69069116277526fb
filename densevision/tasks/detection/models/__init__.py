"""The architectures of detection by name."""

from __future__ import annotations

from typing import Any

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_MODULES = "densevision.tasks.detection.models"

_YOLO_SIZES: dict[str, dict[str, Any]] = {
    "n": {"encoder": "mobilenetv2_050", "width": 64, "depth": 1},
    "s": {"encoder": "mobilenetv2_100", "width": 96, "depth": 1},
    "m": {"encoder": "resnet50", "width": 192, "depth": 2},
    "l": {"encoder": "convnext_small", "width": 256, "depth": 3},
}
_YOLOX_SIZES: dict[str, tuple[int, dict[str, Any]]] = {
    "nano": (416, {"depth_multiple": 0.33, "width_multiple": 0.25, "depthwise": True}),
    "tiny": (416, {"depth_multiple": 0.33, "width_multiple": 0.375, "depthwise": False}),
    "s": (640, {"depth_multiple": 0.33, "width_multiple": 0.50, "depthwise": False}),
    "m": (640, {"depth_multiple": 0.67, "width_multiple": 0.75, "depthwise": False}),
    "l": (640, {"depth_multiple": 1.00, "width_multiple": 1.00, "depthwise": False}),
    "x": (640, {"depth_multiple": 1.33, "width_multiple": 1.25, "depthwise": False}),
}
_DFINE_SIZES: dict[str, dict[str, Any]] = {
    "n": {
        "encoder": "hgnetv2_b0",
        "strides": (16, 32),
        "encoder_width": 128,
        "encoder_feedforward": 512,
        "encoder_expansion": 0.34,
        "encoder_depth": 0.5,
        "width": 128,
        "feedforward": 512,
        "layers": 3,
        "points": (6, 6),
    },
    "s": {"encoder": "hgnetv2_b0", "encoder_expansion": 0.5, "encoder_depth": 0.34, "layers": 3},
    "m": {"encoder": "hgnetv2_b2", "encoder_depth": 0.67, "layers": 4},
    "l": {"encoder": "hgnetv2_b4", "freeze_norm": True, "freeze_stem": True},
    "x": {
        "encoder": "hgnetv2_b5",
        "encoder_width": 384,
        "encoder_feedforward": 2048,
        "reg_scale": 8.0,
        "freeze_norm": True,
        "freeze_stem": True,
    },
}

MODELS: dict[str, Architecture] = {
    **{
        f"yolo_{size}": Architecture(
            f"{_MODULES}.yolo:YOLO", "anchor-free: timm backbone, PAN, RTMDet-style head", arguments
        )
        for size, arguments in _YOLO_SIZES.items()
    },
    **{
        f"yolox_{size}{suffix}": Architecture(
            f"{_MODULES}.yolox:YOLOX",
            f"YOLOX{' with the input of release 0.1.0' if suffix else ''}: CSPDarknet, PAFPN, decoupled head",
            {**arguments, "image_size": image_size, "legacy": bool(suffix)},
            defaults={"data.size": image_size},
        )
        for suffix in ("", "_legacy")
        for size, (image_size, arguments) in _YOLOX_SIZES.items()
    },
    **{
        f"dfine_{size}": Architecture(
            f"{_MODULES}.dfine:DFine", "D-FINE: detection transformer without non-maximum suppression", arguments
        )
        for size, arguments in _DFINE_SIZES.items()
    },
    "faster_rcnn": Architecture(
        f"{_MODULES}.faster_rcnn:FasterRCNN",
        "two-stage: timm backbone, FPN, region proposals",
        {"encoder": "resnet50"},
        defaults={"data.size": 800, "decode.eval_score_threshold": 0.05},
    ),
}
"""Name -> architecture."""
