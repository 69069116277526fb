"""The base of all results: they can be drawn, saved, converted to arrays or plain data, and warped."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np

from densevision.errors import DataError, DenseVisionError, UsageError, did_you_mean
from densevision.io.atomic_write import atomic_write, write_text
from densevision.io.json_writer import to_json_value

__all__ = ["DRAWING_SUFFIXES", "Result"]

log = logging.getLogger("densevision")

R = TypeVar("R", bound="Result")
DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of image files, to which `save` writes the drawing unless the result has its own file of this suffix."""
MAX_NOTEBOOK_SIDE = 1024
"""Longest side in pixels of the drawing that notebooks show."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Result(ABC):
    """Prediction or ground truth for one image, in pixels of the original image and in real units.

    Attributes:
        size: Size of the original image, (height, width).
        source: The image, or the path to read it from; `draw` draws on it.
    """

    size: tuple[int, int]
    source: Any = field(default=None)

    save_methods: ClassVar[Mapping[str, str]] = {}
    """Suffix -> name of the method that writes this format, in addition to those that every result has."""
    row_axes: ClassVar[Mapping[str, int]] = {}
    """Per-pixel arrays -> their row axis, which the column axis follows."""

    @abstractmethod
    def warp(self: R, matrix: np.ndarray, size: tuple[int, int]) -> R:
        """Warps the result together with its image by an affine map onto a canvas.

        Args:
            matrix: (2, 3) map from this image to the canvas, in corner coordinates.
            size: (height, width) of the canvas.
        """

    @abstractmethod
    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Draws the result over its image: takes and returns (H, W, 3) uint8 RGB."""

    def overlay_for_comparison(self, ground_truth: Result, image: np.ndarray) -> np.ndarray:
        """Draws the prediction for display next to its ground truth: with the same colors, without low scores.

        Args:
            ground_truth: Ground truth of the same image.
            image: (H, W, 3) uint8 RGB.
        """
        return self.overlay(image)

    def numpy(self) -> dict[str, np.ndarray]:
        """The arrays of the result by name."""
        return {name: value for name, value in self._get_fields().items() if isinstance(value, np.ndarray)}

    def to_dict(self) -> dict[str, Any]:
        """Converts to plain data for JSON: numbers, strings and lists; a number that is not finite is null."""
        return {name: to_json_value(value) for name, value in self._get_fields().items() if value is not None}

    def draw(self, image: Any = None) -> np.ndarray:
        """Draws the result over its image.

        Args:
            image: The image, in any form that `predict` takes; by default the source, or black if there is none.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            DataError: The image cannot be read, or has another size than the result.
        """
        from densevision.io.image import load_image, to_display

        source = self.source if image is None else image
        if source is None:
            canvas = np.zeros((*self.size, 3), np.uint8)
        else:  # what was just read belongs to nobody else
            canvas = to_display(load_image(source), copy=not isinstance(source, (str, os.PathLike)))
        if canvas.shape[:2] != tuple(self.size):
            problem = f"the image to draw on has another size than the result, {self.size}"
            raise DataError(problem, value=canvas.shape[:2], hint="Pass the image of the prediction.")
        return self._overlay_in_place(canvas)

    def draw_frame(self) -> np.ndarray:
        """Draws the frame of a video of results: (H, W, 3) uint8 RGB."""
        return self.draw()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the result atomically; the suffix selects a drawing or a data format.

        Raises:
            UsageError: The suffix is not supported by this result.
        """
        path = Path(path)
        self.get_writer(path)(path)
        return path

    def get_writer(self, path: Path) -> Callable[[Path], None]:
        """The function that writes the result to such a path; nothing is written yet.

        Raises:
            UsageError: The suffix is not supported by this result.
        """
        suffixes = [suffix for suffix in self.save_methods if path.name.lower().endswith(suffix)]
        return self._get_writer(max(suffixes, key=len, default=path.suffix.lower()), path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._summarize()}, size={tuple(self.size)})"

    def _overlay_in_place(self, canvas: np.ndarray) -> np.ndarray:
        """As `overlay`, on an image that nobody else needs: it may be drawn on, which saves a copy of it."""
        return self.overlay(canvas)

    def _summarize(self) -> str:
        """The content in a few words, for `repr`."""
        return ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in self.numpy().items())

    def _repr_png_(self) -> bytes | None:
        """The drawing as PNG for notebooks, reduced to `MAX_NOTEBOOK_SIDE`; None if the source cannot be read."""
        try:
            drawing = self.draw()
        except DenseVisionError as error:
            log.warning("cannot show the result: %s", error)
            return None
        scale = MAX_NOTEBOOK_SIDE / max(drawing.shape[:2])
        if scale < 1:
            height, width = (max(1, round(side * scale)) for side in drawing.shape[:2])
            drawing = cv2.resize(drawing, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.imencode(".png", cv2.cvtColor(drawing, cv2.COLOR_RGB2BGR))[1].tobytes()

    def _get_fields(self) -> dict[str, Any]:
        """The fields of the record by name, without the source."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "source"}

    def _get_writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        if suffix in self.save_methods:
            return getattr(self, self.save_methods[suffix])
        if suffix in DRAWING_SUFFIXES:
            return self._save_drawing
        if suffix == ".json":
            return self._save_json
        if suffix == ".npz":
            return self._save_npz
        known = sorted({*self.save_methods, ".png", ".jpg", ".json", ".npz"})
        problem = f"{type(self).__name__} cannot be saved in this format"
        raise UsageError(problem, file=path, value=suffix, hint=did_you_mean(suffix, known))

    def _save_drawing(self, path: Path) -> None:
        from densevision.io.image import write_image

        write_image(path, self.draw())

    def _save_json(self, path: Path) -> None:
        write_text(path, json.dumps(self.to_dict(), allow_nan=False))

    def _save_npz(self, path: Path) -> None:
        arrays: dict[str, Any] = {"size": np.asarray(self.size), **self.numpy()}
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)
