"""Image translation architectures by name. No torch here."""

from __future__ import annotations

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_PACKAGE = "densevision.tasks.translation.models"

MODELS: dict[str, Architecture] = {
    "pix2pix_unet": Architecture(
        f"{_PACKAGE}.unet:Pix2PixUNet", "the U-Net generator of pix2pix: U-Net-256 with depth 8, U-Net-128 with 7"
    ),
    "pix2pix_resnet": Architecture(
        f"{_PACKAGE}.resnet:Pix2PixResNet", "residual blocks between strided convolutions, as in CycleGAN"
    ),
    "pix2pix_timm": Architecture(
        f"{_PACKAGE}.encoder_unet:Pix2PixTimm", "a U-Net on any timm backbone", {"encoder": "mobilenetv2_100"}
    ),
}
"""Name -> architecture; `config.arch` picks one."""
