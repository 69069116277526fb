"""Depth architectures by name. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_PACKAGE = "densevision.tasks.depth.models"


def _depth_anything(
    summary: str, width: int, reassemble_channels: Sequence[int], blocks: Sequence[int]
) -> Architecture:
    size = summary.partition(":")[0]
    arguments = {"width": width, "reassemble_channels": reassemble_channels, "blocks": blocks}
    return Architecture(
        f"{_PACKAGE}.depth_anything:DepthAnything",
        f"Depth Anything V2 {summary}",
        {"encoder": f"vit_{size}_patch14_dinov2", **arguments},
        {"data.resize": "closest"},
    )


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
    "depth_anything": _depth_anything(
        "small: DPT on the tokens of a plain vision transformer", 64, (48, 96, 192, 384), (3, 6, 9, 12)
    ),
    "depth_anything_base": _depth_anything("base", 128, (96, 192, 384, 768), (3, 6, 9, 12)),
    "depth_anything_large": _depth_anything("large", 256, (256, 512, 1024, 1024), (5, 12, 18, 24)),
}
"""Name -> architecture; `config.arch` picks one."""
