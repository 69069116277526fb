"""The base of depth networks: an encoder, a decoder, and what the decoder's raw numbers mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.ops.view import Fit
from densevision.sample import InputSpec
from densevision.tasks.depth.losses import DepthCriterion

__all__ = ["DepthModel", "TargetKind", "pyramid_input_spec"]

TargetKind = Literal["metric", "relative", "disparity"]

INITIAL_FRACTION = 0.2
"""Fraction of `max_depth` that an untrained network predicts everywhere."""
PYRAMID_MULTIPLE = 32
"""Sides of the canvas are multiples of this for encoders that are pyramids."""


class DepthModel(Model):
    """Predicts one positive number per pixel.

    Args:
        encoder: An image to a list of levels; level 0 is the image itself.
        decoder: Levels to raw predictions (B, C, h, w) at one or several scales, the finest first; channel 0 of the
            finest is the depth.
        output_layers: The last convolutions of the decoder, whose biases are initialized.
        input_spec: Size rule of the image.
        target_kind: What the numbers are. With `max_depth`, they are bounded by a sigmoid; otherwise disparity goes
            through a ReLU, and depth through a softplus.
        max_depth: Largest depth in meters, or disparity in pixels; None for no bound.
        criterion: Depth (B, 1, H, W), targets and the image to named losses.
    """

    upsampling: ClassVar[Literal["bilinear", "bicubic"]] = "bilinear"
    """How predictions are resized from the canvas to the image."""
    depends_on_image_size: ClassVar[bool] = False
    """Whether depth drifts with the size of the canvas, so that tiles have to be aligned with the whole image."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        output_layers: Sequence[nn.Conv2d],
        input_spec: InputSpec,
        target_kind: TargetKind = "metric",
        max_depth: float | None = None,
        criterion: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.input_spec = {"image": input_spec}
        self.target_kind = target_kind
        self.max_depth = max_depth
        self.criterion = criterion or DepthCriterion()
        bias = math.log(INITIAL_FRACTION / (1 - INITIAL_FRACTION)) if max_depth else 1.0
        for layer in output_layers:
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the depth of an image.

        Args:
            image: (B, C, H, W) float RGB in [0, 1].

        Returns:
            "depth": (B, 1, H, W), positive.
        """
        raw = self.decoder(self.encoder(image))[0][:, :1]
        if raw.shape[-2:] != image.shape[-2:]:
            raw = F.interpolate(raw, image.shape[-2:], mode="bilinear", align_corners=False)
        return {"depth": self.activate(raw)}

    def activate(self, raw: Tensor) -> Tensor:
        """Raw predictions of any shape to depth or disparity."""
        if self.max_depth is not None:
            return self.max_depth * raw.float().sigmoid()
        return F.relu(raw) if self.target_kind == "disparity" else F.softplus(raw)

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses against "depth" and "valid", (B, 1, H, W); without those that need the image."""
        return self.criterion(outputs["depth"], targets)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of a training step, including the smoothness, which needs the image."""
        return self.criterion(self(**inputs)["depth"], targets, inputs["image"])

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The targets' depth as outputs."""
        return {"depth": targets["depth"]}


def pyramid_input_spec(in_channels: int, image_size: int | None) -> InputSpec:
    """Size rule of encoders that are pyramids: images as they are, or with their shorter side resized."""
    fit: Fit = "pad" if image_size is None else "shortest"
    multiple = PYRAMID_MULTIPLE
    return InputSpec(in_channels, fit, image_size, multiple_of=multiple, min_side=2 * multiple, fill="edge")
