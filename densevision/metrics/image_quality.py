"""How near one image is to another: PSNR and SSIM, with the protocol as part of the number's name.

The papers of super-resolution compare the luma of 8-bit images and leave out a border as wide as the scale; those of
restoration compare all colors of the whole image. The two differ by decibels, so the names say which it is:
`PSNR_Y_crop2`, `PSNR_RGB_crop0`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from densevision.errors import DataError
from densevision.metrics.per_image import Joined, Sums, blank_mean, means, split_mean
from densevision.results.image import Image

Color = Literal["Y", "RGB"]
WINDOW = 11
SIGMA = 1.5
"""The Gaussian window of SSIM."""
STABLE = (0.01, 0.03)
"""SSIM's K1 and K2."""
_STUDIO = np.array([65.481, 128.553, 24.966])


def luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601 in studio range, as MATLAB's `rgb2ycbcr` gives it of floats.

    Args:
        image: (..., 3) RGB, or (..., 1) gray, from 0 to 255.

    Returns:
        (...) from 16 to 235.

    Raises:
        DataError: There are other channels.

    >>> luma(np.array([[0.0, 0, 0], [255, 255, 255]]))
    array([ 16., 235.])
    """
    if image.shape[-1] == 1:
        return image[..., 0] * (219 / 255) + 16
    if image.shape[-1] != 3:
        hint = "Compare all channels: RGB."
        raise DataError("luma is of gray and RGB images", value=f"{image.shape[-1]} channels", hint=hint)
    return image @ (_STUDIO / 255) + 16


def psnr(one: np.ndarray, other: np.ndarray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal images, NaN where no pixel is known in both.

    Args:
        one: Any shape.
        other: The same shape; NaN in either is left out.
        peak: Value of white.
    """
    squares = np.square(np.asarray(one, np.float64) - other)
    known = squares[np.isfinite(squares)]
    if not known.size:
        return math.nan
    error = float(known.mean())
    return 10 * math.log10(peak * peak / error) if error else math.inf


def ssim(one: np.ndarray, other: np.ndarray, peak: float = 255.0) -> float:
    """Structural similarity, the mean over channels and over the pixels whose window lies inside.

    Source: Wang et al., Image Quality Assessment, 2004, eq. 13, with its Gaussian window; biased variances.

    Args:
        one: (H, W) or (H, W, C).
        other: The same shape.
        peak: Value of white.

    Returns:
        At most 1; NaN for images smaller than the window, or with pixels that are not known.
    """
    one, other = (np.asarray(image, np.float64) for image in (one, other))
    if min(one.shape[:2]) < WINDOW or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    if one.ndim == 3:
        return float(np.mean([ssim(one[..., c], other[..., c], peak) for c in range(one.shape[2])]))
    mean_one, mean_other = _windowed(one), _windowed(other)
    spread_one = _windowed(one * one) - mean_one**2
    spread_other = _windowed(other * other) - mean_other**2
    together = _windowed(one * other) - mean_one * mean_other
    c1, c2 = ((k * peak) ** 2 for k in STABLE)
    likeness = (2 * mean_one * mean_other + c1) * (2 * together + c2)
    return float((likeness / ((mean_one**2 + mean_other**2 + c1) * (spread_one + spread_other + c2))).mean())


def comparable(answer: Image, truth: Image) -> tuple[np.ndarray, np.ndarray]:
    """Both images from 0 to 255 in float64, without alpha, the answer rounded to the levels that the truth can hold.

    Raises:
        DataError: Their sizes or channels differ.
    """
    given, wanted = colors(answer.image), colors(truth.image)
    if given.shape != wanted.shape:
        value = f"{answer.image.shape} and {truth.image.shape}"
        if given.shape[:2] != wanted.shape[:2]:
            raise DataError("answer and truth differ in height or width", value=value, hint="Bring both to one size.")
        hint = "Write both in gray, or both in color."
        raise DataError("answer and truth differ in channels", value=value, hint=hint)
    if wanted.dtype.kind == "f":
        return colors(answer.unit()) * 255.0, wanted * 255.0
    levels = float(np.iinfo(wanted.dtype).max)
    if given.dtype != wanted.dtype:
        given = np.rint(colors(answer.unit()).clip(0, 1) * levels)
    return given * (255 / levels), wanted * (255 / levels)


def colors(image: np.ndarray) -> np.ndarray:
    """The channels that are compared: of two and of four the last is alpha, which is left out.

    >>> [colors(np.zeros((1, 1, channels))).shape[2] for channels in (1, 2, 3, 4, 5)]
    [1, 1, 3, 3, 5]
    """
    return image[..., :-1] if image.shape[2] in (2, 4) else image


