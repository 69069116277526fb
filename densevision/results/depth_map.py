"""How far away everything in an image is, or the reciprocal of that, with the word that says which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from densevision.errors import DataError, UsageError
from densevision.ops.view import warp_image
from densevision.results.base import Result

Kind = Literal["metric", "relative", "disparity"]
SMOOTH = 0.05
"""Interpolated depth is taken where it differs by less than this part from that of the nearest pixel."""


@dataclass(frozen=True)
class Camera:
    """What is known of the camera that took an image.

    Attributes:
        focal: Focal length in pixels of the image, the same along both axes.
        principal: Where the optical axis meets the image, (x, y) in pixels; its middle when not given.
        baseline: Distance in meters from this camera to the right one of a rectified pair.
        offset: Pixels by which the right camera's principal point lies further right: what is infinitely far has the
            disparity `-offset` (Middlebury's `doffs`).
    """

    focal: float
    principal: tuple[float, float] | None = None
    baseline: float | None = None
    offset: float = 0.0

    def seen_through(self, matrix: np.ndarray, size: tuple[int, int]) -> Camera:
        """The camera of a canvas onto which an image of this size is brought by an affine map (2, 3)."""
        zoom = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
        x, y = matrix[:, :2] @ np.asarray(self.center(size)) + matrix[:, 2]
        offset = self.offset * zoom
        return replace(self, focal=self.focal * zoom, principal=(float(x), float(y)), offset=offset)

    def distance(self, disparity: np.ndarray) -> np.ndarray:
        """Meters at disparities in pixels, for a camera whose baseline is known; infinite where none is left."""
        with np.errstate(divide="ignore"):
            return self.focal * self.baseline / np.maximum(disparity + self.offset, 0)

    def disparity(self, distance: np.ndarray) -> np.ndarray:
        """Pixels of disparity at positive distances in meters, for a camera whose baseline is known."""
        return self.focal * self.baseline / distance - self.offset

    def center(self, size: tuple[int, int]) -> tuple[float, float]:
        """The principal point in an image of this size, (height, width)."""
        return self.principal or (size[1] / 2, size[0] / 2)


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthMap(Result):
    """A number for every pixel that grows or falls with its distance along the optical axis.

    Attributes:
        depth: (H, W) float32; finite, and 0 where it is not known.
        kind: "metric": distance in `unit`. "relative": distance up to an unknown factor. "disparity": the larger the
            nearer; in pixels of the image where `unit` is "px", otherwise up to an unknown factor and offset.
        unit: "m", "px", or empty where there is none.
        valid: (H, W) bool, where it is known; everywhere when not given.
        max: The largest number that whoever answers can give, where there is one.
        camera: The camera, where it is known.
    """

    depth: np.ndarray
    kind: Kind = "metric"
    unit: str = "m"
    valid: np.ndarray = field(default=None)  # type: ignore[assignment]
    max: float | None = None
    camera: Camera | None = None

    layout: ClassVar[Mapping[str, str]] = {
        ".npy": "save_data",
        ".npz": "save_data",
        ".pfm": "save_data",
        ".ply": "save_points",
    }
    rows: ClassVar[Mapping[str, int]] = {"depth": 0, "valid": 0}

    def __post_init__(self) -> None:
        if self.valid is None:
            object.__setattr__(self, "valid", np.ones(self.size, bool))

    @classmethod
    def of(cls, depth: np.ndarray, valid: np.ndarray | None = None, **more: Any) -> DepthMap:
        """Builds a record; what is not finite is not valid."""
        depth = np.asarray(depth, np.float32)
        known = np.isfinite(depth) if valid is None else np.isfinite(depth) & np.asarray(valid, bool)
        return cls(depth=np.where(known, depth, np.float32(0)), valid=known, size=depth.shape, **more)

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> DepthMap:
        """The same scene on a canvas: distances stay, disparities in pixels scale with the image.

        Along a surface the numbers are interpolated. At the borders of objects and of what is known they are those of
        the nearest pixel, because between two surfaces there is nothing.
        """
        nearest, smooth = (
            warp_image(self.depth, matrix, size, how, 0) for how in (cv2.INTER_NEAREST, cv2.INTER_LINEAR)
        )
        known = warp_image(self.valid.astype(np.float32), matrix, size, cv2.INTER_LINEAR, 0)
        valid = warp_image(self.valid.astype(np.uint8), matrix, size, cv2.INTER_NEAREST, 0).astype(bool)
        alike = (np.abs(smooth - nearest) < SMOOTH * np.abs(nearest)) & (known > 1 - 1e-3)
        stretch = float(np.hypot(*matrix[:, 0])) if self.unit == "px" else 1.0
        depth = np.where(valid, np.where(alike, smooth, nearest) * np.float32(stretch), 0).astype(np.float32)
        limit = None if self.max is None else self.max * stretch
        camera = None if self.camera is None else self.camera.seen_through(matrix, self.size)
        return replace(self, depth=depth, valid=valid, max=limit, camera=camera, size=size, source=None)

    def metric(self, camera: Camera | None = None) -> DepthMap:
        """Disparity in pixels as distance in meters: focal length times baseline over disparity and offset.

        Args:
            camera: Focal length, baseline and offset; the record's own when not given. Pixels without disparity are
                infinitely far, hence not valid.

        Raises:
            DataError: The calibration is missing, or the numbers have no unit.
        """
        if self.kind == "metric":
            return self
        camera = camera or self.camera
        if self.unit != "px" or camera is None or camera.baseline is None:
            problem = "metric depth needs disparity in pixels, and the focal length and baseline of its cameras"
            found = {"kind": self.kind, "unit": self.unit, "camera": camera}
            raise DataError(problem, value=found, hint="Give both, or ask for disparity.")
        seen = self.valid & (self.depth > -camera.offset)
        depth = np.where(seen, camera.distance(self.depth), np.float32(0))
        return replace(self, depth=depth, valid=seen, kind="metric", unit="m", max=None, camera=camera)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The valid pixels in space.

        Returns:
            (N, 3) float32 x right, y down, z ahead, in the depth's unit; and (N,) the pixels' places in the flattened
            image.

        Raises:
            UsageError: The camera is not known, or the numbers are no distances.
        """
        record = self.metric() if self.unit == "px" and self.camera and self.camera.baseline else self
        if record.camera is None or record.kind == "disparity":
            hint = "Predict metric or relative depth with the option focal, in pixels of the image."
            missing = "the focal length" if record.camera is None else "distances"
            raise UsageError(f"points in space need {missing}", value=record.kind, hint=hint)
        x, y = record.camera.center(self.size)
        places = np.flatnonzero(record.valid & (record.depth > 0))
        row, column = np.divmod(places, self.size[1])
        z = record.depth.reshape(-1)[places]
        across, down = ((side + 0.5 - middle) / record.camera.focal for side, middle in ((column, x), (row, y)))
        return np.stack([across * z, down * z, z], 1).astype(np.float32), places

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Colors from warm (near) to cold (far), with a bar that names the kind and the unit."""
        from densevision.draw.fields import draw_depth

        return draw_depth(self.depth, self.valid, self.unit, self.kind)

    def beside(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """In the truth's range of colors, where both are of one kind and have a unit."""
        from densevision.draw.fields import draw_depth, range_of

        if not (isinstance(truth, DepthMap) and self.unit and self.kind == truth.kind):
            return self.overlay(image)
        limits = range_of(truth.depth, truth.valid)
        return draw_depth(self.depth, self.valid, self.unit, self.kind, limits if limits[1] > limits[0] else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; pixels that are not known are null."""
        plain = replace(self, depth=np.where(self.valid, self.depth, np.nan), camera=None)
        camera = {} if self.camera is None else {"camera": vars(self.camera)}
        return {**Result.to_dict(plain), **camera}

    def save_data(self, path: Path) -> None:
        """Writes the numbers with what is valid; see `io.depth.write_depth`."""
        from densevision.io.depth import write_depth

        extra = {"kind": self.kind, "unit": self.unit} if path.suffix.lower() == ".npz" else {}
        write_depth(path, self.depth, self.valid, **extra)

    def save_points(self, path: Path) -> None:
        """Writes the points in space with the image's colors, as a binary .ply."""
        from densevision.io.depth import write_points
        from densevision.io.image import as_image, to_display

        points, places = self.points()
        colors = None
        if self.source is not None:
            colors = to_display(as_image(self.source)).reshape(-1, 3)[places]
        write_points(path, points, colors)

    def save_png16(self, path: Path) -> None:
        """Writes 16-bit numbers: meters x 1000 (`.depth.png`) or KITTI's x 256 (`.kitti.png`); 0 is not known."""
        from densevision.io.depth import write_depth

        write_depth(path, self.depth, self.valid, scale=PNG16[_form(path)])

    def _writer(self, suffix: str, path: Path) -> Callable[[Path], None]:
        """`name.depth.png` and `name.kitti.png` hold numbers, as any other `.png` holds a drawing."""
        return self.save_png16 if _form(path) in PNG16 else super()._writer(suffix, path)


PNG16 = {".depth.png": 1000.0, ".kitti.png": 256.0}
"""Endings of 16-bit images of numbers -> steps per unit."""


def _form(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower()
