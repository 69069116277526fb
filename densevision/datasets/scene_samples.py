"""Procedural scenes as samples, anew in every epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from densevision.datasets.scenes import Scene, Scenes
from densevision.sample import Sample

__all__ = ["SceneSamples"]


class SceneSamples(ABC):
    """A dataset of procedural scenes. Subclasses implement `make_sample`.

    Args:
        scenes: The scenes.
    """

    notes: Sequence[str] = ()

    def __init__(self, scenes: Scenes):
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def file(self, index: int) -> str:
        """The name of a scene without rendering it."""
        return self.scenes.name(index)

    def __getitem__(self, index: int) -> Sample:
        """The sample of a scene."""
        return self.get_for_epoch(index, 0)

    def get_for_epoch(self, index: int, epoch: int) -> Sample:
        """The sample of a scene; every epoch has its own scenes, so that training never sees one twice."""
        return self.make_sample(index, self.scenes.get_for_epoch(index, epoch))

    @abstractmethod
    def make_sample(self, index: int, scene: Scene) -> Sample:
        """The images of a scene with their ground truth."""
