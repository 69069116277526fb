"""Judges pictures of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.io.pictures import SUFFIXES
from densevision.metrics.picture import Colour, PictureMetric, PictureMetrics
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.picture import Picture

PROTOCOLS: tuple[tuple[Colour, int], ...] = (("Y", 2), ("Y", 3), ("Y", 4), ("Y", 0), ("RGB", 0))
"""Colour and crop: files do not say the scale, so the usual protocols are all given, each under its own name."""


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """PSNR and SSIM of pictures against true ones: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error).report()


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs pictures with true ones.

    Args:
        truth: A folder with pictures below it, or a picture.
        predictions: A folder with pictures of the same names, but for the suffixes, or a picture.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """

    def metric(*_: Path) -> PictureMetrics:
        return PictureMetrics([PictureMetric(*protocol) for protocol in PROTOCOLS])

    return score_folders(truth, predictions, SUFFIXES, (Picture.of, Picture.of), metric, on_error)
