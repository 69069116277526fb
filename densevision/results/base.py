"""What every answer can do: be drawn, saved, read as arrays or as plain data, and follow its image through a warp."""

from __future__ import annotations

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.atomic_write import whole, write_text

R = TypeVar("R", bound="Result")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(ABC):
    """Truth or answer about one image, in the pixels of the original and in real units.

    Attributes:
        size: Size of the original image, (height, width).
        source: The image itself or the path from which it can be read again; what `draw` draws on.
    """

    size: tuple[int, int]
    source: Any = field(default=None, repr=False)

    layout: ClassVar[Mapping[str, str]] = {}
    """Suffix -> name of the method that writes it; the images are written by `draw` where not named here."""
    rows: ClassVar[Mapping[str, int]] = {}
    """Arrays that hold a value for each pixel -> the axis of their rows, which that of their columns follows."""

    @abstractmethod
    def warp(self: R, matrix: np.ndarray, size: tuple[int, int]) -> R:
        """The same truth as seen through an affine map onto a canvas.

        Args:
            matrix: (2, 3) map from this image to the canvas, in corner coordinates.
            size: Canvas (height, width).
        """

    @abstractmethod
    def overlay(self, image: np.ndarray) -> np.ndarray:
        """This answer drawn over its image: (H, W, 3) uint8 RGB in, the same out."""

    def beside(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """This answer drawn to be compared with its truth: in the truth's colors, and without mere guesses.

        Args:
            truth: The truth of the same image.
            image: (H, W, 3) uint8 RGB.
        """
        return self.overlay(image)

    def arrays(self) -> dict[str, np.ndarray]:
        """The record's arrays by name."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "source"}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def numpy(self) -> dict[str, np.ndarray]:
        """The arrays by name; the word other libraries use for `arrays`."""
        return self.arrays()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: numbers, strings and lists; a number that is not finite is null."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "source"}
        return {name: _plain(value) for name, value in values.items() if value is not None}

    def draw(self, image: Any = None) -> np.ndarray:
        """The image a person wants to see: (H, W, 3) uint8 RGB.

        Args:
            image: What to draw on, anything that `predict` takes; the source when not given, black when there is none.
        """
        from densevision.io.image import as_image, to_display

        source = self.source if image is None else image
        canvas = np.zeros((*self.size, 3), np.uint8) if source is None else to_display(as_image(source))
        if canvas.shape[:2] != tuple(self.size):
            problem = f"the image to draw on has another size than the answer, {self.size}"
            raise DataError(problem, value=canvas.shape[:2], hint="Give the image that was predicted.")
        return self.overlay(canvas)

    def frame(self) -> np.ndarray:
        """What a video of answers shows of this one: (H, W, 3) uint8 RGB."""
        return self.draw()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the answer; the suffix picks image or data. The file is written whole or not at all.

        Raises:
            UsageError: The suffix is none of this answer's.
        """
        path = Path(path)
        self.writer(path)(path)
        return path

    def writer(self, path: Path) -> Callable[[Path], None]:
        """What writes the answer under such a name; nothing is written yet.

        Raises:
            UsageError: The suffix is none of this answer's.
        """
        ends = [suffix for suffix in self.layout if path.name.lower().endswith(suffix)]
        return self._writer(max(ends, key=len, default=path.suffix.lower()), path)

    def _writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        if suffix in self.layout:
            return getattr(self, self.layout[suffix])
        if suffix in IMAGES:
            return self._save_drawing
        if suffix == ".json":
            return self._save_json
        if suffix == ".npz":
            return self._save_npz
        known = sorted({*self.layout, ".png", ".jpg", ".json", ".npz"})
        raise UsageError(
            f"{type(self).__name__} cannot be saved in this form", file=path, hint=did_you_mean(suffix, known)
        )

    def _save_drawing(self, path: Path) -> None:
        from densevision.io.image import write_image

        write_image(path, self.draw())

    def _save_json(self, path: Path) -> None:
        write_text(path, json.dumps(self.to_dict(), allow_nan=False))

    def _save_npz(self, path: Path) -> None:
        with whole(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, size=np.asarray(self.size), **self.arrays())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            return _plain(value.astype(object).tolist())
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
