"""Scores image files of any tool against ground truth files. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.io.image_files import IMAGE_SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.image import Image
from densevision.tasks.translation.metrics import TranslationMetric

__all__ = ["open_files", "score"]

ENDINGS = tuple(mark + side for mark in "_-" for side in "ABab")
"""Endings of file names that are not part of the image's name."""


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """L1, PSNR and SSIM of images: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs predictions with ground truths.

    Args:
        truth: A folder of images, or an image.
        predictions: A folder of images of the same names, except for suffixes and `ENDINGS`, or an image.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """
    return score_folders(
        truth,
        predictions,
        IMAGE_SUFFIXES,
        (Image.from_source, Image.from_source),
        lambda *_: TranslationMetric(),
        on_error,
        ENDINGS,
    )
