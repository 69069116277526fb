"""U-Net on any timm backbone, with predictions at several scales for stereo losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.blocks import ConvNormAct
from densevision.nn.model import Tensors
from densevision.tasks.depth.models.depth_model import DepthModel, TargetKind, pyramid_input_spec
from densevision.tasks.depth.stereo import StereoCriterion

__all__ = ["DepthUNet", "UNetDecoder"]

STEREO_SCALES = 4
MIN_CHANNELS, MAX_CHANNELS = 8, 256


class DepthUNet(DepthModel):
    """U-Net: upsamples the deepest level of a pyramid step by step, joined with the level of each size.

    Args:
        encoder: A timm model.
        in_channels: Channels of the image.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        width: Channels of the decoder at stride 4; twice as many a step below, half as many a step above.
        finest_stride: Stride of the last decoder step; from there predictions are interpolated.
        image_size: Resize the shorter side of images to this many pixels; None keeps their size.
        target_kind: What the numbers are.
        max_depth: Largest depth in meters, or disparity in pixels; None for no bound.
        stereo: Predict the disparities of the left and of the right image at four scales, for losses between the
            images of rectified pairs; `forward` returns the left one at the finest scale.
        criterion: The losses; `StereoCriterion` by default with `stereo`, else `DepthCriterion`.

    Raises:
        UsageError: The encoder has too few levels.
    """

    def __init__(
        self,
        encoder: str = "mobilenetv2_100",
        in_channels: int = 3,
        encoder_options: Mapping[str, Any] | None = None,
        width: int = 64,
        finest_stride: Literal[1, 2, 4] = 2,
        image_size: int | None = None,
        target_kind: TargetKind = "metric",
        max_depth: float | None = 10.0,
        stereo: bool = False,
        criterion: nn.Module | None = None,
    ):
        backbone = Backbone(encoder, in_channels, **(encoder_options or {}))
        outputs, scales = (2, STEREO_SCALES) if stereo else (1, 1)
        decoder = UNetDecoder(backbone.channels, backbone.strides, width, finest_stride, outputs, scales)
        super().__init__(
            backbone,
            decoder,
            list(decoder.predict),  # type: ignore[arg-type]
            pyramid_input_spec(in_channels, image_size),
            target_kind,
            max_depth,
            criterion or (StereoCriterion() if stereo else None),
        )
        self.stereo = stereo

    def predict_scales(self, image: Tensor) -> list[Tensor]:
        """Disparities (B, 2, h, w) of the left and the right image in pixels of the canvas, the finest scale first."""
        return [self.activate(raw) for raw in self.decoder(self.encoder(image))]

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses against ground truth; models for stereo pairs have none, see `compute_losses`."""
        if self.stereo:
            raise UsageError("stereo losses need all scales", hint="Call compute_losses(inputs, targets) instead.")
        return super().loss(outputs, targets)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Losses against ground truth; with `stereo`, between the image and "right" (B, C, H, W) of the targets."""
        if not self.stereo:
            return super().compute_losses(inputs, targets)
        return self.criterion(self.predict_scales(inputs["image"]), inputs["image"], targets["right"])


class UNetDecoder(nn.Module):
    """Upsamples step by step and predicts at the finest scales.

    Source: Ronneberger et al., U-Net, MICCAI 2015; predictions at the four finest steps as in Godard et al.,
    Unsupervised Monocular Depth Estimation with Left-Right Consistency, CVPR 2017, table 1 of the supplement.

    Args:
        channels: Channels of the encoder's levels, the image's first.
        strides: Their strides, rising.
        width: Channels at stride 4; a step below has twice as many, a step above half.
        finest_stride: Stride of the last step; 1 joins the image itself.
        outputs: Channels of each prediction.
        scales: Number of finest steps that predict.

    Raises:
        UsageError: The encoder has fewer levels than that.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int,
        finest_stride: int,
        outputs: int = 1,
        scales: int = 1,
    ):
        super().__init__()
        self.skips = [level for level, stride in enumerate(strides[:-1]) if stride >= finest_stride][::-1]
        if len(self.skips) < scales or len(set(strides)) < len(strides):
            hint = "Use a backbone with levels of stride 2, 4, 8, 16 and 32, or a smaller model.finest_stride."
            raise UsageError("the U-Net needs more levels", field="backbone.name", value=list(strides), hint=hint)
        widths = [max(MIN_CHANNELS, min(MAX_CHANNELS, width * strides[level] // 4)) for level in self.skips]
        below = [channels[-1], *widths[:-1]]
        self.upsample = nn.ModuleList(ConvNormAct(deep, wide) for deep, wide in zip(below, widths))
        self.join = nn.ModuleList(ConvNormAct(wide + channels[level], wide) for wide, level in zip(widths, self.skips))
        self.predict = nn.ModuleList(nn.Conv2d(wide, outputs, 3, padding=1) for wide in widths[-scales:])

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The image and its levels to raw predictions (B, outputs, h, w), the finest scale first."""
        x, predictions = levels[-1], []
        first_scale = len(self.skips) - len(self.predict)
        for step, (level, upsample, join) in enumerate(zip(self.skips, self.upsample, self.join)):
            skip = levels[level]
            x = F.interpolate(upsample(x), skip.shape[-2:], mode="nearest")
            x = join(torch.cat([x, skip], 1))
            if step >= first_scale:
                predictions.append(self.predict[step - first_scale](x))
        return predictions[::-1]
