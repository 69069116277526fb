"""A procedural world that renders pictures together with exact truth for every task."""

from densevision.data.scenes.scene import SEMANTIC_CLASSES, Scene, Scenes
from densevision.data.scenes.shapes import CLASSES

__all__ = ["CLASSES", "SEMANTIC_CLASSES", "Scene", "Scenes"]
