"""Encoders: any timm model as a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import PretrainedCfg
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone_info import introspect_backbone
from densevision.nn.normalization import normalize_image
from densevision.nn.padding import use_integer_padding
from densevision.nn.pretrained import create_network
from densevision.nn.pyramid import SimpleFeaturePyramid
from densevision.nn.stages import extract_features, prune_network
from densevision.run_config import BackboneConfig

__all__ = ["PYRAMID_STRIDES", "Backbone", "expand_per_channel", "list_pyramid_models"]

PYRAMID_STRIDES = (4, 8, 16, 32)
"""Strides of the pyramid of a plain ViT."""

# fmt: off
_FAMILIES = (
    "byobnet", "convnext", "cpubone", "csatv2", "cspnet", "cspnext", "davit", "deepseek_vit", "deit", "densenet",
    "dla", "dpn", "edgenext", "efficientnet", "efficientvim", "efficientvit_mit", "efficientvit_msra", "eva",
    "fasternet", "fastvit", "focalnet", "ghostnet", "hardcorenas", "hgnet", "hieradet_sam2", "hrnet", "iformer",
    "inception_next", "lcnetv2", "lowformer", "mambaout", "metaformer", "mobilenetv3", "mobilenetv5", "mobilevit",
    "mvitv2", "naflexvit", "nextvit", "nfnet", "pvt_v2", "qwen3_vit", "rdnet", "regnet", "repghost", "repvit",
    "res2net", "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sequencer", "shvit", "sknet",
    "starnet", "swiftformer", "swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr", "tiny_vit",
    "twins", "vgg", "vision_transformer", "vision_transformer_hybrid", "vision_transformer_sam", "vitamin", "vovnet",
    "xception_aligned", "xcit",
)
# fmt: on
"""timm's modules whose models take images of any size and whose features keep their strides."""


