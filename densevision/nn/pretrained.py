"""A timm model with random weights, with timm's, or with those of a file."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from densevision.errors import WeightsError
from densevision.nn.frozen_batch_norm import freeze_batch_norm
from densevision.run_config import BackboneConfig

FROZEN = "frozenbatchnorm2d"
"""timm's name, as the option `norm_layer`, of norms that are never trained."""
_WAYS_OUT = "Give a file (backbone.pretrained=FILE), or start from random weights (backbone.pretrained=false)."
_WANTED = "Give the state dict of timm's {name}, as safetensors or by torch.save."


def build(name: str, arguments: dict[str, Any], **weights: Any) -> nn.Module:
    """`timm.create_model`; frozen norms are put in afterwards, for few families take them by name.

    Args:
        name: Of the model.
        arguments: Of the model.
        weights: Of `timm.create_model`.
    """
    frozen = arguments.get("norm_layer") == FROZEN
    arguments = {key: value for key, value in arguments.items() if not (frozen and key == "norm_layer")}
    network = timm.create_model(name, **arguments, **weights)
    return freeze_batch_norm(network) if frozen else network


def create(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    """Builds the whole timm model that a config names, with the weights that it names.

    Args:
        config: Names the model and the weights.
        arguments: What else `timm.create_model` needs to know.

    Raises:
        WeightsError: The weights are not there, are damaged, or are not this model's.
    """
    if isinstance(config.pretrained, str):
        return _from_file(config.name, arguments, config.pretrained)
    if not config.pretrained:
        return build(config.name, arguments)
    try:
        return build(config.name, arguments, pretrained=True)
    except (
        Exception
    ) as failure:  # network, hub, cache and files fail in many ways, and the model itself was introspected
        problem = f"timm's weights of {config.name} cannot be had: {_shortened(failure)}"
        raise WeightsError(problem, field="backbone.pretrained", value=True, hint=_WAYS_OUT) from failure


def _from_file(name: str, arguments: dict[str, Any], file: str) -> nn.Module:
    """Lets timm adapt the file to the model (input channels, positions, patches), and load every key of it."""
    tensors = _read(name, file)
    classifiers = timm.get_pretrained_cfg(name).classifier or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    rows = [len(tensors[f"{part}.weight"]) for part in classifiers if f"{part}.weight" in tensors]
    # timm is strict only where the classifier fits, and its adapters look for it: so the model takes the file's classes
    arguments = {**arguments, "num_classes": max(rows, default=0)}
    source = {"state_dict": tensors, "num_classes": arguments["num_classes"], "label_offset": None}
    try:
        network = build(name, arguments, pretrained=True, pretrained_cfg_overlay=source)
    except Exception as failure:  # adapters that look for a key of their family raise whatever a dict raises
        problem = f"not the weights of timm's {name}: {_difference(name, arguments, tensors) or _shortened(failure)}"
        raise WeightsError(problem, file=file, hint=_WANTED.format(name=name)) from failure
    network.pretrained_cfg = network.default_cfg = None  # holds another copy of the file
    return network


def _read(name: str, file: str) -> dict[str, Tensor]:
    try:
        tensors = load_state_dict(file, weights_only=True)
        sound = tensors and all(isinstance(tensor, Tensor) for tensor in tensors.values())
    except FileNotFoundError:
        raise WeightsError("no such file", file=file, field="backbone.pretrained", hint=_WAYS_OUT) from None
    except Exception as failure:  # readers of foreign bytes raise anything
        problem = f"cannot be read as weights, damaged or something else: {_shortened(failure)}"
        raise WeightsError(problem, file=file, hint=_WANTED.format(name=name)) from failure
    if not sound:
        raise WeightsError("holds no weights", file=file, hint=_WANTED.format(name=name))
    return tensors


def _difference(name: str, arguments: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Which keys are missing or unexpected, in a few words; empty when it lies elsewhere."""
    with torch.device("meta"):
        wanted = build(name, arguments).state_dict()
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    parts = {
        "missing": [key for key in wanted if key not in tensors],
        "unexpected": [key for key in tensors if key not in wanted],
        "of another shape": shapes,
    }
    return "; ".join(f"{what} {_some(keys)}" for what, keys in parts.items() if keys)


def _some(keys: list[str], most: int = 3) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _shortened(failure: Exception, most: int = 200) -> str:
    text = " ".join(str(failure).split()) or type(failure).__name__
    return text if len(text) <= most else text[: most - 1] + "…"
