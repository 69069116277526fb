"""A check without progress bars, and textures for small datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.report import CheckReport, check_dataset
from densevision.tasks import load_check, load_config

RunCheck = Callable[..., CheckReport]
Texture = Callable[..., np.ndarray]


@pytest.fixture
def check() -> RunCheck:
    def run(task: str, folder: Path, fix: Path | None = None, settings: dict[str, Any] | None = None) -> CheckReport:
        config = load_config(task).resolve(None, {"data.path": str(folder), **(settings or {})})
        return check_dataset(task, config, load_check(task).check, fix, lambda items, title: items)

    return run


@pytest.fixture
def texture() -> Texture:
    """A smooth image (H, W, 3) uint8 that differs from those of all other seeds."""

    def draw(seed: int, size: tuple[int, int] = (48, 64), cell: int = 8) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 255, (max(2, size[0] // cell), max(2, size[1] // cell), 3), np.uint8)
        return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)

    return draw
