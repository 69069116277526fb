"""Depth or disparity of every pixel of an image."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from densevision.errors import DataError, UsageError
from densevision.ops.view import warp_image
from densevision.results.base import Result

__all__ = ["PNG16", "Camera", "DepthMap", "Kind"]

log = logging.getLogger("densevision")

Kind = Literal["metric", "relative", "disparity"]
SURFACE_TOLERANCE = 0.05
"""Interpolated depth is used where it differs by less than this fraction from the nearest pixel's."""


@dataclass(frozen=True)
class Camera:
    """The calibration of the camera that took an image.

    Attributes:
        focal: Focal length in pixels of the image, the same along both axes.
        principal: Principal point, (x, y) in pixels; the center of the image by default.
        baseline: Distance in meters from this camera to the right one of a rectified pair.
        offset: Pixels by which the right camera's principal point lies further right: infinitely far points have the
            disparity `-offset` (Middlebury's `doffs`).
    """

    focal: float
    principal: tuple[float, float] | None = None
    baseline: float | None = None
    offset: float = 0.0

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Camera:
        """The camera of a canvas onto which an image of this size is warped by an affine map (2, 3)."""
        zoom = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
        x, y = matrix[:, :2] @ np.asarray(self.center(size)) + matrix[:, 2]
        offset = self.offset * zoom
        return replace(self, focal=self.focal * zoom, principal=(float(x), float(y)), offset=offset)

    def distance(self, disparity: np.ndarray) -> np.ndarray:
        """Meters for disparities in pixels, infinite where disparity and offset cancel; needs the baseline."""
        with np.errstate(divide="ignore"):
            return self.focal * self._require_baseline() / np.maximum(disparity + self.offset, 0)

    def disparity(self, distance: np.ndarray) -> np.ndarray:
        """Disparities in pixels for positive distances in meters; needs the baseline."""
        return self.focal * self._require_baseline() / distance - self.offset

    def _require_baseline(self) -> float:
        if self.baseline is None:
            raise UsageError("the baseline of the cameras is unknown", field="baseline", hint="Set Camera.baseline.")
        return self.baseline

    def center(self, size: tuple[int, int]) -> tuple[float, float]:
        """The principal point in an image of this size, (height, width)."""
        return self.principal or (size[1] / 2, size[0] / 2)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DepthMap(Result):
    """Depth along the optical axis, or disparity, of every pixel.

    Attributes:
        depth: (H, W) float32; finite, and 0 where it is unknown.
        kind: "metric": depth in `unit`. "relative": depth up to scale. "disparity": larger is nearer; in pixels of the
            image if `unit` is "px", otherwise up to scale and shift.
        unit: "m", "px", or empty if there is none.
        valid: (H, W) bool, where depth is known; everywhere by default.
        max: The largest number that the model can predict, if there is one.
        camera: The camera, if it is known.
    """

    depth: np.ndarray
    kind: Kind = "metric"
    unit: str = "m"
    valid: np.ndarray = None  # type: ignore[assignment]
    max: float | None = None
    camera: Camera | None = None

    save_methods: ClassVar[Mapping[str, str]] = {
        ".npy": "save_data",
        ".npz": "save_data",
        ".pfm": "save_data",
        ".ply": "save_points",
    }
    row_axes: ClassVar[Mapping[str, int]] = {"depth": 0, "valid": 0}

    def __post_init__(self) -> None:
        if self.valid is None:
            object.__setattr__(self, "valid", np.ones(self.size, bool))

    @classmethod
    def from_arrays(cls, depth: np.ndarray, valid: np.ndarray | None = None, **more: Any) -> DepthMap:
        """Builds a record; pixels that are not finite are not valid."""
        depth = np.asarray(depth, np.float32)
        known = np.isfinite(depth) if valid is None else np.isfinite(depth) & np.asarray(valid, bool)
        return cls(depth=np.where(known, depth, np.float32(0)), valid=known, size=depth.shape, **more)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> DepthMap:
        """Warps onto a canvas: distances stay, disparities in pixels scale with the image.

        Numbers are interpolated along surfaces. At borders of objects and of the valid area they are those of the
        nearest pixel, because a mean of two surfaces is neither.
        """
        nearest, smooth = (
            warp_image(self.depth, matrix, size, how, 0) for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR)
        )
        known = warp_image(self.valid.astype(np.float32), matrix, size, cv2.INTER_LINEAR, 0)
        valid = warp_image(self.valid.astype(np.uint8), matrix, size, cv2.INTER_NEAREST, 0).astype(bool)
        is_surface = (np.abs(smooth - nearest) < SURFACE_TOLERANCE * np.abs(nearest)) & (known > 1 - 1e-3)
        stretch = float(np.hypot(*matrix[:, 0])) if self.unit == "px" else 1.0
        depth = np.where(valid, np.where(is_surface, smooth, nearest) * np.float32(stretch), 0).astype(np.float32)
        limit = None if self.max is None else self.max * stretch
        camera = None if self.camera is None else self.camera.warp(matrix, self.size)
        return replace(self, depth=depth, valid=valid, max=limit, camera=camera, size=size, source=None)

    @property
    def is_calibrated(self) -> bool:
        """Whether focal length and baseline are known."""
        return self.camera is not None and self.camera.baseline is not None

    def metric(self, camera: Camera | None = None) -> DepthMap:
        """Converts disparity in pixels to meters: focal length * baseline / (disparity + offset).

        Args:
            camera: Focal length, baseline and offset; the record's own by default. Pixels without disparity are
                infinitely far, hence not valid.

        Raises:
            DataError: The calibration is missing, or the disparity has no unit.
        """
        if self.kind == "metric":
            return self
        camera = camera or self.camera
        if self.unit != "px" or camera is None or camera.baseline is None:
            problem = "metric depth needs disparity in pixels, and the focal length and baseline of the cameras"
            found = {"kind": self.kind, "unit": self.unit, "camera": camera}
            raise DataError(problem, value=found, hint="Set both, or use disparity.")
        valid = self.valid & (self.depth > -camera.offset)
        depth = np.where(valid, camera.distance(self.depth), np.float32(0))
        return replace(self, depth=depth, valid=valid, kind="metric", unit="m", max=None, camera=camera)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Back-projects the valid pixels into space.

        Returns:
            (N, 3) float32 x right, y down, z forward, in the depth's unit; and (N,) indices of the pixels in the
            flattened image.

        Raises:
            UsageError: The camera is unknown, or the numbers are not distances.
        """
        record = self.metric() if self.unit == "px" and self.camera and self.camera.baseline else self
        if record.camera is None or record.kind == "disparity":
            hint = "Predict metric or relative depth with focal_length, in pixels of the image."
            missing = "the focal length" if record.camera is None else "distances"
            raise UsageError(f"a point cloud needs {missing}", value=record.kind, hint=hint)
        x, y = record.camera.center(self.size)
        indices = np.flatnonzero(record.valid & (record.depth > 0))
        row, column = np.divmod(indices, self.size[1])
        z = record.depth.reshape(-1)[indices]
        focal = record.camera.focal
        points = np.stack([(column + 0.5 - x) / focal * z, (row + 0.5 - y) / focal * z, z], 1)
        return points.astype(np.float32), indices

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Colors from warm (near) to cold (far), with a color bar that states kind and unit."""
        from densevision.draw.fields import draw_depth

        return draw_depth(self.depth, self.valid, self.unit, self.kind)

    def overlay_for_comparison(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """In the ground truth's color range, if both have the same kind and a unit."""
        from densevision.draw.fields import compute_display_range, draw_depth

        if not (isinstance(truth, DepthMap) and self.unit and self.kind == truth.kind):
            return self.overlay(image)
        limits = compute_display_range(truth.depth, truth.valid)
        return draw_depth(self.depth, self.valid, self.unit, self.kind, limits if limits[1] > limits[0] else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; unknown pixels are null."""
        plain = replace(self, depth=np.where(self.valid, self.depth, np.nan), camera=None)
        camera = {} if self.camera is None else {"camera": vars(self.camera)}
        return {**Result.to_dict(plain), **camera}

    def _summarize(self) -> str:
        kind = self.kind if self.kind == "disparity" else f"{self.kind} depth"
        if not self.valid.any():
            return f"{kind}, no valid pixels"
        values = self.depth[self.valid]
        extent = f"{values.min():.4g} to {values.max():.4g} {self.unit}".rstrip()
        return f"{kind} {extent}, {self.valid.mean():.0%} valid"

    def save_data(self, path: Path) -> None:
        """Writes numbers and validity; see `io.depth.write_depth`."""
        from densevision.io.depth import write_depth

        extra: dict[str, Any] = {"kind": self.kind, "unit": self.unit} if path.suffix.lower() == ".npz" else {}
        write_depth(path, self.depth, self.valid, **extra)

    def save_points(self, path: Path) -> None:
        """Writes the point cloud with the image's colors as binary .ply."""
        from densevision.io.depth import write_points
        from densevision.io.image import load_image, to_display

        points, indices = self.points()
        colors = None
        if self.source is not None:
            colors = to_display(load_image(self.source)).reshape(-1, 3)[indices]
        write_points(path, points, colors)

    def save_png16(self, path: Path) -> None:
        """Writes 16-bit numbers: meters x 1000 (`.depth.png`) or KITTI's x 256 (`.kitti.png`); 0 is unknown.

        Numbers beyond 65534 steps (65.5 m and 256 m) are written as unknown, which a warning counts.
        """
        from densevision.io.depth import write_depth

        scale = PNG16[_get_ending(path)]
        count = write_depth(path, self.depth, self.valid, scale=scale)
        if count:
            limit = 65534 / scale
            message = "%s: %d of %d pixels are above %.2f %s, which 16 bits cannot hold, and written as unknown"
            log.warning(message, path, count, self.valid.sum(), limit, self.unit)

    def _get_writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        """`name.depth.png` and `name.kitti.png` contain numbers, other `.png` files a visualization."""
        return self.save_png16 if _get_ending(path) in PNG16 else super()._get_writer(suffix, path)


PNG16 = {".depth.png": 1000.0, ".kitti.png": 256.0}
"""Ending of 16-bit images of numbers -> steps per unit."""


def _get_ending(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower()
