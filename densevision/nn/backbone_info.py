"""Introspection of timm models on the meta device: shapes of their features, without memory and computation."""

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
from densevision.limits import check_backbone_options
from densevision.nn.pretrained import build_network
from densevision.nn.shape_inference import ShapeInference
from densevision.nn.skip_init import SkipInit
from densevision.nn.stages import Stage, extract_features, is_plain, list_stages
from densevision.run_config import BackboneConfig

__all__ = ["BackboneInfo", "check_backbone_config", "introspect_backbone"]

PROBE_SIZES = ((97, 66), (1, 1))
"""Heights and widths that no stride divides; they reveal families that round down or need a minimum size."""

_FLEXIBLE_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
"""Options by which families of a fixed image size accept any size."""
_LIST_HINT = "`densevision models --backbones` lists the supported models."


@dataclass(frozen=True)
class BackboneInfo:
    """How to build a timm model as a feature pyramid, and the features that it will give.

    Attributes:
        arguments: Arguments of `timm.create_model` besides the name and the weights.
        stages: Shallow to deep; for a plain ViT, four equidistant blocks.
        multiple: Height and width of an image must be padded to a multiple of this.
        frozen: Names of the parameters of the frozen stages.
    """

    arguments: dict[str, Any]
    stages: list[Stage]
    multiple: int
    frozen: list[str]

    @property
    def plain(self) -> bool:
        """Whether all stages have the same stride, as in a plain ViT."""
        return is_plain(self.stages)


def introspect_backbone(config: BackboneConfig) -> BackboneInfo:
    """Builds the model on the meta device and runs images of odd sizes through it.

    Raises:
        UsageError: The model or one of its options does not exist, or it cannot serve as a pyramid.
    """
    check_backbone_config(config)
    arguments, network = _build_flexible(config)
    stages = list_stages(network)
    if is_plain(stages) and not math.log2(stages[0].stride).is_integer():
        arguments["patch_size"] = 2 ** round(math.log2(stages[0].stride))
        network = _build(config, arguments)
    if config.output_stride is not None:
        arguments["output_stride"] = config.output_stride
        network = _build_dilated(config, arguments)
    stages = list_stages(network)
    multiple = _find_multiple(config, network, stages)
    return BackboneInfo(arguments, stages, multiple, _find_frozen_parameters(config, network, stages))


def check_backbone_config(config: BackboneConfig) -> None:
    """Refuses a model that timm does not have, and options that are not on the allow-list.

    Raises:
        UsageError: The name or an option is refused.
    """
    tagged = timm.list_pretrained()
    if config.name not in tagged and ("." in config.name or not timm.is_model(config.name)):
        matches = difflib.get_close_matches(config.name, [*timm.list_models(), *tagged], n=1)
        hint = f"Did you mean '{matches[0]}'?" if matches else _LIST_HINT
        raise UsageError("timm has no such model", field="backbone.name", value=config.name, hint=hint)
    check_backbone_options(config.options)


def _build_flexible(config: BackboneConfig) -> tuple[dict[str, Any], nn.Module]:
    """The model, made to accept any image size where its family has a fixed one, and its arguments."""
    arguments = {"in_chans": config.channels, **config.options}
    pretrained = timm.get_pretrained_cfg(config.name, allow_unregistered=True)
    for options in _FLEXIBLE_SIZE if pretrained is not None and pretrained.fixed_input_size else ():
        try:
            flexible = {**options, **arguments}
            return flexible, _build(config, flexible)
        except UsageError as error:
            if not any(str(error.field).endswith(f".{option}") for option in options):
                raise
    return arguments, _build(config, arguments)


def _build(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        with SkipInit(), torch.device("meta"):
            network = build_network(config.name, arguments)
    except UsageError:
        raise
    except Exception as error:  # models complain about their options with errors of any type
        option = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if option is not None:
            field, value = f"backbone.options.{option[1]}", config.options.get(option[1])
            raise UsageError(f"{config.name} has no such option in timm", field=field, value=value) from error
        field = "backbone.options" if config.options else "backbone.name"
        value = config.options or config.name
        raise UsageError(f"timm cannot build the model: {_first_line(error)}", field=field, value=value) from error
    if not hasattr(network, "feature_info") or not hasattr(network, "prune_intermediate_layers"):
        problem = "timm does not extract features of this model"
        raise UsageError(problem, field="backbone.name", value=config.name, hint=_LIST_HINT)
    return network


def _build_dilated(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    try:
        network = _build(config, arguments)
    except UsageError:
        network = None
    if network is None or list_stages(network)[-1].stride != config.output_stride:
        raise UsageError(
            f"{config.name} cannot be dilated to this stride",
            field="backbone.output_stride",
            value=config.output_stride,
            hint="Leave it out, or take a convolutional family such as resnet, regnet, convnext or efficientnet.",
        )
    return network


def _find_multiple(config: BackboneConfig, network: nn.Module, stages: list[Stage]) -> int:
    """The smallest multiple to which images must be padded so that each level has the size that its stride implies."""
    network.eval()
    deepest = stages[-1].stride
    # Some families merge their deepest map by two. The pyramid of a plain ViT is cropped, so its image is padded.
    for multiple in (deepest, 2 * deepest) if is_plain(stages) else (1, deepest, 2 * deepest):
        try:
            if all(_has_expected_sizes(network, config.channels, stages, size, multiple) for size in PROBE_SIZES):
                return multiple
            reason = "its levels do not have the sizes that their strides imply"
        except Exception as error:  # families refuse a size with errors of any type
            reason = _first_line(error)
    problem = f"cannot be a pyramid for images of any size: {reason}"
    raise UsageError(problem, field="backbone.name", value=config.name, hint=_LIST_HINT)


def _has_expected_sizes(
    network: nn.Module, channels: int, stages: list[Stage], size: Sequence[int], multiple: int
) -> bool:
    height, width = (side + -side % multiple for side in size)
    image = torch.zeros(1, channels, height, width, device="meta")
    with torch.no_grad(), ShapeInference():
        levels = extract_features(network, image, stages, norm=is_plain(stages))
    expected = [(1, channels, math.ceil(height / stride), math.ceil(width / stride)) for _, channels, stride in stages]
    return [tuple(level.shape) for level in levels] == expected


def _find_frozen_parameters(config: BackboneConfig, network: nn.Module, stages: list[Stage]) -> list[str]:
    """Names of the parameters that the frozen stages depend on, by the graph of the gradient."""
    if not config.freeze:
        return []
    if config.freeze > len(stages):
        hint = f"{config.name} has {len(stages)} stages."
        raise UsageError("more stages than there are", field="backbone.freeze", value=config.freeze, hint=hint)
    network.train()  # some families cache tables in evaluation that hide their parameters from the graph
    side = 4 * stages[-1].stride
    image = torch.zeros(2, config.channels, side, side, device="meta")
    includes_norm = is_plain(stages) and config.freeze == len(stages)
    output = extract_features(network, image, stages, norm=includes_norm)[config.freeze - 1]
    names, parameters = zip(*(named for named in network.named_parameters() if named[1].requires_grad))
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients) if gradient is not None]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
