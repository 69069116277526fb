"""Matting architectures by name. No torch here."""

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

MODELS = {
    "matting_unet": Architecture("densevision_matting.models.unet:MattingUNet", "a U-Net of plain convolutions"),
}
