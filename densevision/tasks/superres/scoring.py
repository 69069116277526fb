"""Scores image files of any tool against ground truth files. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from densevision.datasets.image_pairs import INPUT_WORDS, TARGET_WORDS
from densevision.io.image import read_image
from densevision.io.image_files import IMAGE_SUFFIXES
from densevision.metrics.image_quality import Color, ImageMetric, ImageMetrics, Luma
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.image import Image

__all__ = ["CroppingMetrics", "open_files"]

PROTOCOLS: tuple[tuple[Color, int, Luma], ...] = (
    *(("Y", crop, "rounded") for crop in (2, 3, 4, 0)),
    *(("Y", crop, "float") for crop in (2, 3, 4)),
    ("RGB", 0, "rounded"),
)
"""Color, crop and luma: files do not state the scale, so all common protocols are computed, each under its own name."""
DIVISORS = range(2, 17)
"""A ground truth may exceed its prediction by the remainder of its sides divided by one of these; 12 is no scale, but
some benchmarks crop images to multiples of it, for scales 2, 3 and 4."""
ENDINGS = (
    *(f"{mark}x{scale}" for mark in ("_", "-", "") for scale in (2, 3, 4, 8, 16)),
    *(
        mark + form
        for mark in "_-"
        for word in sorted(TARGET_WORDS | INPUT_WORDS | {"sr"})
        for form in (word, word.upper())
    ),
)
"""Endings of file names that are not part of the image's name: DIV2K's 0801x2 matches 0801, and a_LR matches a_HR."""
MAX_LUMA_CHANNELS = 4


class CroppingMetrics(ImageMetrics):
    """Several protocols; ground truths are cropped at the bottom and right to multiples of the scale, as in `evaluate`.

    Args:
        parts: One for each protocol, with distinct names.
    """

    CROPPED = "cropped truths"

    def __init__(self, parts: Sequence[ImageMetric]):
        super().__init__(parts)
        self.cropped: set[int | str] = set()

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        size = (
            "truths cropped at the bottom and right where a prediction lacks the remainder of a division by at most "
            f"{DIVISORS[-1]}"
        )
        return {**super().protocol, "size": size}

    def update(self, prediction: Image, truth: Image, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image."""
        size, (height, width) = prediction.image.shape[:2], truth.image.shape[:2]
        if size != (height, width) and any((height // d * d, width // d * d) == size for d in DIVISORS):
            truth = replace(truth, image=truth.image[: size[0], : size[1]], size=size)
            self.cropped.add(image_id)
        super().update(prediction, truth, image_id)

    def merge(self, other: ImageMetrics) -> None:
        """Adds the images of another accumulator."""
        super().merge(other)
        if isinstance(other, CroppingMetrics):
            self.cropped |= other.cropped

    def counts(self) -> dict[str, int]:
        """How many images were compared, too small for SSIM's window, and cropped."""
        return {**super().counts(), **({self.CROPPED: len(self.cropped)} if self.cropped else {})}


def open_files(truth: Path, predictions: Path, on_error: OnError = "fail") -> Scoring:
    """Pairs predictions with ground truths.

    Args:
        truth: A folder of images, or an image.
        predictions: A folder of images of the same names, except for suffixes and `ENDINGS`, or an image.
        on_error: See `metrics.scoring.Scoring`.

    Raises:
        DataError: There is nothing to compare.
    """

    def build_metric(_: Path, first: Path) -> CroppingMetrics:
        """All protocols that the first ground truth has the channels for: luma needs gray or RGB."""
        has_luma = read_image(first).shape[2] <= MAX_LUMA_CHANNELS
        return CroppingMetrics([ImageMetric(*protocol) for protocol in PROTOCOLS if has_luma or protocol[0] == "RGB"])

    return score_folders(
        truth, predictions, IMAGE_SUFFIXES, (Image.from_source, Image.from_source), build_metric, on_error, ENDINGS
    )
