"""What surfaces are made of: materials, painted.

A material is three periodic patterns in the channels of one small image; a paint is an affine map from their values
to RGB. So a few dozen materials, made once per process, give surfaces without end, and painting can wait until the
material is already on the screen. Photos take part as materials whose paint leaves the colors nearly alone.
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

_BANK_SEED = 20180
_MATERIALS = 40
_PHOTO_SHARE = 0.75
_APART = (-0.5, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 0.5)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Material:
    """An image that covers the plane by repetition.

    Attributes:
        levels: (n, n, 4) uint8 images, each half the side of the one before it. The fourth channel is empty;
            with it OpenCV warps twice as fast as without.
        border: How it repeats, an OpenCV border type.
        photo: Whether the channels are RGB rather than patterns.
    """

    levels: tuple[np.ndarray, ...]
    border: int
    photo: bool


@dataclass(frozen=True)
class Materials:
    """The materials that a world is made of: procedural ones, and photos where there are some.

    Attributes:
        photos: Their files, sorted.
    """

    photos: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: str | None) -> Materials:
        """Procedural materials, and the images that lie directly in a folder.

        Raises:
            DataError: The folder does not exist or holds no image.
        """
        if folder is None:
            return cls()
        if not Path(folder).is_dir():
            raise DataError("is not a folder", file=folder, field="photos", hint="Name a folder of images.")
        files = tuple(sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in _SUFFIXES))
        if not files:
            hint = f"Put images into it ({', '.join(sorted(_SUFFIXES))})."
            raise DataError("holds no image", file=folder, field="photos", hint=hint)
        return cls(files)

    def pick(self, rng: Rng) -> Material:
        """A material by chance: a photo three times in four where there are photos."""
        share, photo, pattern = rng.random(), rng.integers(max(1, len(self.photos))), rng.integers(_MATERIALS)
        if self.photos and share < _PHOTO_SHARE:
            return _photo(self.photos[photo])
        return _procedural(int(pattern))


def room_paint(rng: Rng, material: Material, light: float) -> np.ndarray:
    """The paint of a wall or floor: two quiet tones of one hue.

    Args:
        rng: Chance.
        material: What is painted.
        light: Brightness that the surface receives, about 1.

    Returns:
        (3, 4) float32: RGB = paint[:, :3] @ channels + paint[:, 3], all in 0..255.
    """
    if material.photo:
        return _tinted(rng, light)
    hue, saturation, value = _hue(rng), rng.uniform(0.04, 0.45), rng.uniform(0.5, 0.95)
    step = rng.uniform(0.12, 0.4) * (1 if value < 0.65 else -1)
    tones = [
        (hue, saturation, value),
        (hue + rng.normal(0, 0.04), saturation * rng.uniform(0.6, 1.4), value + step),
        (hue + rng.normal(0, 0.12), saturation, value + rng.normal(0, 0.12)),
    ]
    return _mixed(tones, rng.uniform(0.12, 0.3), light)


def thing_paint(rng: Rng, material: Material, light: float) -> np.ndarray:
    """The paint of a thing: two tones that may differ in hue, mostly vivid; see `room_paint`."""
    if material.photo:
        return _tinted(rng, light)
    vivid = rng.random() < 0.8
    hue, value = _hue(rng), rng.uniform(0.45, 1.0)
    saturation = rng.uniform(0.45, 0.95) if vivid else rng.uniform(0.0, 0.25)
    apart = _APART[rng.integers(len(_APART))]
    step = rng.uniform(0.2, 0.5) * (1 if value < 0.65 else -1)
    tones = [
        (hue, saturation, value),
        (hue + apart, saturation * rng.uniform(0.3, 1.0), value + step),
        (hue + rng.normal(0, 0.08), saturation, value + rng.normal(0, 0.15)),
    ]
    return _mixed(tones, rng.uniform(0.1, 0.25), light)


def _hue(rng: Rng) -> float:
    """A hue by chance: warm ones and blues are more frequent than greens and purples."""
    return float(np.interp(rng.random(), (0, 0.45, 0.57, 0.87, 1), (-0.03, 0.16, 0.45, 0.68, 0.97)))


def _mixed(tones: list[tuple[float, float, float]], grain: float, light: float) -> np.ndarray:
    """Pattern 0 goes from the first tone to the second, pattern 1 towards the third, pattern 2 is grain."""
    base, main, second = (
        np.array(colorsys.hsv_to_rgb(hue % 1, min(1, max(0, saturation)), min(1, max(0, value))))
        for hue, saturation, value in tones
    )
    paint = np.empty((3, 4))
    paint[:, 0], paint[:, 1], paint[:, 2] = main - base, 0.7 * (second - base), grain
    paint[:, 3] = 255 * (base - 0.5 * (paint[:, 1] + paint[:, 2]))
    return (light * paint).astype(np.float32)


def _tinted(rng: Rng, light: float) -> np.ndarray:
    gain = light * rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
    return np.column_stack([np.diag(gain), rng.uniform(-12, 12, 3)]).astype(np.float32)


@lru_cache(maxsize=24)
def _photo(file: Path) -> Material:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        hint = "Remove it from the folder, or replace it with an image that opens."
        raise DataError("cannot be read as an image", file=file, hint=hint)
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side, ::-1]
    how = cv2.INTER_AREA if side > TILE else cv2.INTER_CUBIC
    return Material(_levels(cv2.resize(square, (TILE, TILE), interpolation=how)), cv2.BORDER_REFLECT, photo=True)


@cache
def _procedural(number: int) -> Material:
    rng = np.random.default_rng((_BANK_SEED, number))
    main = PATTERNS[number % len(PATTERNS)](rng)
    channels = [main, noise(rng, rng.uniform(1.2, 2.2)), noise(rng, rng.uniform(0.5, 1.1))]
    return Material(_levels(np.uint8(np.clip(np.stack(channels, 2), 0, 1) * 255 + 0.5)), cv2.BORDER_WRAP, photo=False)


def _levels(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2RGBA)]
    while levels[-1].shape[0] > TILE // 16:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)