class ImageMetric:
    """PSNR and SSIM of images, each the mean of the images' own values; mergeable.

    Args:
        color: `Y` compares the luma, `RGB` all channels.
        crop: Width of the border that is left out.
    """

    def __init__(self, color: Color = "RGB", crop: int = 0):
        self.color, self.crop = color, crop
        self.values: dict[int | str, tuple[float, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers, PSNR and SSIM first."""
        return quality_names(self.color, self.crop)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        color = "Y of BT.601 in studio range, whole numbers for 8 bits" if self.color == "Y" else "all channels"
        return {
            "color": color,
            "alpha": "left out",
            "crop": self.crop,
            "levels": "answers rounded to the levels of the truth",
            "peak": 255,
            "SSIM": f"Gaussian window of {WINDOW}, sigma {SIGMA}, K {STABLE[0]} and {STABLE[1]}, inside the image",
            "mean": "of the images' values",
        }

    def update(self, result: Image, truth: Image, id: int | str) -> None:
        """Takes the answer and the truth of one image.

        Raises:
            DataError: Their sizes or channels differ, or they have no luma where it is compared.
        """
        pair = comparable(result, truth)
        inside = tuple(slice(self.crop, max(0, side - self.crop)) for side in truth.image.shape[:2])
        pair = [image[inside] for image in pair]
        if self.color == "Y":
            pair = [luma(image) for image in pair]
            if truth.image.dtype == np.uint8:  # as the papers' rgb2ycbcr gives 8 bits for 8 bits
                pair = [np.rint(image) for image in pair]
        self.values[id] = psnr(*pair), ssim(*pair)

    def merge(self, other: ImageMetric) -> None:
        """Takes what another process gathered."""
        self.values |= other.values

    def counts(self) -> dict[str, int]:
        """How many images were compared, and how many were too small for SSIM's window."""
        scores = self.values.values()
        return {
            "images": sum(not math.isnan(value) for value, *_ in scores),
            "images without SSIM": sum(math.isnan(value) for _, value, *_ in scores),
        }

    def compute(self) -> dict[str, float]:
        """The means by name; NaN where no image could be compared."""
        return self.per_image().compute()

    def per_image(self) -> Sums:
        """The values of each image, from which the means of any choice of images follow."""
        rows = {str(id): split_mean(dict(zip(self.names, values))) for id, values in self.values.items()}
        return Sums(rows, blank_mean(self.names), lambda sums: means(sums, self.names))

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The numbers of each image."""
        rows = {str(id): dict(zip(self.names, self.values[id])) for id in sorted(self.values, key=str)}
        return {"per image": rows}

    def plots(self, folder: Path) -> None:
        """Two numbers an image need no plot."""


class ImageMetrics:
    """PSNR and SSIM under several protocols at once.

    Args:
        parts: One for each protocol, each under names of its own.
    """

    def __init__(self, parts: Sequence[ImageMetric]):
        self.parts = list(parts)

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        return {**self.parts[0].protocol, "color": "as the names say", "crop": "as the names say"}

    def update(self, result: Image, truth: Image, id: int | str) -> None:
        """Takes the answer and the truth of one image."""
        for part in self.parts:
            part.update(result, truth, id)

    def merge(self, other: ImageMetrics) -> None:
        """Takes what another process gathered."""
        for mine, theirs in zip(self.parts, other.parts):
            mine.merge(theirs)

    def counts(self) -> dict[str, int]:
        """How many images were compared, and how many were too small for SSIM's window under some protocol."""
        counts = [part.counts() for part in self.parts]
        few, many = (pick(count[name] for count in counts) for name, pick in zip(counts[0], (min, max)))
        return dict(zip(counts[0], (few, many)))

    def compute(self) -> dict[str, float]:
        """The means by name; NaN where no image could be compared."""
        return {name: value for part in self.parts for name, value in part.compute().items()}

    def per_image(self) -> Joined:
        """The values of each image, from which the means of any choice of images follow."""
        return Joined(("", part.per_image()) for part in self.parts)

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The numbers of each image."""
        tables = [part.tables()["per image"] for part in self.parts]
        return {"per image": {id: {name: v for table in tables for name, v in table[id].items()} for id in tables[0]}}

    def plots(self, folder: Path) -> None:
        """A few numbers an image need no plot."""


def quality_names(color: Color, crop: int) -> tuple[str, str]:
    """The names of PSNR and SSIM under a protocol.

    >>> quality_names("Y", 2)
    ('PSNR_Y_crop2', 'SSIM_Y_crop2')
    """
    return f"PSNR_{color}_crop{crop}", f"SSIM_{color}_crop{crop}"


def _windowed(image: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA)
    border = WINDOW // 2
    return blurred[border:-border, border:-border]
