"""What happens to images outside the laboratory, in steps: blur, noise, compression, darkness, turns and other sizes.

Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR
2019; here also with turns and scales, through which the truth goes along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from densevision.datasets.degradations import blurred, compressed, motion_kernel, with_gaussian_noise
from densevision.errors import UsageError
from densevision.io.image import to_unit_float
from densevision.ops.view import Size, resize_image, warp_image
from densevision.sample import Sample, SampleSet

Paint = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
Move = Callable[[Size, float], tuple[np.ndarray, Size]]


@dataclass(frozen=True)
class Corruption:
    """One way in which images get worse.

    Attributes:
        what: What the strength is, with its unit.
        strengths: From mild to strong.
        paint: (image (H, W, C) float32 in [0, 1], strength, chance) -> image; where only colors change.
        move: (size, strength) -> affine map (2, 3) in corner coordinates and the size of the new image; where the
            truth has to go along.
    """

    what: str
    strengths: tuple[float, ...]
    paint: Paint | None = None
    move: Move | None = None

    def apply(self, sample: Sample, strength: float, seed: Sequence[int], inputs: Sequence[str]) -> Sample:
        """The sample as it would have been.

        Args:
            sample: With truth or without.
            strength: One of the strengths, or any between.
            seed: All the chance; the same seed gives the same images.
            inputs: Names of the images that change.
        """
        rng = np.random.default_rng(seed)
        if self.paint is not None:
            painted = {name: self._painted(sample.images[name], strength, rng) for name in inputs}
            return replace(sample, images={**sample.images, **painted}, file="")
        matrix, size = self.move(sample.size, strength)  # type: ignore[misc]
        moved = {name: _moved(sample.images[name], matrix, size) for name in inputs}
        truth = None if sample.truth is None else sample.truth.warp(matrix, size)
        return replace(sample, images={**sample.images, **moved}, truth=truth, file="")

    def _painted(self, image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
        changed = self.paint(to_unit_float(image), strength, rng).clip(0, 1)  # type: ignore[misc]
        if image.dtype.kind == "f":
            return changed.astype(image.dtype)
        return np.rint(changed * np.iinfo(image.dtype).max).astype(image.dtype)


class Corrupted:
    """A dataset under one corruption: a reading by index, as pure as the dataset's own.

    Args:
        samples: The dataset.
        corruption: What happens.
        strength: How much.
        inputs: Names of the images that change.
        seed: Of all the chance.
        limit: Only so many of the first samples.
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


def _turn(size: Size, degrees: float) -> tuple[np.ndarray, Size]:
    """A turn about the middle, on a canvas of the same size."""
    height, width = size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    middle = np.array([width / 2, height / 2])
    return np.concatenate([turn, (middle - turn @ middle)[:, None]], 1), size


def _zoom(size: Size, factor: float) -> tuple[np.ndarray, Size]:
    target = tuple(max(1, round(side * factor)) for side in size)
    return np.array([[target[1] / size[1], 0, 0], [0, target[0] / size[0], 0]], np.float64), target


def _moved(image: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    if not matrix[0, 1] and not matrix[1, 0] and not matrix[:, 2].any():
        return resize_image(image, size, cv2.INTER_AREA if matrix[0, 0] < 1 else cv2.INTER_LINEAR)
    return warp_image(image, matrix, size, cv2.INTER_LINEAR, 0)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    if image.shape[2] not in (1, 3):
        raise UsageError("JPEG holds one or three channels", field="jpeg", value=image.shape[2], hint="Leave jpeg out.")
    return compressed(image, round(quality))


def _gaussian(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def _motion(image: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    return blurred(image, motion_kernel(length, math.pi * float(rng.random())))


def _noise(image: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    return with_gaussian_noise(image, levels / 255, rng)


def _dark(image: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    return image * np.float32(part)


CORRUPTIONS = {
    "rotation": Corruption("degrees", (5, 15, 30, 45), move=_turn),
    "gaussian blur": Corruption("standard deviation [px]", (1, 2, 4, 8), _gaussian),
    "motion blur": Corruption("length [px]", (5, 10, 20), _motion),
    "noise": Corruption(
        "standard deviation [1/255]", (5, 15, 30, 60), lambda x, s, r: with_gaussian_noise(x, s / 255, r)
    ),
    "jpeg": Corruption("quality", (75, 40, 20, 10), _jpeg),
    "darkness": Corruption("part of the light", (0.5, 0.25, 0.1), _dark),
    "scale": Corruption("side", (0.75, 0.5, 0.25, 1.5), move=_zoom),
}
"""Name -> what happens. Motion blur turns anew for each image; noise is drawn anew."""
