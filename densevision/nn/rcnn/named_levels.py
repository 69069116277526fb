"""A pyramid of what named modules of a timm model give, where its stages do not end where the levels are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone, Encoder, per_channel
from densevision.nn.backbone_info import check_names
from densevision.nn.pretrained import create
from densevision.nn.rcnn.config import RcnnConfig
from densevision.run_config import BackboneConfig

SIZES = ((64, 64), (97, 66))
"""Heights and widths of the images from which the strides are learned."""


def encoder(backbone: BackboneConfig, rcnn: RcnnConfig) -> Encoder:
    """The pyramid of a two-stage detector: of a timm model's stages, or of the modules that `rcnn.levels` names."""
    if rcnn.levels is not None:
        return NamedLevels(backbone, rcnn.levels)
    return Backbone(backbone, deepest=max(rcnn.strides))


class NamedLevels(nn.Module):
    """The outputs of some modules of a timm model, with the attributes of every encoder.

    The classifier is cut off, and nothing else: the last module should be the last of the network.

    Args:
        config: The model, its weights and its normalization.
        levels: Dotted names of the modules, shallow to deep; their outputs are (B, C, H, W).

    Raises:
        UsageError: An option has no effect here, or a module does not exist or gives no such features.
    """

    def __init__(self, config: BackboneConfig, levels: Sequence[str]):
        super().__init__()
        check_names(config)
        for name in ("freeze", "output_stride"):
            if getattr(config, name):
                problem = "has no effect on named levels"
                raise UsageError(problem, field=f"backbone.{name}", value=getattr(config, name), hint="Leave it out.")
        options = {"in_chans": config.channels, **config.options}
        self.names = tuple(levels)
        self.channels, self.strides = _measured(config, options, self.names)
        self.network = _without_classifier(create(config, options))
        usual = timm.get_pretrained_cfg(config.name)
        self.register_buffer("mean", per_channel("mean", config.mean, usual.mean, config.channels))
        self.register_buffer("std", per_channel("std", config.std, usual.std, config.channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image (B, C, H, W) in [0, 1] and answers its levels; level 0 is the image as given."""
        return [image, *_outputs(self.network, (image - self.mean) / self.std, self.names)]


def _outputs(network: nn.Module, x: Tensor, names: Sequence[str]) -> list[Tensor]:
    found: dict[str, Tensor] = {}

    def validation(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, given, output: found.__setitem__(name, output)

    # Hooks that live as long as the call: those of a module would be lost or shared when it is copied.
    handles = [network.get_submodule(name).register_forward_hook(validation(name)) for name in names]
    try:
        network.forward_features(x)
    finally:
        for handle in handles:
            handle.remove()
    return [found[name] for name in names]


def _without_classifier(network: nn.Module) -> nn.Module:
    network.prune_intermediate_layers([len(network.feature_info) - 1], prune_norm=True)
    return network


def _measured(config: BackboneConfig, options: dict[str, Any], names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Channels and strides of the image and of each level, from images without memory or arithmetic."""
    with torch.device("meta"):
        network = _without_classifier(create(config.changed(pretrained=False), options)).eval()
        there = dict(network.named_modules())
        if missing := [name for name in names if name not in there]:
            hint = f"It has for example: {', '.join(list(there)[1:60:8])}."
            raise UsageError(f"{config.name} has no such module", field="rcnn.levels", value=missing[0], hint=hint)
        images = [torch.zeros(1, config.channels, *size) for size in SIZES]
    shapes = [[tuple(level.shape) for level in _outputs(network, image, names)] for image in images]
    strides = [SIZES[0][0] // shape[-1] for shape in shapes[0]]
    promised = [tuple(math.ceil(side / stride) for side in SIZES[1]) for stride in strides]
    if [shape[2:] for shape in shapes[1]] != promised:
        raise UsageError("these levels do not keep their strides", field="rcnn.levels", value=names)
    return [config.channels, *(shape[1] for shape in shapes[0])], [1, *strides]
