"""Image metrics against scikit-image, scikit-learn, SciPy and torchmetrics."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.linalg import sqrtm
from skimage import color as skimage_color
from skimage import metrics as skimage_metrics
from sklearn.metrics import mean_absolute_error

from certificates.certificate import Case, Certificate
from densevision.metrics.frechet import frechet_distance
from densevision.metrics.image_quality import Color, ImageMetric, Luma
from densevision.results import Image
from densevision.tasks.translation.metrics import TranslationMetric


def make_pair(seed: int, size: tuple[int, int] = (40, 52), channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image and the original, uint8."""
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 256, (*size, channels), np.uint8)
    noisy = np.clip(original.astype(int) + rng.integers(-30, 31, original.shape), 0, 255).astype(np.uint8)
    return noisy, original


def compute_ours(
    prediction: np.ndarray, truth: np.ndarray, color: Color, crop: int, luma: Luma = "rounded"
) -> list[float]:
    """PSNR and SSIM of densevision."""
    metric = ImageMetric(color, crop, luma)
    metric.update(Image.from_source(prediction), Image.from_source(truth), 0)
    return list(metric.compute().values())


def compute_reference(prediction: np.ndarray, truth: np.ndarray, peak: float) -> tuple[float, float]:
    """PSNR and SSIM of scikit-image, of floats (H, W) or (H, W, C)."""
    axis = 2 if truth.ndim == 3 else None
    with np.errstate(divide="ignore"):
        psnr = skimage_metrics.peak_signal_noise_ratio(truth, prediction, data_range=peak)
    rules = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = skimage_metrics.structural_similarity(truth, prediction, data_range=peak, channel_axis=axis, **rules)
    return psnr, ssim


def compare_luma(luma: Luma) -> Iterator[Case]:
    """PSNR and SSIM of the luma, with and without a border."""
    for seed in range(4):
        for crop in (0, 2, 3, 4):
            prediction, truth = make_pair(seed)
            inside = np.s_[crop : len(truth) - crop, crop : truth.shape[1] - crop]
            planes = [skimage_color.rgb2ycbcr(image[inside])[..., 0] for image in (prediction, truth)]
            if luma == "rounded":
                planes = [np.rint(plane) for plane in planes]
            ours = compute_ours(prediction, truth, "Y", crop, luma)
            for number, reference in zip(ours, compute_reference(planes[0], planes[1], 255)):
                yield Case(f"border of {crop} px left out", number, reference)


def compare_rounded_luma() -> Iterator[Case]:
    """Luma in whole levels, as MATLAB's rgb2ycbcr returns for uint8."""
    yield from compare_luma("rounded")


def compare_float_luma() -> Iterator[Case]:
    """Luma in fractions of levels, as BasicSR and EDSR-PyTorch compute it."""
    yield from compare_luma("float")


def compare_colors() -> Iterator[Case]:
    """PSNR and SSIM of all channels, with and without a border."""
    for seed in range(4):
        for crop in (0, 2, 3, 4):
            prediction, truth = make_pair(seed)
            inside = np.s_[crop : len(truth) - crop, crop : truth.shape[1] - crop]
            reference = compute_reference(prediction[inside].astype(float), truth[inside].astype(float), 255)
            for number, expected in zip(compute_ours(prediction, truth, "RGB", crop), reference):
                yield Case(f"border of {crop} px left out", number, expected)


def compare_number_types() -> Iterator[Case]:
    """16 bits, floats, gray, and equal images."""
    for seed in range(3):
        prediction, truth = make_pair(seed)
        sixteen_bits = [image.astype(np.uint16) * 257 for image in (prediction, truth)]
        floats = [(image / 255).astype(np.float32) for image in (prediction, truth)]
        gray = make_pair(seed, channels=1)
        for name, pair, peak in (("16 bits", sixteen_bits, 65535), ("floats to 1", floats, 1), ("gray", gray, 255)):
            reference = compute_reference(pair[0].astype(float), pair[1].astype(float), peak)
            for number, expected in zip(compute_ours(pair[0], pair[1], "RGB", 0), reference):
                yield Case(name, number, expected)
        yield Case("equal images", compute_ours(truth, truth, "Y", 2)[0], np.inf)


def compare_l1() -> Iterator[Case]:
    """L1, where white is 1."""
    for seed in range(3):
        prediction, truth = make_pair(seed)
        metric = TranslationMetric()
        metric.update(Image.from_source(prediction), Image.from_source(truth), 0)
        reference = mean_absolute_error(truth.ravel() / 255, prediction.ravel() / 255)
        yield Case("random images", metric.compute()["L1"], reference)


def compare_frechet() -> Iterator[Case]:
    """The Fréchet distance with a matrix square root."""
    for seed, count in ((0, 40), (1, 200)):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(0, 1, (count, 12)), rng.normal(0.3, 1.5, (count, 12)) @ rng.normal(0, 1, (12, 12))
        means, covariances = zip(*((side.mean(0), np.cov(side, rowvar=False)) for side in (first, second)))
        root = np.real(sqrtm(covariances[0] @ covariances[1]))
        reference = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
        yield Case("two sets of features", frechet_distance(first, second), reference)


def compare_lpips() -> Iterator[Case]:
    """LPIPS on random features, loaded into both implementations."""
    import torch
    from safetensors.torch import save_file
    from torchmetrics.functional.image.lpips import _LPIPS
    from torchvision import models

    from densevision.metrics.lpips import load_lpips

    torch.manual_seed(0)
    pair = [torch.from_numpy(image.transpose(2, 0, 1).copy())[None] / 255 for image in make_pair(0, (80, 96))]
    for name, build in (("alex", models.alexnet), ("vgg", models.vgg16)):
        features = build(weights=None).features.state_dict()
        reference = _LPIPS(net=name, pnet_rand=True)
        keys = reference.net.state_dict()
        reference.net.load_state_dict({key: features[key.split(".", 1)[1]] for key in keys})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.safetensors"
            save_file({f"features.{key}": tensor for key, tensor in features.items()}, path)
            ours = load_lpips(str(path))
        yield Case(f"features of {name}", float(ours(*pair)), float(reference(*pair, normalize=True)))


CERTIFICATES = (
    Certificate("superres", "PSNR_Y SSIM_Y", "scikit-image, luma rounded to 8 bits as in MATLAB", compare_rounded_luma),
    Certificate("superres", "PSNR_Yfloat SSIM_Yfloat", "scikit-image, luma not rounded", compare_float_luma),
    Certificate("superres, translation", "PSNR_RGB SSIM_RGB", "scikit-image", compare_colors),
    Certificate("superres, translation", "PSNR SSIM", "scikit-image", compare_number_types, 1e-5),
    Certificate("superres", "LPIPS", "torchmetrics", compare_lpips, 1e-5),
    Certificate("translation", "L1", "scikit-learn", compare_l1),
    Certificate("translation", "FD", "scipy, sqrtm", compare_frechet, 1e-6),
)
