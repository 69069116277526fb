"""Fully convolutional networks: the dilated one as torchvision builds it, and FCN-32s, 16s and 8s.

Source: Long, Shelhamer and Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.class_matching import ClassRows
from densevision.nn.model import Tensors
from densevision.tasks.semantic.losses import Mode
from densevision.tasks.semantic.models.dilated_model import DilatedModel
from densevision.tasks.semantic.models.segmentation_model import Criterion, SegmentationModel, make_input_spec

__all__ = ["FCN", "ClassicFCN", "FCNHead"]


class FCN(DilatedModel):
    """torchvision's FCN: a head of two convolutions on a dilated encoder.

    torchvision's published weights need `encoder` `resnet50` or `resnet101` and `auxiliary=True`.

    Args:
        num_classes: Classes, the background included.
        encoder: timm model that supports dilation.
        auxiliary: Add a second head on the encoder's shallow map, which helps training.
        options: Further arguments of `DilatedModel`.
    """

    output_stride = 8

    def __init__(self, num_classes: int = 21, encoder: str = "resnet50", *, auxiliary: bool = False, **options: Any):
        super().__init__(num_classes, encoder, **options)
        self.head = FCNHead(self.encoder.deep_channels, self.num_outputs)
        self.auxiliary = FCNHead(self.encoder.shallow_channels, self.num_outputs) if auxiliary else None

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The classifiers of both heads."""
        return "head.4", "auxiliary.4"


class ClassicFCN(SegmentationModel):
    """FCN-32s, 16s or 8s on the levels of any encoder.

    Scores of the deepest level are upsampled twofold and added to those of the next level, down to `finest_stride`, and
    then bilinearly to the image. The upsampling kernels start bilinear and are learned; the scores of shallower levels
    start at zero. Section 4 of the paper.

    Args:
        finest_stride: Stride of the finest level that is scored.
        num_classes: Classes, the background included.
        encoder: timm model.
        in_channels: Channels of the image.
        width: Channels of the two layers before the first score, which replace VGG's classifier.
        dropout: Dropout of these layers.
        auxiliary: Add a head on the last level but one, which helps training.
        mode: See `SegmentationModel`.
        criterion: Losses; cross-entropy when not given.
        encoder_options: Keyword arguments of `densevision.nn.backbone.Backbone`.

    Raises:
        UsageError: The encoder lacks a level.
    """

    def __init__(
        self,
        finest_stride: Literal[8, 16, 32] = 8,
        num_classes: int = 21,
        encoder: str = "mobilenetv2_100",
        in_channels: int = 3,
        width: int = 256,
        dropout: float = 0.5,
        auxiliary: bool = False,
        mode: Mode = "multiclass",
        criterion: Criterion | None = None,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        super().__init__(make_input_spec(in_channels, multiple_of=32), num_classes, mode, criterion)
        self.encoder = Backbone(encoder, in_channels, **(encoder_options or {}))
        channels, strides = self.encoder.channels, self.encoder.strides
        used = [stride for stride in (32, 16, 8) if stride >= finest_stride]
        if missing := set(used) - set(strides):
            hint = "Leave out backbone.output_stride, or take another backbone."
            raise UsageError(f"FCN-{finest_stride}s needs levels of stride {missing}", field="backbone.name", hint=hint)
        self.levels = [strides.index(stride) for stride in used]
        deepest, *others = (channels[level] for level in self.levels)
        outputs = self.num_outputs
        self.wide = nn.Sequential(
            nn.Conv2d(deepest, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )
        self.scores = nn.ModuleList([nn.Conv2d(width, outputs, 1), *(nn.Conv2d(c, outputs, 1) for c in others)])
        upsample = [nn.ConvTranspose2d(outputs, outputs, 4, stride=2, padding=1, bias=False) for _ in others]
        self.upsample = nn.ModuleList(upsample)
        self.auxiliary = FCNHead(channels[-2], outputs) if auxiliary else None
        for parameter in self.scores[1:].parameters():
            nn.init.zeros_(parameter)
        for layer in upsample:
            _init_bilinear(layer)

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The classifiers of all levels."""
        return (*(f"scores.{i}" for i in range(len(self.scores))), "auxiliary.4")

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class: classifiers, and the kernels that upsample scores."""
        is_binary = self.mode == "binary"
        kernels = (
            {}
            if is_binary
            else {f"upsample.{i}.weight": ClassRows(has_columns=True) for i in range(len(self.upsample))}
        )
        return super().class_tensors | kernels

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the class of every pixel; see `FCN.forward`."""
        levels = self.encoder(image)
        x = self.scores[0](self.wide(levels[self.levels[0]]))
        for index, upsample, score in zip(self.levels[1:], self.upsample, self.scores[1:]):
            skip = score(levels[index])
            x = upsample(x)[..., : skip.shape[-2], : skip.shape[-1]] + skip
        scores = {"logits": x}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(levels[-2])
        return self._finish(scores, image)


class FCNHead(nn.Sequential):
    """torchvision's FCN head: a 3x3 convolution to a quarter of the channels, dropout, and a classifier.

    Args:
        in_channels: Channels of the map.
        num_outputs: Channels of the scores.
    """

    def __init__(self, in_channels: int, num_outputs: int):
        width = max(1, in_channels // 4)
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(width, num_outputs, 1),
        )


@torch.no_grad()
def _init_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Makes a twofold upsampling interpolate bilinearly, each channel separately."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    layer.weight.zero_()
    for channel in range(layer.in_channels):
        layer.weight[channel, channel] = line[:, None] * line
