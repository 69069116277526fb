"""Prediction and evaluation of many images on a Ray cluster (extra `ray`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densevision.bulk.ray_predictor import RayPredictor
    from densevision.bulk.run import BulkRun, predict_bulk
    from densevision.results.shards import StoredPrediction, read_predictions

__all__ = ["BulkRun", "RayPredictor", "StoredPrediction", "predict_bulk", "read_predictions"]

_MODULES = {
    "BulkRun": "densevision.bulk.run",
    "RayPredictor": "densevision.bulk.ray_predictor",
    "StoredPrediction": "densevision.results.shards",
    "predict_bulk": "densevision.bulk.run",
    "read_predictions": "densevision.results.shards",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'densevision.bulk' has no attribute '{name}'")
