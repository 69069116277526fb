"""Materials and paints of surfaces.

A material is a small image with three periodic patterns as channels; a paint is an affine map from their values to RGB.
So a few dozen materials, built once per process, give any number of surfaces, and colors are computed after warping.
Photos are materials whose paint nearly keeps the colors.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from densevision.datasets.scenes.pattern import PATTERNS, TILE, Rng, noise
from densevision.errors import DataError

__all__ = ["Material", "Materials", "sample_object_paint", "sample_room_paint"]

_BANK_SEED = 20180
_MATERIALS = 40
_PHOTO_SHARE = 0.75
_HUE_STEPS = (-0.5, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 0.5)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Material:
    """An image that is repeated over the plane.

    Attributes:
        levels: (n, n, 4) uint8 images, each half the side of the one before it. The fourth channel is unused: OpenCV
            warps four channels twice as fast as three.
        border: OpenCV border type of the repetition.
        photo: Whether the channels are RGB instead of patterns.
    """

    levels: tuple[np.ndarray, ...]
    border: int
    photo: bool


@dataclass(frozen=True)
class Materials:
    """The available materials: procedural ones, and optionally photos.

    Attributes:
        photos: Their files, sorted.
    """

    photos: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: str | None) -> Materials:
        """Creates procedural materials, and lists the images in a folder.

        Raises:
            DataError: The folder does not exist or contains no image.
        """
        if folder is None:
            return cls()
        if not Path(folder).is_dir():
            raise DataError("is not a folder", file=folder, field="photos", hint="Give a folder of images.")
        files = tuple(sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in _SUFFIXES))
        if not files:
            hint = f"Put images into it ({', '.join(sorted(_SUFFIXES))})."
            raise DataError("contains no image", file=folder, field="photos", hint=hint)
        return cls(files)

    def sample(self, rng: Rng) -> Material:
        """Samples a material: a photo with probability 0.75 if there are photos."""
        share, photo, pattern = rng.random(), rng.integers(max(1, len(self.photos))), rng.integers(_MATERIALS)
        if self.photos and share < _PHOTO_SHARE:
            return _load_photo(self.photos[photo])
        return _build_procedural(int(pattern))


def sample_room_paint(rng: Rng, material: Material, light: float) -> np.ndarray:
    """Samples the paint of a wall or floor: two muted tones of one hue.

    Args:
        rng: The source of randomness.
        material: The material to paint.
        light: Brightness of the light on the surface, about 1.

    Returns:
        (3, 4) float32: RGB = paint[:, :3] @ channels + paint[:, 3], all in 0..255.
    """
    if material.photo:
        return _sample_tint(rng, light)
    hue, saturation, value = _sample_hue(rng), rng.uniform(0.04, 0.45), rng.uniform(0.5, 0.95)
    step = rng.uniform(0.12, 0.4) * (1 if value < 0.65 else -1)
    tones = [
        (hue, saturation, value),
        (hue + rng.normal(0, 0.04), saturation * rng.uniform(0.6, 1.4), value + step),
        (hue + rng.normal(0, 0.12), saturation, value + rng.normal(0, 0.12)),
    ]
    return _mix_tones(tones, rng.uniform(0.12, 0.3), light)


def sample_object_paint(rng: Rng, material: Material, light: float) -> np.ndarray:
    """Samples the paint of an object: two mostly vivid tones of possibly different hue; see `sample_room_paint`."""
    if material.photo:
        return _sample_tint(rng, light)
    is_vivid = rng.random() < 0.8
    hue, value = _sample_hue(rng), rng.uniform(0.45, 1.0)
    saturation = rng.uniform(0.45, 0.95) if is_vivid else rng.uniform(0.0, 0.25)
    hue_step = _HUE_STEPS[rng.integers(len(_HUE_STEPS))]
    step = rng.uniform(0.2, 0.5) * (1 if value < 0.65 else -1)
    tones = [
        (hue, saturation, value),
        (hue + hue_step, saturation * rng.uniform(0.3, 1.0), value + step),
        (hue + rng.normal(0, 0.08), saturation, value + rng.normal(0, 0.15)),
    ]
    return _mix_tones(tones, rng.uniform(0.1, 0.25), light)


def _sample_hue(rng: Rng) -> float:
    """Samples a hue: warm hues and blues are more frequent than greens and purples."""
    return float(np.interp(rng.random(), (0, 0.45, 0.57, 0.87, 1), (-0.03, 0.16, 0.45, 0.68, 0.97)))


def _mix_tones(tones: list[tuple[float, float, float]], grain: float, light: float) -> np.ndarray:
    """Builds a paint: pattern 0 blends the first and second tone, pattern 1 adds the third, pattern 2 is grain."""
    base, main, second = (
        np.array(colorsys.hsv_to_rgb(hue % 1, min(1, max(0, saturation)), min(1, max(0, value))))
        for hue, saturation, value in tones
    )
    paint = np.empty((3, 4))
    paint[:, 0], paint[:, 1], paint[:, 2] = main - base, 0.7 * (second - base), grain
    paint[:, 3] = 255 * (base - 0.5 * (paint[:, 1] + paint[:, 2]))
    return (light * paint).astype(np.float32)


def _sample_tint(rng: Rng, light: float) -> np.ndarray:
    gain = light * rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
    return np.column_stack([np.diag(gain), rng.uniform(-12, 12, 3)]).astype(np.float32)


@lru_cache(maxsize=24)
def _load_photo(file: Path) -> Material:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        hint = "Remove it from the folder, or replace it with an image that opens."
        raise DataError("cannot be read as an image", file=file, hint=hint)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side, ::-1]
    interpolation = cv2.INTER_AREA if side > TILE else cv2.INTER_CUBIC
    return Material(
        _build_levels(cv2.resize(square, (TILE, TILE), interpolation=interpolation)), cv2.BORDER_REFLECT, photo=True
    )


@cache
def _build_procedural(number: int) -> Material:
    rng = np.random.default_rng((_BANK_SEED, number))
    main = PATTERNS[number % len(PATTERNS)](rng)
    channels = [main, noise(rng, rng.uniform(1.2, 2.2)), noise(rng, rng.uniform(0.5, 1.1))]
    return Material(
        _build_levels(np.uint8(np.clip(np.stack(channels, 2), 0, 1) * 255 + 0.5)), cv2.BORDER_WRAP, photo=False
    )


def _build_levels(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2RGBA)]
    while levels[-1].shape[0] > TILE // 16:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)
