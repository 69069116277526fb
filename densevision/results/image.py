"""An image as the answer: sharper, larger, cleaner, or of another kind than the one that was asked about."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.io.atomic_write import whole
from densevision.io.image import as_image, to_display, to_unit_float, write_image
from densevision.io.png import write_png
from densevision.ops.view import warp_image
from densevision.results.base import IMAGES, Result

KNOWN = 1 - 1e-3
"""Share of known pixels from which a warped pixel counts as known."""
GAP = 4
"""Pixels between before and after."""
STREAMED = 128 * 2**20
"""Bytes from which a PNG is written strip by strip."""
STRIP = 256
"""Rows of a strip."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Image(Result):
    """An image that answers an image; `size` is its own.

    Attributes:
        image: (H, W, C): uint8 from 0 to 255, uint16 from 0 to 65535, or float32 from 0 to 1, where NaN is a pixel of
            which nothing is known. Gray, RGB, either with alpha, or N channels.
        scale: Its pixels per pixel of the image that it answers, along each axis.
    """

    image: np.ndarray
    scale: int = 1

    layout: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(IMAGES, "_save_image"),
        **{f".drawn{suffix}": "_save_drawing" for suffix in IMAGES},
        ".npy": "_save_npy",
    }
    rows: ClassVar[Mapping[str, int]] = {"image": 0}

    @classmethod
    def of(cls, image: Any, scale: int = 1, source: Any = None) -> Image:
        """Builds a record from anything that holds an image: an array, a path, a Pillow image, a tensor."""
        image = as_image(image)
        return cls(image=image, scale=scale, size=image.shape[:2], source=source)

    def unit(self) -> np.ndarray:
        """(H, W, C) float32 from 0 to 1, NaN where nothing is known."""
        return self.image if self.image.dtype.kind == "f" else to_unit_float(self.image)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Image:
        """The same answer to the warped image: the map is of the image asked about, and `scale` stays.

        Pixels that come from beyond the edge are not known. The result is float32.
        """
        matrix = np.asarray(matrix, np.float64) * [1, 1, self.scale]
        target = size[0] * self.scale, size[1] * self.scale
        pixels = self.unit()
        known = np.isfinite(pixels).all(2)
        moved = warp_image(np.where(known[..., None], pixels, 0), matrix, target, cv2.INTER_LINEAR, 0)
        share = warp_image(known.astype(np.float32), matrix, target, cv2.INTER_LINEAR, 0)
        image = np.where(share[..., None] >= KNOWN, moved, np.float32(np.nan)).astype(np.float32)
        return replace(self, image=image, size=target, source=None)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """The answer itself, which covers what it answers: (H, W, 3) uint8 RGB."""
        return to_display(self.image)

    def frame(self) -> np.ndarray:
        """The answer itself: (H, W, 3) uint8 RGB."""
        return to_display(self.image)

    def draw(self, image: Any = None) -> np.ndarray:
        """Before and after, side by side; `save` writes it as `.drawn.png`; after alone where there is no before.

        Args:
            image: The image asked about, anything that `predict` takes; the source when not given. It is enlarged to
                the answer's size without smoothing, so that its own pixels show.
        """
        after = to_display(self.image)
        before = self.source if image is None else image
        if before is None:
            return after
        before = to_display(as_image(before))
        if before.shape != after.shape:
            before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        return np.concatenate([before, np.full((len(after), GAP, 3), 255, np.uint8), after], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `data` is a PNG in base64, for floats and for unusual channels a NumPy file."""
        height, width, channels = self.image.shape
        form, data = self._encoded()
        return {
            "size": [height, width],
            "scale": self.scale,
            "type": self.image.dtype.name,
            "channels": channels,
            "format": form,
            "data": base64.b64encode(data).decode("ascii"),
        }

    def _encoded(self) -> tuple[str, bytes]:
        if self.image.dtype.kind == "u" and self.image.shape[2] in (1, 3, 4):
            order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(self.image.shape[2], [0])
            return "png", cv2.imencode(".png", np.ascontiguousarray(self.image[..., order]))[1].tobytes()
        stream = io.BytesIO()
        np.save(stream, np.ascontiguousarray(self.image))
        return "npy", stream.getvalue()

    def _save_image(self, path: Path) -> None:
        """The answer alone, as it is; floats as 16 bits where the format holds them."""
        suffix = path.suffix.lower()
        if suffix == ".png" and self.image.nbytes > STREAMED:
            starts = range(0, len(self.image), STRIP)
            write_png(path, (_writable(self.image[start : start + STRIP], suffix) for start in starts), self.size)
        else:
            write_image(path, _writable(self.image, suffix))

    def _save_npy(self, path: Path) -> None:
        with whole(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, self.image)


def _writable(image: np.ndarray, suffix: str) -> np.ndarray:
    """The image in channels and a type that files of this suffix hold."""
    if image.shape[2] == 2:
        image = image[..., [0, 0, 0, 1]]
    if image.dtype.kind == "f":
        levels, kind = (65535, np.uint16) if suffix in (".png", ".tif", ".tiff") else (255, np.uint8)
        image = np.rint(np.nan_to_num(image).clip(0, 1) * levels).astype(kind)
    return image