class Backbone(nn.Module):
    """Any timm model as a pyramid of features with known channels and strides.

    Hierarchical networks, convolutional or not, give the levels that timm names, from stride 2 on. Plain ViTs (ViT,
    DeiT, DINOv2, DINOv3, EVA) get a simple feature pyramid on top. A patch size that is no power of two, such as
    DINOv2's 14, is resampled to the nearest one, so that the strides are 4, 8, 16 and 32 for all of them.

    Layers that no level needs are removed: the classifier, and the stages behind the deepest level.

    Args:
        name: A timm model, e.g. "resnet50".
        in_channels: Channels of the image.
        shallowest: Smallest stride that the head uses; every level when not given.
        deepest: Largest stride that the head uses; every level when not given.
        options: Fields of `densevision.run_config.BackboneConfig`: `pretrained` (True, or a file), `mean`, `std`,
            `output_stride`, `freeze` (number of shallow stages), `options` (further arguments of the timm model).

    Attributes:
        config: The timm model and its options.
        channels: Channels of every level, those of the image first.
        strides: Stride of every level, that of the image, 1, first.

    Raises:
        UsageError: The model or one of its options does not exist, cannot serve as a pyramid, or has no such level.
        WeightsError: The pretrained weights are not available, or belong to another model.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        in_channels: int = 3,
        *,
        shallowest: int | None = None,
        deepest: int | None = None,
        **options: Any,
    ):
        super().__init__()
        self.config = config = BackboneConfig.from_dict({"name": name, "channels": in_channels, **options})
        info = introspect_backbone(config)
        strides = list(PYRAMID_STRIDES) if info.plain else [stage.stride for stage in info.stages]
        levels = [i for i, stride in enumerate(strides) if (shallowest or 1) <= stride <= (deepest or strides[-1])]
        if not levels:
            hint = f"{config.name} has the strides {', '.join(map(str, strides))}."
            raise UsageError(f"no level of stride {shallowest} to {deepest}", field="backbone.name", hint=hint)
        self.strides = [1, *(strides[i] for i in levels)]
        self.multiple = info.multiple

        self.network = create_network(config, info.arguments)
        self.stages = info.stages[-1:] if info.plain else [info.stages[i] for i in levels]
        prune_network(self.network, self.stages, norm=info.plain)
        use_integer_padding(self.network)
        self.frozen_modules = _freeze(self.network, info.frozen)

        self.pyramid: SimpleFeaturePyramid | None = None
        if info.plain:
            self.pyramid = SimpleFeaturePyramid(*self.stages[-1][1:], self.strides[1:])
            self.channels = [config.channels, *self.pyramid.channels]
        else:
            self.channels = [config.channels, *(stage.channels for stage in self.stages)]
        defaults = timm.get_pretrained_cfg(config.name) or PretrainedCfg()
        self.register_buffer("mean", expand_per_channel("mean", config.mean, defaults.mean, config.channels))
        self.register_buffer("std", expand_per_channel("std", config.std, defaults.std, config.channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image and extracts its levels, shallow to deep.

        Args:
            image: (B, C, H, W) float RGB in [0, 1], of any size.

        Returns:
            The image as given, then (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) for every other
            level i.
        """
        height, width = _check_channels(image, self.channels[0]).shape[-2:]
        x = normalize_image(image, self.mean, self.std)
        if self.multiple > 1:
            x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        levels = extract_features(self.network, x, self.stages, norm=self.pyramid is not None)
        if self.pyramid is not None:
            levels = self.pyramid(levels[-1])
        if self.multiple > 1:
            sizes = [(-(-height // stride), -(-width // stride)) for stride in self.strides[1:]]
            levels = [level[..., :rows, :columns] for level, (rows, columns) in zip(levels, sizes)]
        return [image, *levels]

    def train(self, mode: bool = True) -> Backbone:
        """Sets the mode of all modules but the frozen ones, whose statistics stay constant."""
        super().train(mode)
        for name in self.frozen_modules:
            self.network.get_submodule(name).eval()
        return self


def list_pyramid_models() -> list[str]:
    """Names of the timm models that serve as pyramids, from timm's registry; no model is built."""
    # One family has a member with windows that not every map can be divided into.
    lists = (timm.list_models(module=family, exclude_filters="bat_*") for family in _FAMILIES)
    return sorted(name for names in lists for name in names)


def expand_per_channel(name: str, values: Sequence[float] | None, defaults: Sequence[float], channels: int) -> Tensor:
    """Normalization constants as (1, C, 1, 1), repeated over the channels where fewer are given.

    Args:
        name: "mean" or "std", for messages.
        values: One per channel, or a number that divides the channels; None takes the defaults.
        defaults: The constants of RGB; a gray image takes their average, because timm sums the first convolution over
            the colors for it.
        channels: Channels of the image.

    Raises:
        UsageError: The number of values does not fit, or a standard deviation is not positive.
    """
    if values is not None and (not values or channels % len(values)):
        hint = f"Give {channels}, one per channel."
        raise UsageError("wrong number of values", field=f"backbone.{name}", value=values, hint=hint)
    numbers = list(defaults if values is None else values)
    if values is None and channels == 1:
        numbers = [sum(numbers) / len(numbers)]
    if name == "std" and min(numbers) <= 0:
        raise UsageError("must be positive", field="backbone.std", value=values)
    return torch.tensor([numbers[i % len(numbers)] for i in range(channels)]).view(1, -1, 1, 1)


def _freeze(network: nn.Module, names: Sequence[str]) -> list[str]:
    """Stops the training of the named parameters; returns the modules all of whose parameters are frozen."""
    for name, parameter in network.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    modules = {name: list(module.parameters()) for name, module in network.named_modules()}
    return [name for name, parameters in modules.items() if parameters and not any(p.requires_grad for p in parameters)]


def _check_channels(image: Tensor, channels: int) -> Tensor:
    if image.shape[1] != channels:
        # Without this check, subtracting the mean would broadcast a gray image to three channels.
        hint = "Use a model with this number of input channels (`backbone.channels`), or convert the image."
        raise UsageError(f"the network takes {channels} channels", value=image.shape[1], hint=hint)
    return image
