"""Scores image files of any tool against ground truth files. No torch here."""

from __future__ import annotations

from pathlib import Path

from densevision.io.image_files import IMAGE_SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.image import Image
from densevision.tasks.translation.metrics import TranslationMetric

__all__ = ["open_files"]

ENDINGS = tuple(mark + side for mark in "_-" for side in "ABab")
"""Endings of file names that are not part of the image's name."""


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs two images, or the images of two folders, whose names may differ by suffixes and `ENDINGS`.

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
