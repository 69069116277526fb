"""Judges images of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.io.image_files import SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.image import Image
from densevision.tasks.translation.metrics import TranslationMetric

ENDINGS = tuple(mark + side for mark in "_-" for side in "ABab")
"""What names of files add to their image's."""


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """L1, PSNR and SSIM of images against true ones: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs images with true ones.

    Args:
        truth: A folder with images below it, or an image.
        predictions: A folder with images of the same names, but for suffixes and `ENDINGS`, or an image.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    return score_folders(
        truth, predictions, SUFFIXES, (Image.of, Image.of), lambda *_: TranslationMetric(), on_error, ENDINGS
    )
