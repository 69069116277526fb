"""Reads focal lengths and baselines from the calibration files of datasets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from densevision.errors import DataError
from densevision.io.file_cache import cache_by_file
from densevision.io.lines import parse_decimal, parse_decimals, read_lines
from densevision.results.depth_map import Camera

__all__ = ["find_intrinsics", "read_kitti_camera", "read_middlebury_camera"]

INTRINSICS_FILES = ("intrinsics.txt", "camera-intrinsics.txt", "intrinsic.txt")
MATRIX_SHAPES = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
"""Count of numbers in an intrinsics file -> shape of the matrix."""


@cache_by_file(maxsize=1024)
def read_kitti_camera(file: Path, number: str) -> Camera | None:
    """Reads a camera of KITTI's calib.txt or calib_cam_to_cam.txt, with the baseline to its right neighbor.

    Args:
        file: Lines of `name: numbers`; P_rect_02 or P2 is the projection of camera 2.
        number: "02" or "2", as in the file.

    Returns:
        The camera; None if there is no such file.

    Raises:
        DataError: The file does not contain this projection.
    """
    if not file.exists():
        return None
    rows = dict(line.split(":", 1) for line in read_lines(file) if ":" in line)
    index = int(number)
    names = {camera: (f"P_rect_{camera:02d}", f"P{camera}") for camera in (index, index + 1)}
    row, right_row = (next((rows[name] for name in names[camera] if name in rows), None) for camera in names)
    if row is None:
        raise DataError("no projection of this camera", file=file, field=names[index][0], value=sorted(rows)[:8])
    projection = _parse_projection(row, file, names[index][0])
    focal, baseline = _get_focal_length(projection, file), None
    if right_row is not None and index % 2 == 0:
        right = _parse_projection(right_row, file, names[index + 1][0])
        baseline = float(projection[0, 3] - right[0, 3]) / focal
    return Camera(focal, _get_principal_point(projection), baseline)


@cache_by_file(maxsize=1024)
def read_middlebury_camera(file: Path) -> Camera | None:
    """Reads the left camera of Middlebury's calib.txt, whose baseline is in millimeters; None if there is no file.

    Raises:
        DataError: The file does not contain this camera, or the baseline or offset is not a number.
    """
    if not file.exists():
        return None
    rows = dict(line.split("=", 1) for line in read_lines(file) if "=" in line)
    try:
        matrix = _parse_matrix(re.sub(r"[][;,]", " ", rows.get("cam0", "")).split(), (3, 3))
    except ValueError:
        problem = "no intrinsics of the left camera"
        raise DataError(problem, file=file, field="cam0", value=rows.get("cam0")) from None
    baseline, offset = (
        _parse_number(rows[name], file, name) if name in rows else None for name in ("baseline", "doffs")
    )
    baseline = None if baseline is None else baseline / 1000
    return Camera(_get_focal_length(matrix, file), _get_principal_point(matrix), baseline, offset or 0.0)


def find_intrinsics(image: Path, root: Path) -> Camera | None:
    """Reads an `intrinsics.txt`, a matrix of 3x3, 3x4 or 4x4, next to the image or in a folder above it.

    The search ends at the parent of the root, so that the root may be a split folder of a dataset.
    """
    for folder in image.parents:
        for name in INTRINSICS_FILES:
            camera = _read_intrinsics(folder / name)
            if camera is not None:
                return camera
        if folder == root.parent:
            return None
    return None


@cache_by_file(maxsize=1024)
def _read_intrinsics(file: Path) -> Camera | None:
    if not file.is_file():
        return None
    numbers = " ".join(read_lines(file)).replace(",", " ").split()
    try:
        matrix = _parse_matrix(numbers, MATRIX_SHAPES.get(len(numbers), (3, 3)))[:3, :3]
    except ValueError:
        raise DataError("is not a matrix of 3 x 3 numbers", file=file, value=" ".join(numbers[:12])) from None
    return Camera(_get_focal_length(matrix, file), _get_principal_point(matrix))


def _get_principal_point(matrix: np.ndarray) -> tuple[float, float]:
    """Returns the principal point relative to the corner of the first pixel; the files count from its center."""
    x, y = matrix[:2, 2] + 0.5
    return float(x), float(y)


def _get_focal_length(matrix: np.ndarray, file: Path) -> float:
    focal = float(matrix[0, 0])
    if not 0 < focal < np.inf:
        hint = "It is the first number of the matrix, in pixels."
        raise DataError("is not a focal length", file=file, value=focal, hint=hint)
    return focal


def _parse_number(text: str, file: Path, field: str) -> float:
    try:
        number = parse_decimal(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError("is not a number", file=file, field=field, value=text.strip())
    return number


def _parse_projection(text: str, file: Path, field: str) -> np.ndarray:
    try:
        return _parse_matrix(text.split(), (3, 4))
    except ValueError:
        raise DataError("is not a matrix of 3 x 4 numbers", file=file, field=field, value=text.strip()) from None


def _parse_matrix(words: list[str], shape: tuple[int, int]) -> np.ndarray:
    matrix = np.array(parse_decimals(words)).reshape(shape)
    if not np.isfinite(matrix).all():
        raise ValueError("numbers are not finite")
    return matrix
