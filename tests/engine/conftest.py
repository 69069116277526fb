"""A detector so small that a run takes seconds."""

from __future__ import annotations

from typing import Any

import pytest

TINY: dict[str, Any] = {
    "preset": "nano",
    "backbone.name": "mobilenetv2_050",
    "data.size": 64,
    "train.epochs": 3,
    "train.batch": 4,
    "train.seed": 3,
    "train.precision": "float32",
    "train.ema": 0.9,
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Settings of a run over 8 scenes."""
    return dict(TINY)
