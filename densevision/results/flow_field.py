"""Motion from one image to another, and what of the first the second does not show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.ops.view import warp_image
from densevision.results.base import Result

SMOOTH = 0.5
"""Interpolated motion is taken where it differs by less than this, in pixels, from that of the nearest pixel."""
HIDDEN = 0.5
"""Probability from which a pixel counts as occluded."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowField(Result):
    """The displacement of every pixel of the first image, in pixels of that image.

    Attributes:
        flow: (2, H, W) float32, right and down; finite, and 0 where it is not known.
        occlusion: (H, W) float32 probability, or bool, that what the pixel shows is hidden in the second image or has
            left it; None where nobody says.
        valid: (H, W) bool, where the flow is known; everywhere when not given.
    """

    flow: np.ndarray
    occlusion: np.ndarray | None = None
    valid: np.ndarray = field(default=None)  # type: ignore[assignment]

    layout: ClassVar[Mapping[str, str]] = {
        ".flo": "save_data",
        ".pfm": "save_data",
        ".npy": "save_data",
        ".flo5": "save_data",
    }
    rows: ClassVar[Mapping[str, int]] = {"flow": 1, "occlusion": 0, "valid": 0}

    def __post_init__(self) -> None:
        if self.valid is None:
            object.__setattr__(self, "valid", np.ones(self.size, bool))

    @classmethod
    def of(
        cls, flow: np.ndarray, valid: np.ndarray | None = None, occlusion: np.ndarray | None = None, source: Any = None
    ) -> FlowField:
        """Builds a record; what is not finite is not valid."""
        flow = np.asarray(flow, np.float32)
        known = np.isfinite(flow).all(0) if valid is None else np.isfinite(flow).all(0) & np.asarray(valid, bool)
        size = (flow.shape[1], flow.shape[2])
        return cls(flow=np.where(known, flow, 0), valid=known, occlusion=occlusion, size=size, source=source)

    @property
    def hidden(self) -> np.ndarray | None:
        """(H, W) bool: the pixels that count as occluded; None where nobody says."""
        return None if self.occlusion is None else np.asarray(self.occlusion >= HIDDEN)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> FlowField:
        """The motion between both images after the same map; what then moves off the canvas is occluded.

        Between pixels that move alike the motion is interpolated. At the borders of motion and of what is known it is
        that of the nearest pixel, because a mean of two motions would be the motion of nothing.
        """
        field = np.ascontiguousarray(self.flow.transpose(1, 2, 0))
        nearest, smooth = (warp_image(field, matrix, size, how, 0) for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR))
        known = warp_image(self.valid.astype(np.float32), matrix, size, cv2.INTER_LINEAR, 0)
        valid = warp_image(self.valid.astype(np.uint8), matrix, size, cv2.INTER_NEAREST, 0).astype(bool)
        alike = (np.abs(smooth - nearest).max(2) < SMOOTH) & (known > 1 - 1e-3)
        flow = np.where(alike[..., None], smooth, nearest) @ np.asarray(matrix, np.float32)[:, :2].T
        flow = np.ascontiguousarray(np.where(valid[..., None], flow, 0).transpose(2, 0, 1), np.float32)
        occlusion = None if self.occlusion is None else self._moved_occlusion(matrix, size, flow, valid)
        return replace(self, flow=flow, valid=valid, occlusion=occlusion, size=size, source=None)

    def _moved_occlusion(
        self, matrix: np.ndarray, size: tuple[int, int], flow: np.ndarray, valid: np.ndarray
    ) -> np.ndarray:
        occlusion = np.asarray(self.occlusion, np.float32)
        how = cv2.INTER_NEAREST if self.occlusion.dtype == bool else cv2.INTER_LINEAR
        moved = warp_image(occlusion, matrix, size, how, 0)
        moved = np.where(valid & leaves(flow), np.float32(1), moved)
        return moved.astype(self.occlusion.dtype)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """The colors of the Middlebury wheel, with its key; occluded pixels tinted and outlined."""
        from densevision.draw.fields import draw_flow, draw_occlusion

        drawn = draw_flow(self.flow, self.valid)
        return drawn if self.hidden is None else draw_occlusion(drawn, self.hidden)

    def beside(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """As bright as the truth's speeds, and without occlusion, which would hide the motion below it."""
        from densevision.draw.fields import draw_flow

        longest = float(np.hypot(*truth.flow).max(initial=0)) if isinstance(truth, FlowField) else 0.0
        return draw_flow(self.flow, self.valid, longest or None)

    def arrows(self, image: Any = None) -> np.ndarray:
        """The image with a grid of arrows on it: (H, W, 3) uint8 RGB.

        Args:
            image: What to draw on, as for `draw`.
        """
        from densevision.draw.fields import draw_arrows

        return draw_arrows(self._canvas(image), self.flow, self.valid)

    def compare(self, first: Any, second: Any) -> np.ndarray:
        """Both images, the second one fetched back by the flow, the flow, and what differs: a sheet, uint8 RGB.

        Where the flow is right, the fetched image is the first one, but for what is occluded.
        """
        from densevision.draw.contact_sheet import contact_sheet

        first, second = self._canvas(first), self._canvas(second)
        fetched = fetch(second, self.flow)
        images = [first, second, fetched, self.overlay(first), cv2.absdiff(first, fetched), self.arrows(first)]
        names = ["first", "second", "second, fetched back", "flow", "first - fetched", "flow as arrows"]
        return contact_sheet(images, names, 2)

    def save_data(self, path: Path) -> None:
        """Writes flow and validity; the suffix picks the form, see `io.flow.write_flow`."""
        from densevision.io.flow import write_flow

        write_flow(path, self.flow, self.valid)

    def _writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        """`name.kitti.png` holds numbers, as any other `.png` holds a drawing."""
        return self.save_data if path.name.lower().endswith(".kitti.png") else super()._writer(suffix, path)

    def _canvas(self, image: Any) -> np.ndarray:
        from densevision.io.image import as_image, to_display

        source = self.source if image is None else image
        return np.zeros((*self.size, 3), np.uint8) if source is None else to_display(as_image(source))


def leaves(flow: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels whose center a flow (2, H, W) carries off the image."""
    height, width = flow.shape[1:]
    x, y = flow[0] + np.arange(width) + 0.5, flow[1] + np.arange(height)[:, None] + 0.5
    return (x < 0) | (x >= width) | (y < 0) | (y >= height)


def fetch(second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The second image (H, W, C) as the first would see it, if the flow (2, H, W) were right everywhere."""
    height, width = flow.shape[1:]
    x, y = flow[0] + np.arange(width, dtype=np.float32), flow[1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
