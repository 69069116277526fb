"""PSNR and SSIM, with the protocol as part of the metric's name.

Super-resolution papers compare the luma of 8-bit images and leave out a border as wide as the scale; restoration papers
compare all channels of the whole image. The two differ by decibels, so the names state it: `PSNR_Y_crop2`,
`PSNR_RGB_crop0`.

Luma exists in two variants. `Y` is rounded to the levels of 8-bit images, as MATLAB's `rgb2ycbcr` returns for uint8;
`Yfloat` is not rounded, as in BasicSR and EDSR-PyTorch. They differ by up to 0.4 dB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from densevision.errors import DataError
from densevision.metrics.metric import Tables
from densevision.metrics.per_image import Columns, ImageSums, JoinedStats, blank_mean, means, split_mean
from densevision.results.image import Image

__all__ = [
    "EXACT_IMAGES",
    "Color",
    "ImageMetric",
    "ImageMetrics",
    "ImageScores",
    "Luma",
    "drop_alpha",
    "psnr",
    "quality_metric_names",
    "rgb_to_luma",
    "ssim",
    "to_comparable",
]

Color = Literal["Y", "RGB"]
Luma = Literal["rounded", "float"]
EXACT_IMAGES = "exact images"
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K = (0.01, 0.03)
_BT601_STUDIO = np.array([65.481, 128.553, 24.966])


def rgb_to_luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601 in studio range, as MATLAB's `rgb2ycbcr` returns for floats.

    Args:
        image: (..., 3) RGB, or (..., 1) gray, from 0 to 255.

    Returns:
        (...) from 16 to 235.

    Raises:
        DataError: The image has another number of channels.

    >>> rgb_to_luma(np.array([[0.0, 0, 0], [255, 255, 255]]))
    array([ 16., 235.])
    """
    if image.shape[-1] == 1:
        return image[..., 0] * (219 / 255) + 16
    if image.shape[-1] != 3:
        problem, hint = "luma is defined for gray and RGB images only", "Compare all channels: RGB."
        raise DataError(problem, value=f"{image.shape[-1]} channels", hint=hint)
    return image @ (_BT601_STUDIO / 255) + 16


