"""A pyramid of the outputs of named modules of a timm model, for levels that do not end its stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import expand_per_channel
from densevision.nn.backbone_info import check_backbone_config
from densevision.nn.normalization import normalize_image
from densevision.nn.pretrained import create_network
from densevision.nn.stages import list_stages, prune_network
from densevision.run_config import BackboneConfig

__all__ = ["ModulePyramid"]

PROBE_SIZES = ((64, 64), (97, 66))
"""Heights and widths of the images from which the strides are measured."""


class ModulePyramid(nn.Module):
    """The outputs of some modules of a timm model, with the attributes of every encoder.

    Only the classifier is removed; the last module should therefore be the last of the network.

    Args:
        name: A timm model.
        in_channels: Channels of the image.
        modules: Dotted names of the modules, shallow to deep; their outputs are (B, C, H, W).
        options: Fields of `densevision.run_config.BackboneConfig`: `pretrained`, `mean`, `std`, `options`.

    Raises:
        UsageError: An option is not supported, or a module does not exist or gives no such features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, in_channels: int, modules: Sequence[str], **options: Any):
        super().__init__()
        config = BackboneConfig.from_dict({"name": name, "channels": in_channels, **options})
        check_backbone_config(config)
        for option in ("freeze", "output_stride"):
            if value := getattr(config, option):
                problem = "is not supported with model.encoder_modules"
                raise UsageError(problem, field=f"backbone.{option}", value=value, hint="Leave it out.")
        arguments = {"in_chans": in_channels, **config.options}
        self.names = tuple(modules)
        self.channels, self.strides = _measure(config, arguments, self.names)
        self.network = _remove_classifier(create_network(config, arguments))
        defaults = timm.get_pretrained_cfg(name) or PretrainedCfg()
        self.register_buffer("mean", expand_per_channel("mean", config.mean, defaults.mean, in_channels))
        self.register_buffer("std", expand_per_channel("std", config.std, defaults.std, in_channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image (B, C, H, W) in [0, 1]; returns its levels, of which level 0 is the image as given."""
        return [image, *_run_modules(self.network, normalize_image(image, self.mean, self.std), self.names)]


def _run_modules(network: nn.Module, x: Tensor, names: Sequence[str]) -> list[Tensor]:
    """The outputs of the named modules."""
    outputs: dict[str, Tensor] = {}

    def make_hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    # Hooks that live as long as the call: permanent ones would be lost or shared when the module is copied.
    handles = [network.get_submodule(name).register_forward_hook(make_hook(name)) for name in names]
    try:
        network.forward_features(x)  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return [outputs[name] for name in names]


def _remove_classifier(network: nn.Module) -> nn.Module:
    prune_network(network, list_stages(network)[-1:], norm=False)
    return network


def _measure(config: BackboneConfig, arguments: dict[str, Any], names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Channels and strides of the image and of each level, measured on the meta device."""
    with torch.device("meta"):
        network = _remove_classifier(create_network(config.replace(pretrained=False), arguments)).eval()
        modules = dict(network.named_modules())
        if missing := [name for name in names if name not in modules]:
            hint = f"Its modules include {', '.join(list(modules)[1:60:8])}."
            problem = f"{config.name} has no such module"
            raise UsageError(problem, field="model.encoder_modules", value=missing[0], hint=hint)
        images = [torch.zeros(1, config.channels, *size) for size in PROBE_SIZES]
    shapes = [[tuple(level.shape) for level in _run_modules(network, image, names)] for image in images]
    strides = [PROBE_SIZES[0][0] // shape[-1] for shape in shapes[0]]
    expected = [tuple(math.ceil(side / stride) for side in PROBE_SIZES[1]) for stride in strides]
    if [shape[2:] for shape in shapes[1]] != expected:
        problem = "the sizes of these levels do not follow their strides"
        raise UsageError(problem, field="model.encoder_modules", value=names)
    return [config.channels, *(shape[1] for shape in shapes[0])], [1, *strides]
