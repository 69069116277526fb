"""Judges pictures of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io.pictures import list_pictures
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
    pairs = _pairs(truth, predictions)
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


def _pairs(truth: Path, predictions: Path) -> list[tuple[Path, Path]]:
    """True pictures with the predictions of the same name, whatever their suffixes."""
    if truth.is_file() and predictions.is_file():
        return [(truth, predictions)]
    for folder in (truth, predictions):
        if not folder.is_dir():
            raise DataError("there is no such folder", file=folder, mend="Give two folders of pictures, or two files.")
    given = {str(Path(name).with_suffix("")): predictions / name for name in list_pictures(predictions)}
    pairs = []
    for name in list_pictures(truth):
        partner = given.get(str(Path(name).with_suffix("")))
        if partner is None:
            mend = "Predictions have the names of the true pictures."
            raise DataError("has no prediction", file=truth / name, value=str(predictions), mend=mend)
        pairs.append((truth / name, partner))
    if not pairs:
        raise DataError("no picture in this folder", file=truth)
    return pairs
