"""The base of super-resolution networks: an image to an image of `scale` times the size."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.ops.imresize import enlarge
from densevision.sample import InputSpec
from densevision.tasks.superres.losses import PixelCriterion

__all__ = ["BICUBIC_RADIUS", "SuperresModel"]

BICUBIC_RADIUS = 2
"""Receptive field radius of bicubic enlargement, in pixels of the input."""


class SuperresModel(Model):
    """Predicts an image of `scale` times the size of its input.

    Subclasses implement `upscale`.

    Args:
        scale: Output pixels per input pixel along each axis; 1 restores.
        in_channels: Channels of the image.
        residual: Add the network's output to the bicubic enlargement of the image.
        criterion: (B, C, H, W) prediction and targets to named losses; the mean absolute difference by default.

    Attributes:
        radius: Pixels of the input around an output pixel that influence the network's output there; None if unknown or
            unlimited.
    """

    radius: int | None = None

    def __init__(
        self, scale: int = 2, in_channels: int = 3, *, residual: bool = False, criterion: nn.Module | None = None
    ):
        super().__init__()
        self.scale = scale
        self.residual = residual
        self.criterion = criterion or PixelCriterion()
        self.input_spec = {"image": InputSpec(in_channels, fill="edge")}

    @property
    def receptive_field_radius(self) -> int | None:
        """As `radius`, including the bicubic enlargement."""
        return self.radius if self.radius is None or not self.residual else max(self.radius, BICUBIC_RADIUS)

    def limit_sides(self, multiple_of: int = 1, min_side: int = 1) -> None:
        """Lets the canvas have only sides of at least `min_side` that are multiples of `multiple_of`."""
        self.input_spec = {"image": replace(self.input_spec["image"], multiple_of=multiple_of, min_side=min_side)}

    def upscale(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] to (B, C, scale * H, scale * W); with `residual`, the detail that is added."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensors:
        """Enlarges or restores an image.

        Args:
            image: (B, C, H, W) float in [0, 1], of any size.

        Returns:
            "image": (B, C, scale * H, scale * W), not clipped to [0, 1].
        """
        output = self.upscale(image)
        if self.residual:  # in float32: half precision would round the image itself
            output = output.float() + enlarge(image, self.scale).float()
        return {"image": output}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Pixel losses against "image" (B, C, H, W) where "known" (B, 1, H, W) is True."""
        return self.criterion(outputs["image"], targets)

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The target images."""
        return {"image": targets["image"]}
