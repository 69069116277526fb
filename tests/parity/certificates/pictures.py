"""Images beside scikit-image and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import sqrtm
from skimage import color, metrics
from sklearn.metrics import mean_absolute_error

from certificates.certificate import Case, Certificate
from densevision.metrics.frechet import frechet_distance
from densevision.metrics.image_quality import ImageMetric
from densevision.results import Image
from densevision.tasks.translation.metrics import TranslationMetric


def pair(seed: int, size: tuple[int, int] = (40, 52), channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image and one near it, uint8."""
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (*size, channels), np.uint8)
    return np.clip(one.astype(int) + rng.integers(-30, 31, one.shape), 0, 255).astype(np.uint8), one


def judged(answer: np.ndarray, truth: np.ndarray, color: str, crop: int) -> tuple[float, float]:
    """Our PSNR and SSIM."""
    metric = ImageMetric(color, crop)
    metric.update(Image.of(answer), Image.of(truth), 0)
    return tuple(metric.compute().values())


def reference(answer: np.ndarray, truth: np.ndarray, peak: float) -> tuple[float, float]:
    """scikit-image's, of floats (H, W) or (H, W, C)."""
    axis = 2 if truth.ndim == 3 else None
    with np.errstate(divide="ignore"):
        psnr = metrics.peak_signal_noise_ratio(truth, answer, data_range=peak)
    rules = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return psnr, metrics.structural_similarity(truth, answer, data_range=peak, channel_axis=axis, **rules)


def quality() -> Iterator[Case]:
    """PSNR and SSIM of luma and of colors, with and without a border."""
    for seed in range(4):
        for color in ("Y", "RGB"):
            for crop in (0, 2, 3, 4):
                answer, truth = pair(seed)
                inside = np.s_[crop : len(truth) - crop, crop : truth.shape[1] - crop]
                sides = answer[inside].astype(float), truth[inside].astype(float)
                if color == "Y":  # 16 to 235, as MATLAB gives it, in whole numbers
                    sides = tuple(np.rint(color.rgb2ycbcr(side[inside])[..., 0]) for side in (answer, truth))
                name = f"{'luma from 16 to 235' if color == 'Y' else 'all colors'}, {crop} px left out"
                for mine, theirs in zip(judged(answer, truth, color, crop), reference(*sides, 255)):
                    yield Case(name, mine, theirs)


def ranges() -> Iterator[Case]:
    """16 bits, floats, gray, and equal images."""
    for seed in range(3):
        answer, truth = pair(seed)
        deep = tuple((side.astype(np.uint16) * 257) for side in (answer, truth))
        soft = tuple((side / 255).astype(np.float32) for side in (answer, truth))
        gray = pair(seed, channels=1)
        for name, sides, peak in (("16 bits", deep, 65535), ("floats to 1", soft, 1), ("one channel", gray, 255)):
            theirs = reference(*(side.astype(float) for side in sides), peak)
            for ours, wanted in zip(judged(*sides, "RGB", 0), theirs):
                yield Case(name, ours, wanted)
        yield Case("equal images", judged(truth, truth, "Y", 2)[0], np.inf)


def differences() -> Iterator[Case]:
    """L1, where white is 1."""
    for seed in range(3):
        answer, truth = pair(seed)
        metric = TranslationMetric()
        metric.update(Image.of(answer), Image.of(truth), 0)
        theirs = mean_absolute_error(truth.ravel() / 255, answer.ravel() / 255)
        yield Case("random images", metric.compute()["L1"], theirs)


def distances() -> Iterator[Case]:
    """The Frechet distance through the square root of a matrix."""
    for seed, count in ((0, 40), (1, 200)):
        rng = np.random.default_rng(seed)
        one, other = rng.normal(0, 1, (count, 12)), rng.normal(0.3, 1.5, (count, 12)) @ rng.normal(0, 1, (12, 12))
        means, spreads = zip(*((side.mean(0), np.cov(side, rowvar=False)) for side in (one, other)))
        shared = np.real(sqrtm(spreads[0] @ spreads[1]))
        theirs = ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * shared)
        yield Case("two sets of features", frechet_distance(one, other), theirs)


CERTIFICATES = (
    Certificate("superres, translation", "PSNR SSIM", "scikit-image", quality),
    Certificate("superres, translation", "PSNR SSIM", "scikit-image", ranges, 1e-5),
    Certificate("translation", "L1", "scikit-learn", differences),
    Certificate("translation", "FD", "scipy, sqrtm", distances, 1e-6),
)
