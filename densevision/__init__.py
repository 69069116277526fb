"""One toolkit for dense prediction: detection, segmentation, depth, flow, super-resolution, translation.

Importing this package loads no torch: the names below are imported on first use.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from densevision.errors import DataError, DenseVisionError, ExportError, UsageError, WeightsError
from densevision.escaping import escape_record
from densevision.tasks import TASKS
from densevision.telemetry import disable_telemetry
from densevision.version import __version__

if TYPE_CHECKING:
    from densevision.analysis import analyze, compare, measure_robustness
    from densevision.api import check, evaluate, export, predict, score, train, tune
    from densevision.datasets.conversion import convert_dataset
    from densevision.file_info import info
    from densevision.labeling import autolabel
    from densevision.loading import load
    from densevision.models import create_joint_model, create_model, list_models
    from densevision.opened_dataset import open_dataset
    from densevision.published_weights import convert_weights, list_weights
    from densevision.publishing import push
    from densevision.results import DepthMap, Detections, FlowField, Image, Instances, JointResult, Result, SemanticMap
    from densevision.selection import find_similar, select
    from densevision.system_checks import doctor

disable_telemetry()
logging.getLogger("densevision").addFilter(escape_record)  # messages name files and labels

_MODULES = {
    "densevision.analysis": ("analyze", "compare", "measure_robustness"),
    "densevision.api": ("check", "evaluate", "export", "predict", "score", "train", "tune"),
    "densevision.labeling": ("autolabel",),
    "densevision.loading": ("load",),
    "densevision.datasets.conversion": ("convert_dataset",),
    "densevision.file_info": ("info",),
    "densevision.models": ("create_joint_model", "create_model", "list_models"),
    "densevision.opened_dataset": ("open_dataset",),
    "densevision.published_weights": ("convert_weights", "list_weights"),
    "densevision.publishing": ("push",),
    "densevision.results": ("DepthMap", "Detections", "FlowField", "Image", "Instances", "JointResult")
    + ("Result", "SemanticMap"),
    "densevision.selection": ("find_similar", "select"),
    "densevision.system_checks": ("doctor",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "TASKS",
    "DataError",
    "DenseVisionError",
    "DepthMap",
    "Detections",
    "ExportError",
    "FlowField",
    "Image",
    "Instances",
    "JointResult",
    "Result",
    "SemanticMap",
    "UsageError",
    "WeightsError",
    "__version__",
    "analyze",
    "autolabel",
    "check",
    "compare",
    "convert_dataset",
    "convert_weights",
    "create_joint_model",
    "create_model",
    "doctor",
    "evaluate",
    "export",
    "find_similar",
    "info",
    "list_models",
    "list_weights",
    "load",
    "measure_robustness",
    "open_dataset",
    "predict",
    "push",
    "score",
    "select",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'densevision' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
