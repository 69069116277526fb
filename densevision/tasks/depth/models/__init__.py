"""Depth architectures by name. No torch here."""

from __future__ import annotations

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_PACKAGE = "densevision.tasks.depth.models"

MODELS: dict[str, Architecture] = {
    "depth_unet": Architecture(
        f"{_PACKAGE}.unet:DepthUNet",
        "U-Net decoder on any timm backbone; the one that can learn from stereo pairs",
        {"encoder": "mobilenetv2_100"},
    ),
    "depth_dpt": Architecture(
        f"{_PACKAGE}.dpt:DepthDPT",
        "DPT's fusion decoder on the pyramid of any timm backbone",
        {"encoder": "mobilenetv2_100"},
    ),
    "depth_anything": Architecture(
        f"{_PACKAGE}.depth_anything:DepthAnything",
        "Depth Anything V2 small: DPT on the tokens of a plain vision transformer",
        {
            "encoder": "vit_small_patch14_dinov2",
            "width": 64,
            "reassemble_channels": (48, 96, 192, 384),
            "blocks": (3, 6, 9, 12),
        },
        {"data.resize": "closest"},
    ),
    "depth_anything_base": Architecture(
        f"{_PACKAGE}.depth_anything:DepthAnything",
        "Depth Anything V2 base",
        {
            "encoder": "vit_base_patch14_dinov2",
            "width": 128,
            "reassemble_channels": (96, 192, 384, 768),
            "blocks": (3, 6, 9, 12),
        },
        {"data.resize": "closest"},
    ),
    "depth_anything_large": Architecture(
        f"{_PACKAGE}.depth_anything:DepthAnything",
        "Depth Anything V2 large",
        {
            "encoder": "vit_large_patch14_dinov2",
            "width": 256,
            "reassemble_channels": (256, 512, 1024, 1024),
            "blocks": (5, 12, 18, 24),
        },
        {"data.resize": "closest"},
    ),
}
"""Name -> architecture; `config.arch` picks one."""
