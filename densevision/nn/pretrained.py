"""timm models with random weights, with timm's weights, or with those of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, load_state_dict
from torch import Tensor, nn

from densevision.errors import WeightsError
from densevision.limits import check_backbone_options
from densevision.nn.frozen_batch_norm import freeze_batch_norm
from densevision.nn.timm_weights import find_cached_file, get_repository
from densevision.run_config import BackboneConfig

__all__ = ["FROZEN_BATCH_NORM", "build_network", "create_network"]

FROZEN_BATCH_NORM = "frozenbatchnorm2d"
"""timm's name, as the option `norm_layer`, of batch norms that are never trained."""
_SET_BY_FIELDS = ("in_chans", "output_stride", "num_classes")
"""Arguments that follow from fields of the config and are not options of their own."""
_ALTERNATIVES = "Give a file (backbone.pretrained=FILE), or start from random weights (backbone.pretrained=false)."
_FILE_HINT = "Give the state dict of timm's {name}, as safetensors or by torch.save."


def build_network(name: str, arguments: dict[str, Any], **weights: Any) -> nn.Module:
    """Calls `timm.create_model`; frozen norms are inserted afterwards, because few families take them by name.

    Args:
        name: Name of the timm model.
        arguments: Arguments of the model.
        weights: Arguments of `timm.create_model` about weights; never from a config.

    Raises:
        UsageError: An argument is not on the allow-list of `densevision.limits`.
    """
    check_backbone_options({key: value for key, value in arguments.items() if key not in _SET_BY_FIELDS})
    is_frozen = arguments.get("norm_layer") == FROZEN_BATCH_NORM
    arguments = {key: value for key, value in arguments.items() if not (is_frozen and key == "norm_layer")}
    network = timm.create_model(name, **arguments, **weights)
    return freeze_batch_norm(network) if is_frozen else network


def create_network(config: BackboneConfig, arguments: dict[str, Any]) -> nn.Module:
    """Builds the whole timm model that a config names, with the weights that it names.

    Args:
        config: Names the model and the weights.
        arguments: Further arguments of `timm.create_model`.

    Raises:
        WeightsError: The weights are not available, are damaged, or belong to another model.
    """
    if isinstance(config.pretrained, str):
        return _load_file(config.name, arguments, config.pretrained)
    if not config.pretrained:
        return build_network(config.name, arguments)
    cached = find_cached_file(get_repository(config.name))
    source = {} if cached is None else {"pretrained_cfg_overlay": {"file": cached}}  # needs no answer of the hub
    try:
        return build_network(config.name, arguments, pretrained=True, **source)
    except Exception as error:  # network, hub, cache and files raise anything; the model itself has been built before
        problem = f"timm's weights of {config.name} are not available: {_shorten(error)}"
        raise WeightsError(problem, field="backbone.pretrained", value=True, hint=_ALTERNATIVES) from error


def _load_file(name: str, arguments: dict[str, Any], file: str) -> nn.Module:
    """Lets timm adapt the file to the model (input channels, positions, patches), and loads every key of it."""
    tensors = _read_tensors(name, file)
    published = timm.get_pretrained_cfg(name) or PretrainedCfg()
    classifiers: str | Sequence[str] = published.classifier or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    rows = [len(tensors[f"{layer}.weight"]) for layer in classifiers if f"{layer}.weight" in tensors]
    # timm loads strictly only where the classifier fits, so the model takes the number of classes of the file.
    arguments = {**arguments, "num_classes": max(rows, default=0)}
    source = {"state_dict": tensors, "num_classes": arguments["num_classes"], "label_offset": None}
    try:
        network = build_network(name, arguments, pretrained=True, pretrained_cfg_overlay=source)
    except Exception as error:  # adapters that look for a key of their family raise what a dict raises
        detail = _describe_difference(name, arguments, tensors) or _shorten(error)
        problem = f"not the weights of timm's {name}: {detail}"
        raise WeightsError(problem, file=file, hint=_FILE_HINT.format(name=name)) from error
    for config in ("pretrained_cfg", "default_cfg"):  # they hold another copy of the file
        setattr(network, config, None)
    return network


def _read_tensors(name: str, file: str) -> dict[str, Tensor]:
    try:
        tensors = load_state_dict(file, weights_only=True)
        is_state_dict = bool(tensors) and all(isinstance(tensor, Tensor) for tensor in tensors.values())
    except FileNotFoundError:
        raise WeightsError("no such file", file=file, field="backbone.pretrained", hint=_ALTERNATIVES) from None
    except Exception as error:  # readers of foreign bytes raise anything
        problem = f"cannot be read as weights: {_shorten(error)}"
        raise WeightsError(problem, file=file, hint=_FILE_HINT.format(name=name)) from error
    if not is_state_dict:
        raise WeightsError("holds no weights", file=file, hint=_FILE_HINT.format(name=name))
    return tensors


def _describe_difference(name: str, arguments: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Which keys are missing, unexpected or of another shape; empty where none is."""
    with torch.device("meta"):
        expected = build_network(name, arguments).state_dict()
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    differences = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "of another shape": shapes,
    }
    return "; ".join(f"{problem} {_join_first(keys)}" for problem, keys in differences.items() if keys)


def _join_first(keys: list[str], limit: int = 3) -> str:
    rest = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + rest


def _shorten(error: Exception, limit: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
