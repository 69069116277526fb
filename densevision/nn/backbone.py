"""The encoders: any timm model as a pyramid of features, or the image alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone_info import introspect_backbone
from densevision.nn.padding import with_integer_padding
from densevision.nn.pretrained import create
from densevision.nn.pyramid import SimpleFeaturePyramid
from densevision.nn.stages import cut, features
from densevision.run_config import BackboneConfig

PYRAMID_STRIDES = (4, 8, 16, 32)
"""The levels that are made of a network of one stride."""

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
"""timm's modules of models that take images of any size and give features that keep their strides."""


class Encoder(Protocol):
    """What stands between an image and a head.

    Attributes:
        channels: Channels of every level.
        strides: Pixels of the image per cell of every level, shallow to deep. A level's height and width are the
            image's divided by the stride and rounded up, whatever the image's size.
        mean: Mean that the encoder subtracts from an image in [0, 1], (1, C, 1, 1).
        std: Standard deviation by which it then divides, (1, C, 1, 1).
    """

    channels: list[int]
    strides: list[int]
    mean: Tensor
    std: Tensor

    def __call__(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) image in [0, 1] to its levels; level 0 is the image as it was given."""


class ImageOnly(nn.Module):
    """The encoder of models that bring no backbone: it passes the image on, and nothing else."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.channels = [channels]
        self.strides = [1]
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, channels, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) to a list of that one level."""
        return [_of_channels(image, self.channels[0])]


class Backbone(nn.Module):
    """Any timm model as a pyramid of features with known channels and strides.

    Networks in stages, convolutional or not, give the levels that timm names, from stride 2 on. Networks of one stride
    (ViT, DeiT, DINOv2, DINOv3, EVA) get a simple feature pyramid on top. A patch size that is no power of two, such
    as DINOv2's 14, is resampled to the nearest one, so that the strides are 4, 8, 16 and 32 for all of them.

    What no level needs is cut off: the classifier, and the stages behind the deepest level.

    Args:
        config: The model, its weights, normalization, frozen stages and dilation.
        shallowest: Smallest stride that the head wants; every level when not given.
        deepest: Largest stride that the head wants; every level when not given.

    Raises:
        UsageError: The model or one of its options does not exist, cannot serve as a pyramid, or has no such level.
        WeightsError: The pretrained weights are not there, or are not this model's.
    """

    def __init__(self, config: BackboneConfig, *, shallowest: int | None = None, deepest: int | None = None):
        super().__init__()
        info = introspect_backbone(config)
        strides = PYRAMID_STRIDES if info.plain else [stage.stride for stage in info.stages]
        kept = [i for i, stride in enumerate(strides) if (shallowest or 1) <= stride <= (deepest or strides[-1])]
        if not kept:
            hint = f"{config.name} has the strides {', '.join(map(str, strides))}."
            raise UsageError(f"no level of stride {shallowest} to {deepest}", field="backbone.name", hint=hint)
        self.strides = [1, *(strides[i] for i in kept)]
        self.multiple = info.multiple

        self.network = create(config, info.arguments)
        self.stages = info.stages[-1:] if info.plain else [info.stages[i] for i in kept]
        cut(self.network, self.stages, norm=info.plain)
        with_integer_padding(self.network)
        self.still = _freeze(self.network, info.frozen)

        if info.plain:
            self.pyramid = SimpleFeaturePyramid(*self.stages[-1][1:], self.strides[1:])
            self.channels = [config.channels, *self.pyramid.channels]
        else:
            self.pyramid = None
            self.channels = [config.channels, *(stage.channels for stage in self.stages)]
        usual = timm.get_pretrained_cfg(config.name)
        self.register_buffer("mean", per_channel("mean", config.mean, usual.mean, config.channels))
        self.register_buffer("std", per_channel("std", config.std, usual.std, config.channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image and answers its levels, shallow to deep.

        Args:
            image: (B, C, H, W) float RGB in [0, 1], of any size.

        Returns:
            The image as it was given, then (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])) for every
            other level i.
        """
        height, width = _of_channels(image, self.channels[0]).shape[-2:]
        x = (image - self.mean) / self.std
        if self.multiple > 1:
            x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        levels = features(self.network, x, self.stages, norm=self.pyramid is not None)
        if self.pyramid is not None:
            levels = self.pyramid(levels[-1])
        if self.multiple > 1:
            sizes = [(-(-height // stride), -(-width // stride)) for stride in self.strides[1:]]
            levels = [level[..., :rows, :columns] for level, (rows, columns) in zip(levels, sizes)]
        return [image, *levels]

    def train(self, mode: bool = True) -> Backbone:
        """Sets the mode of all but the frozen stages, whose statistics stay as they are."""
        super().train(mode)
        for name in self.still:
            self.network.get_submodule(name).eval()
        return self


def pyramid_models() -> list[str]:
    """Names of the timm models that serve as pyramids, from timm's registry alone: none is built."""
    # One family has a member with windows that not every map can be cut into.
    lists = (timm.list_models(module=family, exclude_filters="bat_*") for family in _FAMILIES)
    return sorted(name for names in lists for name in names)


def _freeze(network: nn.Module, names: Sequence[str]) -> list[str]:
    """Stops the training of the named parameters; answers the names of the modules that have no others."""
    for name, parameter in network.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    modules = {name: list(module.parameters()) for name, module in network.named_modules()}
    return [name for name, own in modules.items() if own and not any(part.requires_grad for part in own)]


def per_channel(name: str, given: Sequence[float] | None, usual: Sequence[float], channels: int) -> Tensor:
    """Numbers for all channels, (1, C, 1, 1): those given, or the usual ones of RGB, repeated as often as they fit.

    A gray image takes the average of the usual ones, as timm adds up the first convolution over the colors for it.
    """
    values = list(usual if given is None else given)
    if given is None and channels == 1:
        values = [sum(values) / len(values)]
    if given is not None and (not given or channels % len(given)):
        hint = f"Give {channels}, one per channel."
        raise UsageError("wrong number of values", field=f"backbone.{name}", value=given, hint=hint)
    if name == "std" and min(values) <= 0:
        raise UsageError("must be positive", field="backbone.std", value=given)
    return torch.tensor([values[i % len(values)] for i in range(channels)]).view(1, -1, 1, 1)


def _of_channels(image: Tensor, channels: int) -> Tensor:
    if image.shape[1] != channels:
        # Subtracting the mean would broadcast a gray image to three channels without a word.
        hint = "Use a network of as many input channels (`backbone.channels`), or convert the image."
        raise UsageError(f"the network takes {channels} channels", value=image.shape[1], hint=hint)
    return image
