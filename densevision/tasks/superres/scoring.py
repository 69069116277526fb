"""Judges images of any tool against the true ones, from files alone. No torch here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from densevision.datasets.image_pairs import INPUTS, TARGETS
from densevision.io.image import read_image
from densevision.io.image_files import SUFFIXES
from densevision.metrics.image_quality import Color, ImageMetric, ImageMetrics
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.image import Image

PROTOCOLS: tuple[tuple[Color, int], ...] = (("Y", 2), ("Y", 3), ("Y", 4), ("Y", 0), ("RGB", 0))
"""Color and crop: files do not say the scale, so the usual protocols are all given, each under its own name."""
DIVISORS = range(2, 17)
"""A true image may be as much larger than its answer as is left of its sides after division by one of these; 12 is
no scale, but what benchmarks cut images to that serve for 2, 3 and 4."""
ENDINGS = tuple(f"{mark}x{scale}" for mark in ("_", "-", "") for scale in (2, 3, 4, 8, 16)) + tuple(
    mark + form for mark in "_-" for word in sorted(TARGETS | INPUTS | {"sr"}) for form in (word, word.upper())
)
"""What names of files add to their image's: DIV2K's 0801x2 is of 0801, and a_LR of a_HR."""


class FittingMetrics(ImageMetrics):
    """Protocols whose true images are cut at right and bottom to what the scale divides, as `evaluate` cuts them.

    Args:
        parts: One for each protocol, each under names of its own.
    """

    CUT = "truths cut to their answers"

    def __init__(self, parts: list[ImageMetric]):
        super().__init__(parts)
        self.cut: set[int | str] = set()

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        size = f"truths cut at right and bottom where an answer lacks the rest of a division by {DIVISORS[-1]} at most"
        return {**super().protocol, "size": size}

    def update(self, result: Image, truth: Image, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        given, (height, width) = result.image.shape[:2], truth.image.shape[:2]
        if given != (height, width) and any((height // d * d, width // d * d) == given for d in DIVISORS):
            truth = replace(truth, image=truth.image[: given[0], : given[1]], size=given)
            self.cut.add(id)
        super().update(result, truth, id)

    def merge(self, other: FittingMetrics) -> None:
        """Takes what another process gathered."""
        super().merge(other)
        self.cut |= other.cut

    def counts(self) -> dict[str, int]:
        """How many images were compared, too small for SSIM's window, and cut."""
        return {**super().counts(), **({self.CUT: len(self.cut)} if self.cut else {})}


def score(truth: Path, predictions: Path, on_error: OnError = "fail") -> dict[str, Any]:
    """PSNR and SSIM of images against true ones: metrics, protocol, counts, named, tables; see `open_files`."""
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

    def metric(_: Path, first: Path) -> FittingMetrics:
        """All protocols that the first true image has the channels for: there is no luma of more than RGB."""
        many = read_image(first).shape[2] > 4
        return FittingMetrics([ImageMetric(*protocol) for protocol in PROTOCOLS if not many or "Y" not in protocol])

    return score_folders(truth, predictions, SUFFIXES, (Image.of, Image.of), metric, on_error, ENDINGS)
