"""The answers: one frozen record per task, which is also the form of its truth. NumPy arrays, no torch."""

from __future__ import annotations

from densevision.results.base import Result
from densevision.results.depth_map import DepthMap
from densevision.results.detections import Detections
from densevision.results.flow_field import FlowField
from densevision.results.image import Image
from densevision.results.instances import Instances
from densevision.results.semantic_map import SemanticMap

__all__ = ["DepthMap", "Detections", "FlowField", "Instances", "Image", "Result", "SemanticMap"]
