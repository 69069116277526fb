"""The answers: one frozen record per task, which is also the form of its truth. NumPy arrays, no torch."""

from __future__ import annotations

from densevision.results.detections import Detections
from densevision.results.record import Result

__all__ = ["Detections", "Result"]
