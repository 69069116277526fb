"""Judges boxes of any tool by COCO's rules, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.metrics.coco_files import score_files


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """COCO's numbers of a result json against a truth json: metrics, protocol, counts, tables."""
    return score_files(truth, predictions, "bbox")
