"""Focal lengths and baselines from the files that datasets state them in."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from densevision.errors import DataError
from densevision.io.lines import read_lines
from densevision.results.depth_map import Camera

INTRINSICS = ("intrinsics.txt", "camera-intrinsics.txt", "intrinsic.txt")
SHAPES = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
"""Numbers in a file of intrinsics -> the matrix that they are."""
_CENTER = np.array([0.5, 0.5])


@lru_cache(maxsize=1024)
def kitti_camera(file: Path, number: str) -> Camera | None:
    """A camera of KITTI's calib.txt or calib_cam_to_cam.txt, with its distance to the camera at its right.

    Args:
        file: Lines of `name: numbers`; P_rect_02 or P2 is the projection of camera 2.
        number: "02" or "2", as the file's names have it.

    Returns:
        None where there is no such file.

    Raises:
        DataError: The file does not hold this projection.
    """
    if not file.exists():
        return None
    rows = dict(line.split(":", 1) for line in read_lines(file) if ":" in line)
    index = int(number)
    names = {which: (f"P_rect_{which:02d}", f"P{which}") for which in (index, index + 1)}
    own, other = (next((rows[name] for name in names[which] if name in rows), None) for which in names)
    if own is None:
        raise DataError("no projection of this camera", file=file, field=names[index][0], value=sorted(rows)[:8])
    projection = _matrix(own, file, names[index][0])
    baseline = None
    if other is not None and index % 2 == 0:
        beside = _matrix(other, file, names[index + 1][0])
        baseline = float((projection[0, 3] - beside[0, 3]) / projection[0, 0])
    return Camera(_focal(projection, file), _corner(projection), baseline)


@lru_cache(maxsize=1024)
def middlebury_camera(file: Path) -> Camera | None:
    """The left camera of Middlebury's calib.txt, whose baseline is in millimeters; None where there is none.

    Raises:
        DataError: The file does not hold this camera, or what it states of the pair is no number.
    """
    if not file.exists():
        return None
    rows = dict(line.split("=", 1) for line in read_lines(file) if "=" in line)
    numbers = [float(word) for word in re.findall(r"[-+0-9.eE]+", rows.get("cam0", ""))]
    if len(numbers) != 9:
        raise DataError("no intrinsics of the left camera", file=file, field="cam0", value=rows.get("cam0"))
    baseline, offset = (_number(rows[name], file, name) if name in rows else None for name in ("baseline", "doffs"))
    baseline = None if baseline is None else baseline / 1000
    matrix = np.array(numbers).reshape(3, 3)
    return Camera(_focal(matrix, file), _corner(matrix), baseline, offset or 0.0)


def intrinsics_near(image: Path, root: Path) -> Camera | None:
    """The camera of an `intrinsics.txt`, a matrix of 3x3, 3x4 or 4x4, beside the image or in a folder above it.

    It is looked for up to the folder that holds the root, so that a split finds what its dataset says.
    """
    for folder in image.parents:
        for name in INTRINSICS:
            found = _intrinsics(folder / name)
            if found is not None:
                return found
        if folder == root.parent:
            return None
    return None


@lru_cache(maxsize=1024)
def _intrinsics(file: Path) -> Camera | None:
    if not file.is_file():
        return None
    numbers = " ".join(read_lines(file)).replace(",", " ").split()
    try:
        matrix = np.array(numbers, float).reshape(SHAPES.get(len(numbers), (3, 3)))[:3, :3]
    except ValueError:
        raise DataError("not a matrix of 3 x 3 numbers", file=file, value=" ".join(numbers[:12])) from None
    return Camera(_focal(matrix, file), _corner(matrix))


def _corner(matrix: np.ndarray) -> tuple[float, float]:
    """The principal point; these files count from the first pixel's center, our coordinates from its corner."""
    x, y = matrix[:2, 2] + _CENTER
    return float(x), float(y)


def _focal(matrix: np.ndarray, file: Path) -> float:
    focal = float(matrix[0, 0])
    if not 0 < focal < np.inf:
        raise DataError(
            "no focal length", file=file, value=focal, hint="It is the first number of the matrix, in pixels."
        )
    return focal


def _number(text: str, file: Path, field: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise DataError("not a number", file=file, field=field, value=text.strip())
    return number


def _matrix(text: str, file: Path, field: str) -> np.ndarray:
    try:
        return np.array(text.split(), float).reshape(3, 4)
    except ValueError:
        raise DataError("not a matrix of 3 x 4 numbers", file=file, field=field, value=text.strip()) from None
