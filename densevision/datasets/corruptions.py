"""Image corruptions of increasing strength: blur, noise, compression, darkness, rotation and scale.

Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019; here also with rotation and scale, which transform the ground truth as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from densevision.datasets.degradations import add_gaussian_noise, blur, compress_jpeg, motion_kernel
from densevision.errors import UsageError
from densevision.io.image import to_unit_float
from densevision.ops.view import Size, resize_image, warp_image
from densevision.sample import Sample, SampleSet

__all__ = ["CORRUPTIONS", "CorruptedDataset", "Corruption"]

PixelTransform = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
GeometricTransform = Callable[[Size, float], tuple[np.ndarray, Size]]


@dataclass(frozen=True)
class Corruption:
    """One type of corruption.

    Attributes:
        description: What the strength measures, with its unit.
        strengths: From mild to strong.
        pixel_transform: (image (H, W, C) float32 in [0, 1], strength, rng) -> image, if only pixel values change.
        geometric_transform: (size, strength) -> affine map (2, 3) in corner coordinates and the size of the new image,
            if the ground truth changes as well.
    """

    description: str
    strengths: tuple[float, ...]
    pixel_transform: PixelTransform | None = None
    geometric_transform: GeometricTransform | None = None

    def apply(self, sample: Sample, strength: float, seed: Sequence[int], inputs: Sequence[str]) -> Sample:
        """Corrupts a sample.

        Args:
            sample: A sample with or without ground truth.
            strength: One of the strengths, or any value between.
            seed: The same seed gives the same images.
            inputs: Names of the images to corrupt.
        """
        rng = np.random.default_rng(seed)
        if self.pixel_transform is not None:
            images = {name: self._transform_pixels(sample.images[name], strength, rng) for name in inputs}
            return replace(sample, images={**sample.images, **images}, file="")
        matrix, size = self.geometric_transform(sample.size, strength)  # type: ignore[misc]
        images = {name: _warp(sample.images[name], matrix, size) for name in inputs}
        truth = None if sample.truth is None else sample.truth.warp(matrix, size)
        return replace(sample, images={**sample.images, **images}, truth=truth, file="")

    def _transform_pixels(self, image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
        corrupted = self.pixel_transform(to_unit_float(image), strength, rng).clip(0, 1)  # type: ignore[misc]
        if image.dtype.kind == "f":
            return corrupted.astype(image.dtype)
        return np.rint(corrupted * np.iinfo(image.dtype).max).astype(image.dtype)


class CorruptedDataset:
    """A dataset whose images are corrupted when they are read, reproducibly by index.

    Args:
        samples: The dataset.
        corruption: The corruption; None for none.
        strength: Its strength.
        inputs: Names of the images to corrupt.
        seed: Seed of the randomness.
        limit: Number of samples to use; all by default.
    """

    def __init__(
        self,
        samples: SampleSet,
        corruption: Corruption | None,
        strength: float,
        inputs: Sequence[str],
        seed: int = 0,
        limit: int | None = None,
    ):
        self.samples, self.corruption, self.strength = samples, corruption, strength
        self.inputs, self.seed = tuple(inputs), seed
        self.count = len(samples) if limit is None else min(limit, len(samples))
        self.notes = samples.notes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        if self.corruption is None:
            return sample
        return self.corruption.apply(sample, self.strength, (self.seed, index), self.inputs)


def _rotate(size: Size, degrees: float) -> tuple[np.ndarray, Size]:
    """Rotation about the center on a canvas of the same size."""
    height, width = size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    center = np.array([width / 2, height / 2])
    return np.concatenate([rotation, (center - rotation @ center)[:, None]], 1), size


def _scale(size: Size, factor: float) -> tuple[np.ndarray, Size]:
    target = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    return np.array([[target[1] / size[1], 0, 0], [0, target[0] / size[0], 0]], np.float64), target


def _warp(image: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    if not matrix[0, 1] and not matrix[1, 0] and not matrix[:, 2].any():
        return resize_image(image, size, cv2.INTER_AREA if matrix[0, 0] < 1 else cv2.INTER_LINEAR)
    return warp_image(image, matrix, size, cv2.INTER_LINEAR, 0)


def _compress(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    if image.shape[2] not in (1, 3):
        hint = "Exclude jpeg."
        raise UsageError("JPEG needs one or three channels", field="jpeg", value=image.shape[2], hint=hint)
    return compress_jpeg(image, round(quality))


def _blur_gaussian(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def _blur_motion(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return blur(image, motion_kernel(length, math.pi * float(rng.random())))


def _add_noise(image: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    return add_gaussian_noise(image, levels / 255, rng)


def _darken(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return image * np.float32(factor)


CORRUPTIONS = {
    "rotation": Corruption("degrees", (5, 15, 30, 45), geometric_transform=_rotate),
    "gaussian blur": Corruption("standard deviation [px]", (1, 2, 4, 8), _blur_gaussian),
    "motion blur": Corruption("length [px]", (5, 10, 20), _blur_motion),
    "noise": Corruption("standard deviation [1/255]", (5, 15, 30, 60), _add_noise),
    "jpeg": Corruption("quality", (75, 40, 20, 10), _compress),
    "darkness": Corruption("fraction of the light", (0.5, 0.25, 0.1), _darken),
    "scale": Corruption("side", (0.75, 0.5, 0.25, 1.5), geometric_transform=_scale),
}
"""Corruptions by name. The direction of motion blur and the noise are sampled per image."""
