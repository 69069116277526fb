"""Judges pictures of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io.pictures import judged_pairs
from densevision.metrics.picture import Colour, PictureMetric
from densevision.results.picture import Picture

PROTOCOLS: tuple[tuple[Colour, int], ...] = (("Y", 2), ("Y", 3), ("Y", 4), ("Y", 0), ("RGB", 0))
"""Colour and crop: files do not say the scale, so the usual protocols are all given, each under its own name."""


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """PSNR and SSIM of a folder of pictures against a folder of true ones; or of one file against another.

    Raises:
        DataError: A true picture has no prediction, or the sizes of a pair differ.
    """
    metrics = [PictureMetric(*protocol) for protocol in PROTOCOLS]
    pairs = judged_pairs(truth, predictions)
    for wanted, given in pairs:
        pair = Picture.of(wanted), Picture.of(given)
        for metric in metrics:
            try:
                metric.update(pair[1], pair[0], wanted.name)
            except DataError as failure:
                raise DataError(failure.problem, file=given, value=f"{pair[1].size} and {pair[0].size}") from None
    return {
        "metrics": {name: value for metric in metrics for name, value in metric.compute().items()},
        "protocol": {**metrics[0].protocol, "colour": "as the names say", "crop": "as the names say"},
        "counts": {"pictures": len(pairs)},
        "tables": {},
    }
