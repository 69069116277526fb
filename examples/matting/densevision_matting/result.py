"""The record of matting: prediction and ground truth alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from densevision.io.image import read_image, to_unit_float, write_image
from densevision.ops.view import warp_image
from densevision.results import Result

__all__ = ["Matte"]

BACKGROUND = np.array([0, 160, 80])
"""Color behind the foreground in drawings."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Matte(Result):
    """How much of every pixel belongs to the foreground.

    Attributes:
        alpha: (H, W) float32 in [0, 1]; NaN where it is unknown.
    """

    alpha: np.ndarray

    save_methods: ClassVar[Mapping[str, str]] = {".matte.png": "save_png"}
    row_axes: ClassVar[Mapping[str, int]] = {"alpha": 0}

    @classmethod
    def read(cls, path: Path) -> Matte:
        """Reads a gray image: black is background, white foreground."""
        alpha = to_unit_float(read_image(path))[..., 0]
        return cls(size=alpha.shape, alpha=alpha)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Matte:
        """Warps the matte; pixels outside the image are unknown."""
        return replace(self, size=size, alpha=warp_image(self.alpha, matrix, size, cv2.INTER_LINEAR, float("nan")))

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """The foreground before a colored background."""
        alpha = np.nan_to_num(self.alpha)[..., None]
        return np.rint(image * alpha + BACKGROUND * (1 - alpha)).astype(np.uint8)

    def save_png(self, path: Path) -> None:
        """Writes the matte as a 16-bit gray image."""
        write_image(path, np.rint(65535 * np.nan_to_num(self.alpha)).astype(np.uint16)[..., None])
