"""Options of matting. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from densevision.config import Count, Fraction
from densevision.run_config import ColorConfig, DataConfig, TaskConfig
from densevision_matting.models import MODELS

__all__ = ["CONFIG", "MattingAugment", "MattingConfig", "MattingData"]


class MattingData(DataConfig):
    """Images and mattes: `images/` and `mattes/`, each with `train/` and `val/`, or scenes."""

    size: Count = 128
    """Side of the crops that training uses."""


class MattingAugment(ColorConfig):
    """Random augmentation."""

    flip: Fraction = 0.5
    """Probability of a horizontal flip."""


class MattingConfig(TaskConfig):
    """A matting network, its data and its training."""

    models: ClassVar[Mapping[str, Any]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset({"tile", "overlap", "tta"})

    task: Literal["matting"] = "matting"
    """The task that this config is for."""
    arch: str = "matting_unet"
    """The architecture; `densevision models` lists the names."""
    data: MattingData = MattingData()
    augment: MattingAugment = MattingAugment()


CONFIG = MattingConfig