def psnr(prediction: np.ndarray, target: np.ndarray, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal images, NaN where no pixel is known in both.

    Args:
        prediction: Any shape.
        target: The same shape; NaN in either is left out.
        peak: Value of white.
    """
    squares = np.square(np.asarray(prediction, np.float64) - target)
    known = squares[np.isfinite(squares)]
    if not known.size:
        return math.nan
    error = float(known.mean())
    return 10 * math.log10(peak * peak / error) if error else math.inf


def ssim(prediction: np.ndarray, target: np.ndarray, peak: float = 255.0) -> float:
    """Structural similarity, the mean over channels and over the pixels whose window lies inside the image.

    Source: Wang et al., Image Quality Assessment, 2004, eq. 13, with its Gaussian window; biased variances.

    Args:
        prediction: (H, W) or (H, W, C).
        target: The same shape.
        peak: Value of white.

    Returns:
        At most 1; NaN for images smaller than the window, or with unknown pixels.
    """
    x, y = (np.asarray(image, np.float64) for image in (prediction, target))
    if min(x.shape[:2]) < SSIM_WINDOW or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    if x.ndim == 3:
        return float(np.mean([ssim(x[..., c], y[..., c], peak) for c in range(x.shape[2])]))
    mean_x, mean_y = _filter_window(x), _filter_window(y)
    var_x = _filter_window(x * x) - mean_x**2
    var_y = _filter_window(y * y) - mean_y**2
    covariance = _filter_window(x * y) - mean_x * mean_y
    c1, c2 = ((k * peak) ** 2 for k in SSIM_K)
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def to_comparable(prediction: Image, truth: Image) -> tuple[np.ndarray, np.ndarray]:
    """Both images from 0 to 255 in float64, without alpha, the prediction rounded to the levels of the ground truth.

    Raises:
        DataError: Their sizes or channels differ.
    """
    predicted, target = drop_alpha(prediction.image), drop_alpha(truth.image)
    if predicted.shape != target.shape:
        value = f"{prediction.image.shape} and {truth.image.shape}"
        if predicted.shape[:2] != target.shape[:2]:
            problem, hint = "prediction and ground truth differ in height or width", "Resize one of them."
        else:
            problem, hint = "prediction and ground truth differ in channels", "Write both in gray, or both in color."
        raise DataError(problem, value=value, hint=hint)
    if target.dtype.kind == "f":
        return drop_alpha(prediction.unit()) * 255.0, target * 255.0
    levels = float(np.iinfo(target.dtype).max)
    if predicted.dtype != target.dtype:
        predicted = np.rint(drop_alpha(prediction.unit()).clip(0, 1) * levels)
    return predicted * (255 / levels), target * (255 / levels)


def drop_alpha(image: np.ndarray) -> np.ndarray:
    """The channels that are compared: of two and of four channels the last is alpha, which is left out.

    >>> [drop_alpha(np.zeros((1, 1, channels))).shape[2] for channels in (1, 2, 3, 4, 5)]
    [1, 1, 3, 3, 5]
    """
    return image[..., :-1] if image.shape[2] in (2, 4) else image


class ImageScores(ImageSums):
    """Per-image statistics of scores of which an exact prediction has an infinite one.

    The mean of such a score is that of the other images, and infinite only where all predictions are exact: a single
    exact image would make every mean infinite, and no two results could be compared.

    Args:
        rows: Image id -> score by name.
        names: The scores' names.
    """

    def __init__(self, rows: Mapping[Any, Mapping[str, float]], names: Iterable[str]):
        self.names = tuple(names)
        blank = blank_mean(self.names) | {f"exact {name}": 0.0 for name in self.names}
        columns = {str(image_id): _split_scores(scores) for image_id, scores in rows.items()}
        super().__init__(columns, blank, self._average)

    def _average(self, sums: Columns) -> Columns:
        averages = means(sums, self.names)
        for name in self.names:
            is_exact = (sums[f"exact {name}"] > 0) & (sums[f"count {name}"] == 0)
            averages[name] = np.where(is_exact, np.inf, averages[name])
        return averages


class ImageMetric:
    """PSNR and SSIM, each averaged over images; mergeable.

    Args:
        color: `Y` compares the luma, `RGB` all channels.
        crop: Width of the border that is left out, in pixels.
        luma: With `Y`: `rounded` to whole levels where the ground truth has 8 bits, or `float`; see the module.
    """

    def __init__(self, color: Color = "RGB", crop: int = 0, luma: Luma = "rounded"):
        self.color, self.crop, self.luma = color, crop, luma
        self.values: dict[int | str, tuple[float, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names, PSNR and SSIM first."""
        return quality_metric_names(self.color, self.crop, self.luma)

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        protocol: dict[str, Any] = {
            "color": "Y of BT.601 in studio range" if self.color == "Y" else "all channels",
            "luma": self.luma,
            "alpha": "left out",
            "crop": self.crop,
            "levels": "predictions rounded to the levels of the ground truth",
            "peak": 255,
            "SSIM": f"Gaussian window of {SSIM_WINDOW}, sigma {SSIM_SIGMA}, K {SSIM_K[0]} and {SSIM_K[1]}, inside the "
            "image",
            "mean": "of the images' values; exact images have no finite PSNR and are counted instead",
        }
        if self.color != "Y":
            del protocol["luma"]
        return protocol

    def update(self, prediction: Image, truth: Image, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image.

        Raises:
            DataError: Their sizes or channels differ, or luma is compared and not defined.
        """
        pair = to_comparable(prediction, truth)
        inside = tuple(slice(self.crop, max(0, side - self.crop)) for side in truth.image.shape[:2])
        planes = [image[inside] for image in pair]
        if self.color == "Y":
            planes = [rgb_to_luma(image) for image in planes]
            if self.luma == "rounded" and truth.image.dtype == np.uint8:
                planes = [np.rint(image) for image in planes]
        self.values[image_id] = psnr(planes[0], planes[1]), ssim(planes[0], planes[1])

    def merge(self, other: ImageMetric) -> None:
        """Adds the images of another accumulator."""
        self.values |= other.values

    def counts(self) -> dict[str, int]:
        """How many images were compared, were predicted exactly, and were too small for SSIM's window."""
        scores = self.values.values()
        exact = sum(math.isinf(value) for value, *_ in scores)
        return {
            "images": sum(not math.isnan(value) for value, *_ in scores),
            **({EXACT_IMAGES: exact} if exact else {}),
            "images without SSIM": sum(math.isnan(value) for _, value, *_ in scores),
        }

    def compute(self) -> dict[str, float]:
        """The means by name, see `ImageScores`; NaN where no image could be compared."""
        return self.per_image().compute()

    def per_image(self) -> ImageScores:
        """The values of each image."""
        rows = {image_id: dict(zip(self.names, values)) for image_id, values in self.values.items()}
        return ImageScores(rows, self.names)

    def tables(self) -> Tables:
        """The values of each image; "exact ..." is 1 where the PSNR is infinite, which JSON writes as null."""
        has_exact = any(math.isinf(value) for value, *_ in self.values.values())
        rows = {}
        for image_id in sorted(self.values, key=str):
            values = self.values[image_id]
            exact = {f"exact {self.names[0]}": int(math.isinf(values[0]))} if has_exact else {}
            rows[str(image_id)] = {**dict(zip(self.names, values)), **exact}
        return {"per image": rows}

    def draw_plots(self, folder: Path) -> None:
        """Draws nothing: two values per image need no plot."""


class ImageMetrics:
    """PSNR and SSIM under several protocols at once.

    Args:
        parts: One for each protocol, with distinct names.
    """

    def __init__(self, parts: Sequence[ImageMetric]):
        self.parts = list(parts)

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        shared = {name: value for name, value in self.parts[0].protocol.items() if name != "luma"}
        named = {"color": "as the names say", "crop": "as the names say"}
        if any(part.color == "Y" for part in self.parts):
            named["luma"] = "Y is rounded to 8 bits, Yfloat is not"
        return {**shared, **named}

    def update(self, prediction: Image, truth: Image, image_id: int | str) -> None:
        """Adds the prediction and the ground truth of one image."""
        for part in self.parts:
            part.update(prediction, truth, image_id)

    def merge(self, other: ImageMetrics) -> None:
        """Adds the images of another accumulator."""
        for part, other_part in zip(self.parts, other.parts):
            part.merge(other_part)

    def counts(self) -> dict[str, int]:
        """How many images were compared, and how many were too small for SSIM's window under some protocol."""
        counts = [part.counts() for part in self.parts]
        exact = min(count.get(EXACT_IMAGES, 0) for count in counts)
        return {
            "images": min(count["images"] for count in counts),
            **({EXACT_IMAGES: exact} if exact else {}),
            "images without SSIM": max(count["images without SSIM"] for count in counts),
        }

    def compute(self) -> dict[str, float]:
        """The means by name; NaN where no image could be compared."""
        return {name: value for part in self.parts for name, value in part.compute().items()}

    def per_image(self) -> JoinedStats:
        """The values of each image."""
        return JoinedStats(("", part.per_image()) for part in self.parts)

    def tables(self) -> Tables:
        """The values of each image."""
        tables = [part.tables()["per image"] for part in self.parts]
        rows = {
            image_id: {name: value for table in tables for name, value in table[image_id].items()}
            for image_id in tables[0]
        }
        return {"per image": rows}

    def draw_plots(self, folder: Path) -> None:
        """Draws nothing: a few values per image need no plot."""


def quality_metric_names(color: Color, crop: int, luma: Luma = "rounded") -> tuple[str, str]:
    """The names of PSNR and SSIM under a protocol.

    >>> quality_metric_names("Y", 2)
    ('PSNR_Y_crop2', 'SSIM_Y_crop2')
    >>> quality_metric_names("Y", 2, "float")
    ('PSNR_Yfloat_crop2', 'SSIM_Yfloat_crop2')
    """
    channels = "Yfloat" if color == "Y" and luma == "float" else color
    return f"PSNR_{channels}_crop{crop}", f"SSIM_{channels}_crop{crop}"


def _split_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """An image's scores as summable columns: `split_mean` of the finite ones, and a count of the infinite ones."""
    infinite = {f"exact {name}": 1.0 for name, score in scores.items() if math.isinf(score)}
    return split_mean({name: score for name, score in scores.items() if not math.isinf(score)}) | infinite


def _filter_window(image: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(image, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)
    border = SSIM_WINDOW // 2
    return blurred[border:-border, border:-border]
