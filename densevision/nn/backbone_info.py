"""What a timm model would give, learned on the meta device: its shapes, without memory and without arithmetic."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

from densevision.errors import UsageError
from densevision.nn.pretrained import build
from densevision.nn.stages import Stage, features, is_plain, stages_of
from densevision.run_config import BackboneConfig

AWKWARD = ((97, 66), (1, 1))
"""Heights and widths that no stride divides: a family that rounds down, or needs a least size, betrays itself."""

_FREEDOMS: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
_LIST = "`densevision models --backbones` lists what works."
_OURS = {
    "in_chans": "Set backbone.channels instead.",
    "output_stride": "Set backbone.output_stride instead.",
    "pretrained": "Set backbone.pretrained instead.",
    "checkpoint_path": "Set backbone.pretrained to the file instead.",
    "pretrained_cfg": "Set backbone.pretrained, mean and std instead.",
    "pretrained_cfg_overlay": "Set backbone.pretrained, mean and std instead.",
    "features_only": "Leave it out: a backbone is nothing but features.",
    "out_indices": "Leave it out: the head takes the levels that it needs.",
    "num_classes": "Leave it out: a backbone has no classifier.",
}


@dataclass(frozen=True)
class BackboneInfo:
    """How to build a timm model as a pyramid, and what it will give.

    Attributes:
        arguments: Arguments of `timm.create_model` besides the name and the weights.
        stages: Shallow to deep; of a network of one stride, its quarters.
        multiple: Height and width of an image must be padded to a multiple of this.
        frozen: Names of the parameters of the frozen stages.
    """

    arguments: dict[str, Any]
    stages: list[Stage]
    multiple: int
    frozen: list[str]

    @property
    def plain(self) -> bool:
        """Whether all stages have one stride, as in a ViT."""
        return is_plain(self.stages)


def introspect_backbone(config: BackboneConfig) -> BackboneInfo:
    """Builds the model on the meta device and sends an image of an awkward size through it.

    Raises:
        UsageError: The model or one of its options does not exist, or it cannot serve as a pyramid.
    """
    check_names(config)
    arguments, network = _of_any_size(config)
    stages = stages_of(network)
    if is_plain(stages) and not math.log2(stages[0].stride).is_integer():
        arguments["patch_size"] = 2 ** round(math.log2(stages[0].stride))
        network = _built(config, arguments)
    if config.output_stride is not None:
        arguments["output_stride"] = config.output_stride
        network = _dilated(config, arguments)
    stages = stages_of(network)
    return BackboneInfo(arguments, stages, _multiple(config, network, stages), _frozen(config, network, stages))


def check_names(config: BackboneConfig) -> None:
    """Refuses a model that timm does not have, and options that have a place of their own.

    Raises:
        UsageError: There is one.
    """
    tagged = timm.list_pretrained()
    if config.name not in tagged and ("." in config.name or not timm.is_model(config.name)):
        near = difflib.get_close_matches(config.name, [*timm.list_models(), *tagged], n=1)
        hint = f"Did you mean '{near[0]}'?" if near else _LIST
        raise UsageError("timm has no such model", field="backbone.name", value=config.name, hint=hint)
    for name, value in config.options.items():
        if name in _OURS:
            raise UsageError("is no option of its own", field=f"backbone.options.{name}", value=value, hint=_OURS[name])


def _of_any_size(config: BackboneConfig) -> tuple[dict[str, Any], nn.Module]:
    """The model, freed from its fixed image size in the way that its family knows, and how it was built."""
    arguments = {"in_chans": config.channels, **config.options}
    known = timm.get_pretrained_cfg(config.name, allow_unregistered=True)
    for freedom in _FREEDOMS if known is not None and known.fixed_input_size else ():
        try:
            freed = {**freedom, **arguments}
            return freed, _built(config, freed)
        except UsageError as refusal:
            if not any(str(refusal.field).endswith(f".{option}") for option in freedom):
                raise
    return arguments, _built(config, arguments)


def _built(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            network = build(config.name, arguments)
    except Exception as failure:  # a model's own complaint about its options may be of any type
        option = re.search(r"unexpected keyword argument '(\w+)'", str(failure))
        if option is not None:
            field, value = f"backbone.options.{option[1]}", config.options.get(option[1])
            raise UsageError(f"{config.name} has no such option in timm", field=field, value=value) from failure
        field = "backbone.options" if config.options else "backbone.name"
        value = config.options or config.name
        raise UsageError(f"timm cannot build it: {_first_line(failure)}", field=field, value=value) from failure
    if not hasattr(network, "feature_info") or not hasattr(network, "prune_intermediate_layers"):
        raise UsageError("timm gives no features of it", field="backbone.name", value=config.name, hint=_LIST)
    return network


def _dilated(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        network = _built(config, arguments)
    except UsageError:
        network = None
    if network is None or network.feature_info[-1]["reduction"] != config.output_stride:
        raise UsageError(
            f"{config.name} cannot be dilated to this stride",
            field="backbone.output_stride",
            value=config.output_stride,
            hint="Leave it out, or take a convolutional family such as resnet, regnet, convnext or efficientnet.",
        )
    return network


def _multiple(config: BackboneConfig, network: nn.Module, stages: list[Stage]) -> int:
    """What images must be padded to, so that every level has the size that its stride promises."""
    network.eval()
    deepest = stages[-1].stride
    # Some families fold their deepest map by two; what is made of a plain one's map is cropped, hence never unpadded.
    for multiple in (deepest, 2 * deepest) if is_plain(stages) else (1, deepest, 2 * deepest):
        try:
            kept = all(_keeps_promise(network, config.channels, stages, size, multiple) for size in AWKWARD)
            reason = "its levels are not of the sizes that their strides promise"
        except Exception as failure:  # families refuse a size with errors of many types
            kept, reason = False, _first_line(failure)
        if kept:
            return multiple
    problem = f"cannot be a pyramid for images of any size: {reason}"
    raise UsageError(problem, field="backbone.name", value=config.name, hint=_LIST)


def _keeps_promise(network: nn.Module, channels: int, stages: list[Stage], size: Sequence[int], multiple: int) -> bool:
    height, width = (side + -side % multiple for side in size)
    levels = features(network, torch.zeros(1, channels, height, width, device="meta"), stages, norm=is_plain(stages))
    promised = [(1, wide, math.ceil(height / stride), math.ceil(width / stride)) for _, wide, stride in stages]
    return [tuple(level.shape) for level in levels] == promised


def _frozen(config: BackboneConfig, network: nn.Module, stages: list[Stage]) -> list[str]:
    """Names of the parameters that the frozen stages depend on: the graph of the gradient knows them."""
    if not config.freeze:
        return []
    if config.freeze > len(stages):
        hint = f"{config.name} has {len(stages)} stages."
        raise UsageError("more stages than there are", field="backbone.freeze", value=config.freeze, hint=hint)
    network.train()  # some families keep tables for evaluation that hide their parameters from the graph
    side = 4 * stages[-1].stride
    image = torch.zeros(2, config.channels, side, side, device="meta")
    whole = is_plain(stages) and config.freeze == len(stages)
    frozen = features(network, image, stages, norm=whole)[config.freeze - 1]
    names, parameters = zip(*(named for named in network.named_parameters() if named[1].requires_grad))
    gradients = torch.autograd.grad(frozen.sum(), parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients) if gradient is not None]


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]
