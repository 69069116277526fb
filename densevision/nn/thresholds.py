"""The thresholds of detectors: options of `predict`, then the config, then the architecture's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from densevision.config import Config
from densevision.errors import UsageError, did_you_mean
from densevision.nn.model import Model
from densevision.run_config import PredictOptions

__all__ = ["resolve_threshold", "resolve_thresholds"]

NAMES = ("score_threshold", "iou_threshold", "max_detections")


def resolve_thresholds(options: PredictOptions, decode: Config, model: Model, classes: Sequence[str]) -> dict[str, Any]:
    """Arguments of a detector's `postprocess`, or of its `forward` if that includes postprocessing.

    Args:
        options: Of `predict`.
        decode: The config's section of the same names.
        model: Has the defaults as attributes.
        classes: Class names.

    Raises:
        UsageError: A class does not exist.
    """
    thresholds = {name: resolve_threshold(name, options, decode, model) for name in NAMES}
    return {
        **thresholds,
        "class_agnostic": options.class_agnostic,
        "class_mask": _make_class_mask(options.classes, classes),
    }


def resolve_threshold(name: str, options: PredictOptions, decode: Config, model: Model) -> Any:
    """One of score_threshold, iou_threshold and max_detections."""
    for source in (options, decode):
        if getattr(source, name) is not None:
            return getattr(source, name)
    return getattr(model, name)


def _make_class_mask(requested: Sequence[str] | None, classes: Sequence[str]) -> torch.Tensor | None:
    if requested is None:
        return None
    for name in requested:
        if name not in classes:
            raise UsageError("no such class", field="classes", value=name, hint=did_you_mean(name, classes))
    return torch.tensor([name in requested for name in classes])
