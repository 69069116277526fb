"""Small datasets to be spoilt, and a check without bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from densevision.datasets.checks.report import CheckReport, examine
from densevision.tasks import load_check, load_config

Examine = Callable[..., CheckReport]
Texture = Callable[..., np.ndarray]


@pytest.fixture
def check() -> Examine:
    def run(task: str, folder: Path, fix: Path | None = None, settings: dict[str, Any] | None = None) -> CheckReport:
        config = load_config(task).resolve(None, {"data.path": str(folder), **(settings or {})})
        return examine(task, config, load_check(task).check, fix, lambda items, title: items)

    return run


@pytest.fixture
def texture() -> Texture:
    """An image that is smooth, full of things, and unlike that of any other seed: (H, W, 3) uint8."""

    def draw(seed: int, size: tuple[int, int] = (48, 64), cell: int = 8) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 255, (max(2, size[0] // cell), max(2, size[1] // cell), 3), np.uint8)
        return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)

    return draw


def names(report: CheckReport) -> set[str]:
    return {found.check.name for found in report.findings}
