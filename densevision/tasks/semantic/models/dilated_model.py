"""The base of the networks with a dilated encoder: a head on its deep map, and perhaps one on its shallow map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from densevision.nn.model import Tensors
from densevision.tasks.semantic.losses import Mode
from densevision.tasks.semantic.models.dilated_encoder import DilatedEncoder
from densevision.tasks.semantic.models.segmentation_model import (
    CanvasSize,
    Criterion,
    SegmentationModel,
    make_input_spec,
)

__all__ = ["DilatedModel"]


class DilatedModel(SegmentationModel):
    """Scores of a head on the deep map of a dilated encoder. Subclasses set `head`, and perhaps `auxiliary`.

    Args:
        num_classes: Classes, the background included.
        encoder: timm model that supports dilation.
        in_channels: Channels of the image.
        input_size: Size that images are stretched to; None leaves them as they are.
        shorter_side: Shorter side that images are scaled to, 520 for torchvision's published weights; None leaves them
            as they are.
        mode: See `SegmentationModel`.
        criterion: Losses; cross-entropy when not given.
        encoder_options: Keyword arguments of `densevision.nn.backbone.Backbone`; without `output_stride`, that of the
            class counts.

    Attributes:
        head: Scores of the deep map.
        auxiliary: Scores of the shallow map, which help training; None if there is no such head.
    """

    output_stride: ClassVar[int | None] = None
    """Stride of the deep map; None: 8 for ResNets and 16 for others."""
    align_corners: bool = False
    """How the logits are interpolated to the image; see `torch.nn.functional.interpolate`."""

    head: nn.Module
    auxiliary: nn.Module | None

    def __init__(
        self,
        num_classes: int,
        encoder: str,
        in_channels: int = 3,
        input_size: CanvasSize | None = None,
        shorter_side: int | None = None,
        mode: Mode = "multiclass",
        criterion: Criterion | None = None,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        spec = make_input_spec(in_channels, input_size, shorter_side=shorter_side)
        super().__init__(spec, num_classes, mode, criterion)
        self.encoder = DilatedEncoder(encoder, in_channels, self.output_stride, encoder_options)

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the class of every pixel.

        Args:
            image: (B, C, H, W) float RGB in [0, 1], of any size.

        Returns:
            "logits" (B, num_classes, H, W), and with `auxiliary` "auxiliary", same shape.
        """
        shallow, deep = self.encoder(image)
        scores = {"logits": self.head(deep)}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(shallow)
        return self._finish(scores, image, self.align_corners)
