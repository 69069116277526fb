"""Optical flow from one image to another, with occlusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.ops.view import warp_image
from densevision.results.base import Result

__all__ = ["FlowField", "leaves_image", "warp_back"]

MOTION_TOLERANCE = 0.5
"""Interpolated flow is used where it differs by less than this many pixels from the nearest pixel's."""
OCCLUSION_THRESHOLD = 0.5
"""Probability from which a pixel counts as occluded."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class FlowField(Result):
    """The displacement of every pixel of the first image, in pixels of that image.

    Attributes:
        flow: (2, H, W) float32, right and down; finite, and 0 where it is unknown.
        occlusion: (H, W) float32 probability, or bool, that the pixel's point is occluded in the second image or
            outside it; None if it is unknown.
        valid: (H, W) bool, where the flow is known; everywhere by default.
    """

    flow: np.ndarray
    occlusion: np.ndarray | None = None
    valid: np.ndarray = None  # type: ignore[assignment]

    save_methods: ClassVar[Mapping[str, str]] = {
        ".flo": "save_data",
        ".pfm": "save_data",
        ".npy": "save_data",
        ".flo5": "save_data",
    }
    row_axes: ClassVar[Mapping[str, int]] = {"flow": 1, "occlusion": 0, "valid": 0}

    def __post_init__(self) -> None:
        if self.valid is None:
            object.__setattr__(self, "valid", np.ones(self.size, bool))

    @classmethod
    def from_arrays(
        cls, flow: np.ndarray, valid: np.ndarray | None = None, occlusion: np.ndarray | None = None, source: Any = None
    ) -> FlowField:
        """Builds a record; pixels that are not finite are not valid."""
        flow = np.asarray(flow, np.float32)
        known = np.isfinite(flow).all(0) if valid is None else np.isfinite(flow).all(0) & np.asarray(valid, bool)
        size = (flow.shape[1], flow.shape[2])
        return cls(flow=np.where(known, flow, 0), valid=known, occlusion=occlusion, size=size, source=source)

    @property
    def occluded(self) -> np.ndarray | None:
        """(H, W) bool: occluded pixels; None if occlusion is unknown."""
        return None if self.occlusion is None else np.asarray(self.occlusion >= OCCLUSION_THRESHOLD)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> FlowField:
        """The flow after both images were warped; pixels that then leave the canvas are occluded.

        Flow is interpolated where neighbors move alike. At motion boundaries and borders of the valid area it is that
        of the nearest pixel, because a mean of two motions is neither.
        """
        field = np.ascontiguousarray(self.flow.transpose(1, 2, 0))
        nearest, smooth = (warp_image(field, matrix, size, how, 0) for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR))
        known = warp_image(self.valid.astype(np.float32), matrix, size, cv2.INTER_LINEAR, 0)
        valid = warp_image(self.valid.astype(np.uint8), matrix, size, cv2.INTER_NEAREST, 0).astype(bool)
        is_smooth = (np.abs(smooth - nearest).max(2) < MOTION_TOLERANCE) & (known > 1 - 1e-3)
        flow = np.where(is_smooth[..., None], smooth, nearest) @ np.asarray(matrix, np.float32)[:, :2].T
        flow = np.ascontiguousarray(np.where(valid[..., None], flow, 0).transpose(2, 0, 1), np.float32)
        occlusion = None if self.occlusion is None else self._warp_occlusion(matrix, size, flow, valid)
        return replace(self, flow=flow, valid=valid, occlusion=occlusion, size=size, source=None)

    def _warp_occlusion(
        self, matrix: np.ndarray, size: tuple[int, int], flow: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        occlusion = np.asarray(self.occlusion)
        interpolation = cv2.INTER_NEAREST if occlusion.dtype == bool else cv2.INTER_LINEAR
        warped = warp_image(occlusion.astype(np.float32), matrix, size, interpolation, 0)
        return np.where(valid & leaves_image(flow), np.float32(1), warped).astype(occlusion.dtype)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Colors of the Middlebury wheel, with a legend; occluded pixels are tinted and outlined."""
        from densevision.draw.fields import draw_flow, draw_occlusion

        drawn = draw_flow(self.flow, self.valid)
        return drawn if self.occluded is None else draw_occlusion(drawn, self.occluded)

    def overlay_for_comparison(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """Scaled to the ground truth's speeds, and without occlusion, which would cover the flow."""
        from densevision.draw.fields import draw_flow

        max_speed = float(np.hypot(*truth.flow).max(initial=0)) if isinstance(truth, FlowField) else 0.0
        return draw_flow(self.flow, self.valid, max_speed or None)

    def arrows(self, image: Any = None) -> np.ndarray:
        """The image with a grid of arrows on it: (H, W, 3) uint8 RGB.

        Args:
            image: The background, as for `draw`.
        """
        from densevision.draw.fields import draw_arrows

        return draw_arrows(self._canvas(image), self.flow, self.valid)

    def compare(self, first: Any, second: Any) -> np.ndarray:
        """A sheet of both images, the second one warped back by the flow, the flow, and the difference: uint8 RGB.

        Where the flow is right and nothing is occluded, the warped image equals the first one.
        """
        from densevision.draw.contact_sheet import make_contact_sheet

        first, second = self._canvas(first), self._canvas(second)
        warped = warp_back(second, self.flow)
        images = [first, second, warped, self.overlay(first), cv2.absdiff(first, warped), self.arrows(first)]
        names = ["first", "second", "second, warped back", "flow", "first - warped", "flow as arrows"]
        return make_contact_sheet(images, names, 2)

    def _summarize(self) -> str:
        speed = np.hypot(*self.flow)[self.valid]
        if not speed.size:
            return "no valid pixels"
        parts = [f"mean {speed.mean():.4g} px, max {speed.max():.4g} px, {self.valid.mean():.0%} valid"]
        return ", ".join(parts + ([] if self.occluded is None else [f"{self.occluded.mean():.0%} occluded"]))

    def save_data(self, path: Path) -> None:
        """Writes flow and validity; see `io.flow.write_flow`."""
        from densevision.io.flow import write_flow

        write_flow(path, self.flow, self.valid)

    def _get_writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        """`name.kitti.png` contains numbers, other `.png` files a visualization."""
        return self.save_data if path.name.lower().endswith(".kitti.png") else super()._get_writer(suffix, path)

    def _canvas(self, image: Any) -> np.ndarray:
        from densevision.io.image import load_image, to_display

        source = self.source if image is None else image
        return np.zeros((*self.size, 3), np.uint8) if source is None else to_display(load_image(source))


def leaves_image(flow: np.ndarray) -> np.ndarray:
    """Finds the pixels whose center a flow (2, H, W) moves out of the image: (H, W) bool."""
    height, width = flow.shape[1:]
    x, y = flow[0] + np.arange(width) + 0.5, flow[1] + np.arange(height)[:, None] + 0.5
    return (x < 0) | (x >= width) | (y < 0) | (y >= height)


def warp_back(second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Warps the second image (H, W, C) to the first one by the flow (2, H, W)."""
    height, width = flow.shape[1:]
    x, y = flow[0] + np.arange(width, dtype=np.float32), flow[1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
