"""What a run starts from where its config does not say: timm's pretrained backbone, if it can be had.

A backbone that was trained on ImageNet reaches with hundreds of images what random weights need many thousands for.
Nothing is downloaded before name, size and license were printed, and random weights are never taken silently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from typing import TypeVar

from densevision.errors import WeightsError
from densevision.nn.pretrained import create_network
from densevision.nn.timm_weights import PERMISSIVE_LICENSES, TimmWeights, can_reach_hub, find_timm_weights
from densevision.run_config import BackboneConfig, TaskConfig
from densevision.tasks.base import Task

__all__ = ["choose_starting_weights"]

log = logging.getLogger("densevision")

C = TypeVar("C", bound=TaskConfig)
SILENCE = "backbone.pretrained=false starts from random weights without this message."


def choose_starting_weights(task: Task, config: C, given: Set[str], report: Callable[[str], None]) -> C:
    """Sets `backbone.pretrained` where neither it nor `train.init_from` was given, and says what the run starts from.

    Args:
        task: The task of the config.
        config: The config of a new run.
        given: Dotted names of the options that were given explicitly.
        report: Prints a line of progress. Downloads and random weights are logged as warnings instead.

    Returns:
        The config, with timm's pretrained weights if they are cached or could be downloaded, and have a permissive
        license.
    """
    if config.train.init_from is not None:
        report(f"starting from {config.train.init_from}")
        return config
    if "backbone.pretrained" in given:
        if config.backbone.pretrained:
            source = "timm's pretrained weights" if config.backbone.pretrained is True else config.backbone.pretrained
            report(f"the backbone {config.backbone.name} starts from {source}")
        return config
    name = task.timm_backbone
    if name is None:
        report(f"{config.arch} starts from random weights; train.init_from=FILE|NAME starts from others")
        return config
    weights = find_timm_weights(name)
    if weights is None:
        log.warning("the backbone starts from random weights: timm has no pretrained weights of %s", name)
        return config
    if weights.license not in PERMISSIVE_LICENSES:
        problem = "not taken without being asked for because of their license"
        _warn(name, weights, problem, "backbone.pretrained=true uses them.")
        return config
    if weights.file is None:
        failure = _download(name, weights)
        if failure is not None:
            _warn(name, weights, failure, _describe_ways(weights))
            return config
    report(f"the backbone {name} starts from timm's pretrained weights ({weights.describe()})")
    return config.replace(backbone__pretrained=True)


def _download(name: str, weights: TimmWeights) -> str | None:
    """Downloads weights into the cache, after saying so; returns what is wrong, if anything is."""
    if not can_reach_hub():
        return "neither in the local cache nor reachable without a network"
    log.warning("downloading timm's pretrained weights of the backbone: %s", weights.describe())
    try:
        create_network(BackboneConfig(name=name, pretrained=True), {})
    except WeightsError as error:
        return error.problem
    return None


def _describe_ways(weights: TimmWeights) -> str:
    again = "Run again with a network"
    if not weights.address:
        return f"{again}."
    return f"{again}, or download {weights.address} elsewhere and give it by backbone.pretrained=FILE."


def _warn(name: str, weights: TimmWeights, problem: str, hint: str) -> None:
    log.warning(
        "the backbone %s starts from RANDOM weights and needs far more images and epochs. timm's pretrained weights "
        "(%s) are %s. %s %s",
        name,
        weights.describe(),
        problem,
        hint,
        SILENCE,
    )
