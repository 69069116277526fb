"""Procedural scenes: rendered images with exact ground truth for every task."""

from densevision.datasets.scenes.scene import SEMANTIC_CLASSES, Scene, Scenes
from densevision.datasets.scenes.shapes import CLASSES
from densevision.datasets.scenes.video import SceneVideo

__all__ = ["CLASSES", "SEMANTIC_CLASSES", "Scene", "SceneVideo", "Scenes"]
