"""Scores folders of mattes of any tool. No torch here."""

from __future__ import annotations

from pathlib import Path

from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision_matting.metrics import MattingMetric
from densevision_matting.result import Matte

__all__ = ["open_files"]

SUFFIXES = (".png", ".jpg", ".tif")


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs predictions with ground truths by name.

    Raises:
        DataError: There is nothing to compare.
    """
    return score_folders(truth, predictions, SUFFIXES, (Matte.read, Matte.read), lambda *_: MattingMetric(), on_error)
