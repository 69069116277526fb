"""Judges pictures of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.io.pictures import SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.picture import Picture
from densevision.tasks.translation.metric import TranslationMetric

ENDINGS = tuple(mark + side for mark in "_-" for side in "ABab")
"""What names of files add to their picture's."""


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """L1, PSNR and SSIM of pictures against true ones: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs pictures with true ones.

    Args:
        truth: A folder with pictures below it, or a picture.
        predictions: A folder with pictures of the same names, but for suffixes and `ENDINGS`, or a picture.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    return score_folders(
        truth, predictions, SUFFIXES, (Picture.of, Picture.of), lambda *_: TranslationMetric(), on_error, ENDINGS
    )
