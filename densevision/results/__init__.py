"""Results: one frozen record per task, for predictions and ground truth alike. NumPy arrays, without torch."""

from __future__ import annotations

from densevision.results.base import Result
from densevision.results.depth_map import DepthMap
from densevision.results.detections import Detections
from densevision.results.flow_field import FlowField
from densevision.results.image import Image
from densevision.results.instances import Instances
from densevision.results.joint_result import JointResult
from densevision.results.semantic_map import SemanticMap

__all__ = ["DepthMap", "Detections", "FlowField", "Image", "Instances", "JointResult", "Result", "SemanticMap"]
