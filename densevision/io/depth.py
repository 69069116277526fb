"""Depth and disparity files: 16-bit .png, .pfm, .npy, .npz and .tif, read and written; point clouds as .ply.

What programs write, and what it means here: 0 is unknown in all formats (KITTI, NYU, TUM); so is 65535 in 16-bit images
(7-Scenes and other sensors); so are NaN (not measured), +inf (too far) and -inf (too near) in floats (ROS REP 118, ZED,
Hypersim). Negative numbers are errors: DispNet and FlyingThings3D store disparity with the other sign.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import tifffile

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.atomic_write import atomic_write, write_bytes
from densevision.io.flow import read_array
from densevision.io.image import read_image, read_image_size, write_image
from densevision.io.image_files import is_complete_file
from densevision.io.numpy_errors import NUMPY_ERRORS
from densevision.io.pfm import read_pfm, read_pfm_header, write_pfm
from densevision.io.placeholders import open_binary
from densevision.io.pnm import is_pnm, read_pnm

__all__ = [
    "SATURATED",
    "SUFFIXES",
    "DepthFile",
    "has_signed_numbers",
    "infer_kind",
    "permits_8bit",
    "read_depth",
    "read_depth_size",
    "read_numbers",
    "write_depth",
    "write_points",
]

SATURATED = 65535
"""Largest 16-bit number, which depth sensors write where they measured nothing."""

_EXPORT_AGAIN = "Export the file again."
_DISPARITY_WORDS = {"disp", "disps", "disparity", "disparities"}
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class DepthFile:
    """The contents of a depth or disparity file.

    Attributes:
        depth: (H, W) float32; 0 where it is unknown.
        valid: (H, W) bool.
        kind: "metric", "relative" or "disparity", if the file states it.
        unit: The unit, if the file states it.
        negative: Number of pixels that were set to unknown because they are negative.
    """

    depth: np.ndarray
    valid: np.ndarray
    kind: str | None = None
    unit: str | None = None
    negative: int = 0


def read_depth(
    path: str | os.PathLike[str],
    scale: float | None = None,
    offset: float = 0.0,
    *,
    ignore_negative: bool = False,
    scale_floats: bool = True,
    allow_8bit: bool = False,
) -> DepthFile:
    """Reads depth or disparity; the suffix determines the format. 0, NaN and infinities are unknown.

    Args:
        path: `.png`, `.pgm` (gray, 16 bits; 65535 is unknown as well), `.pfm` (one channel), `.npy`, `.npz` (with the
            key "depth", or a single array), `.tif` (gray; 16 bits or float).
        scale: Steps per unit: value = (number - offset) / scale. Required for integers. KITTI 256; NYU 1000 or 5000;
            TUM 5000; 7-Scenes 1000.
        offset: Number that stands for 0. With an offset, a stored 0 is still unknown.
        ignore_negative: Set negative numbers to unknown instead of refusing them.
        scale_floats: Apply scale and offset to floats as well as to integers.
        allow_8bit: Accept 8-bit images (Middlebury 2001 to 2006), which are otherwise refused as visualizations.

    Raises:
        DataError: The file is missing, damaged, has 8 bits or no stated scale, or contains negative numbers.
        UsageError: The suffix is unknown.
    """
    path = Path(path)
    file = read_numbers(path, allow_8bit)
    numbers = file.depth
    is_integer = numbers.dtype.kind in "ui"
    if is_integer and scale is None:
        hint = "Set data.scale to its steps per unit: KITTI 256, millimeters 1000, TUM 5000."
        raise DataError("integers whose scale is not stated", file=path, field="data.scale", value=None, hint=hint)
    is_scaled = is_integer or scale_floats
    steps, zero = (scale or 1.0, offset) if is_scaled else (1.0, 0.0)
    if (
        numbers.dtype == np.uint16 and not zero
    ):  # the common case: one comparison finds 0, which wraps around, and 65535
        valid = numbers - np.uint16(1) < SATURATED - 1
        depth = np.divide(numbers, np.float32(steps), dtype=np.float32)
        return replace(file, depth=depth if numbers.max() < SATURATED else depth * valid, valid=valid & file.valid)
    known = np.isfinite(numbers) & (numbers != 0) & file.valid
    if numbers.dtype == np.uint16:
        known &= numbers != SATURATED
    values = (np.where(known, numbers, zero).astype(np.float32) - np.float32(zero)) / np.float32(steps)
    negative = known & (values < 0)
    if negative.any() and not ignore_negative:
        row, column = np.argwhere(negative)[0].tolist()
        hint = (
            "Write 0 where depth is unknown, and disparity as positive numbers; data.on_error=fix ignores such pixels."
        )
        field, value = f"pixel ({row}, {column})", float(numbers[row, column])
        raise DataError(f"{int(negative.sum())} negative numbers", file=path, field=field, value=value, hint=hint)
    valid = known & (values > 0)
    return replace(file, depth=np.where(valid, values, np.float32(0)), valid=valid, negative=int(negative.sum()))


def read_numbers(path: str | os.PathLike[str], allow_8bit: bool = False) -> DepthFile:
    """Reads the unscaled numbers of a file; `valid` is what the file itself states.

    Raises:
        DataError: The file is missing, damaged, has 8 bits, or does not contain one number per pixel.
        UsageError: The suffix is unknown.
    """
    path = Path(path)
    if path.suffix.lower() in (".png", ".tif", ".tiff", ".pgm"):
        return _read_image(path, allow_8bit)
    return _get_format(path, _READERS)(path)


def read_depth_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads (height, width) of a depth file without its numbers.

    Raises:
        DataError: The file is missing, its header or its length is wrong, or it does not contain one number per pixel.
        UsageError: The suffix is unknown.
    """
    path = Path(path)
    return _get_format(path, _SIZES)(path)


def infer_kind(path: str | os.PathLike[str]) -> Literal["metric", "disparity"]:
    """Infers what a depth file contains from its name and its folders' names.

    >>> infer_kind("disp_0/left/000.npy"), infer_kind("dispnet/000.npy")
    ('disparity', 'metric')
    """
    return "disparity" if _DISPARITY_WORDS & set(re.findall("[a-z]+", os.fspath(path).lower())) else "metric"


def permits_8bit(scale: float | None) -> bool:
    """Whether a scale that the user states makes 8-bit files plausible: they hold at least one unit."""
    return scale is not None and scale < 256


def has_signed_numbers(path: Path) -> bool:
    """Whether the format can hold negative numbers."""
    return path.suffix.lower() not in (".png", ".pgm")


def write_depth(
    path: str | os.PathLike[str],
    depth: np.ndarray,
    valid: np.ndarray | None = None,
    scale: float = 1.0,
    kind: str | None = None,
    unit: str | None = None,
) -> int:
    """Writes depth or disparity, the inverse of `read_depth`, whole or not at all.

    Args:
        path: Its suffix selects the format.
        depth: (H, W).
        valid: (H, W) bool, where it is known; everywhere by default.
        scale: Steps per unit. 16-bit images round to whole steps, at least one, and hold at most 65534 of them; larger
            numbers are written as unknown.
        kind: What the numbers are; only for `.npz`.
        unit: Their unit; only for `.npz`.

    Returns:
        Number of known pixels that the format cannot hold and that were written as unknown.

    Raises:
        UsageError: The suffix is unknown, or cannot hold kind and unit.
    """
    path = Path(path)
    known = np.ones(depth.shape, bool) if valid is None else np.asarray(valid, bool)
    numbers = np.where(known, np.asarray(depth, np.float32) * np.float32(scale), np.float32(0))
    suffix = path.suffix.lower()
    if (kind or unit) and suffix != ".npz":
        raise UsageError("only .npz can hold what the numbers are", file=path, field="kind", value=kind)
    if suffix == ".npz":
        words = {name: word for name, word in (("kind", kind), ("unit", unit)) if word is not None}
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, depth=numbers, valid=known, **words)  # type: ignore[arg-type]
        return 0
    return _get_format(path, _WRITERS)(path, numbers, known)


def write_points(path: str | os.PathLike[str], points: np.ndarray, colors: np.ndarray | None = None) -> None:
    """Writes a point cloud as binary PLY, whole or not at all.

    Args:
        path: The file.
        points: (N, 3) x, y, z.
        colors: (N, 3) uint8 RGB.
    """
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    fields += [(name, "u1") for name in ("red", "green", "blue")] if colors is not None else []
    rows = np.empty(len(points), fields)
    for column, name in enumerate("xyz"):
        rows[name] = points[:, column]
    if colors is not None:
        for column, (name, _) in enumerate(fields[3:]):
            rows[name] = colors[:, column]
    types = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {types[dtype]} {name}\n" for name, dtype in fields)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    write_bytes(path, header.encode("ascii") + rows.tobytes())


def _get_format(path: Path, table: dict[str, _F]) -> _F:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise UsageError("not a suffix of a depth format", file=path, hint=did_you_mean(suffix, table))
    return table[suffix]


def _all_valid(numbers: np.ndarray) -> DepthFile:
    return DepthFile(numbers, np.ones(numbers.shape[:2], bool))


def _read_image(path: Path, allow_8bit: bool = False) -> DepthFile:
    image = _read_pgm(path) if path.suffix.lower() == ".pgm" else read_image(path)
    if image.shape[2] != 1 or (image.dtype == np.uint8 and not allow_8bit):
        found = f"{image.shape[2]} channels of {image.dtype}"
        hint = (
            "An 8-bit image is usually a visualization of depth, or a lossy copy: use the original file. "
            "If it contains values, as Middlebury's disparities, set data.scale."
        )
        raise DataError("depth needs one channel of 16 bits", file=path, value=found, hint=hint)
    return _all_valid(image[..., 0])


def _read_pgm(path: Path) -> np.ndarray:
    """The numbers as they are stored, whatever the header's maximum; of another format under this suffix, its own."""
    read_image_size(path)
    return read_pnm(path, is_raw=True) if is_pnm(path) else read_image(path)


def _png_size(path: Path) -> tuple[int, int]:
    size = read_image_size(path)
    if not is_complete_file(path):
        read_image(path)
    return size


def _write_image(path: Path, numbers: np.ndarray, known: np.ndarray) -> int:
    steps = np.rint(numbers).clip(1, None)
    fits = known & (steps < SATURATED)
    write_image(path, np.where(fits, steps, 0).astype(np.uint16))
    return int(known.sum() - fits.sum())


def _write_tiff(path: Path, numbers: np.ndarray, known: np.ndarray) -> int:
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        tifffile.imwrite(stream, np.where(known, numbers, np.float32(0)), compression="zlib", metadata=None)
    return 0


def _read_pfm(path: Path) -> DepthFile:
    return _all_valid(read_pfm(path, 1)[..., 0])


def _pfm_size(path: Path) -> tuple[int, int]:
    return read_pfm_header(path, 1)[:2]


def _write_pfm(path: Path, numbers: np.ndarray, known: np.ndarray) -> int:
    write_pfm(path, np.where(known, numbers, np.float32(np.inf)))
    return 0


def _read_npy(path: Path) -> DepthFile:
    return _all_valid(_drop_channel_axis(read_array(path), path))


def _npy_size(path: Path) -> tuple[int, int]:
    return _drop_channel_axis(read_array(path, mapped=True), path).shape


def _read_npz(path: Path) -> DepthFile:
    with _open_npz(path) as archive:
        names = archive.files
        file = _all_valid(_drop_channel_axis(_read_member(archive, _find_depth_key(archive, path)), path))
        valid = _read_member(archive, "valid").astype(bool) if "valid" in names else file.valid
        kind, unit = (str(_read_member(archive, word)) if word in names else None for word in ("kind", "unit"))
    if valid.shape != file.depth.shape:
        raise DataError("valid and depth differ in size", file=path, field="valid", value=valid.shape)
    return DepthFile(file.depth, valid, kind, unit)


def _npz_size(path: Path) -> tuple[int, int]:
    with _open_npz(path) as archive:
        shape, dtype = _read_member_header(archive, _find_depth_key(archive, path))
        return _drop_channel_axis(np.broadcast_to(np.zeros((), dtype), shape), path).shape


@contextmanager
def _open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    with _numpy_errors(path), open_binary(path) as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
        members = cast(zipfile.ZipFile, archive.zip)
        for name in members.namelist():  # a damaged name would hide the array that it names
            members.open(name).close()
        yield archive


def _read_member(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Reads an array of an archive. NumPy takes the memory that the header states, so the header is checked before."""
    _read_member_header(archive, name)
    return archive[name]


def _read_member_header(archive: np.lib.npyio.NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array of an archive.

    Raises:
        ValueError: The member has another size, or objects.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    members = cast(zipfile.ZipFile, archive.zip)
    member_name = name if name in members.namelist() else f"{name}.npy"
    with members.open(member_name) as member:
        shape, _, dtype = headers[np.lib.format.read_magic(member)](member)
        stated = member.tell() + math.prod(shape) * dtype.itemsize
    if stated != members.getinfo(member_name).file_size or dtype.hasobject:
        raise ValueError("an array of another size than its header states")
    return shape, dtype


def _find_depth_key(archive: np.lib.npyio.NpzFile, path: Path) -> str:
    names = archive.files
    if "depth" not in names and len(names) != 1:
        raise DataError("several arrays, none named depth", file=path, value=names, hint="Name one of them depth.")
    return "depth" if "depth" in names else names[0]


def _drop_channel_axis(array: Any, path: Path) -> np.ndarray:
    """(H, W) of an array with an optional axis of one channel, the last or the first."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError("depth needs an array of numbers", file=path, value=str(getattr(array, "dtype", "archive")))
    if array.ndim == 3 and 1 in (array.shape[2], array.shape[0]):
        array = array[..., 0] if array.shape[2] == 1 else array[0]
    if array.ndim != 2 or not array.size:
        raise DataError("depth needs one number per pixel, (H, W)", file=path, value=array.shape)
    return array


def _write_npy(path: Path, numbers: np.ndarray, known: np.ndarray) -> int:
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.where(known, numbers, np.float32(0)))
    return 0


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    """Turns what NumPy raises for missing and damaged files into a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except NUMPY_ERRORS:
        problem = "not an array of numbers in NumPy's format, or damaged"
        raise DataError(problem, file=path, hint=_EXPORT_AGAIN) from None


_IMAGE_SUFFIXES = (".png", ".pgm", ".tif", ".tiff")
_READERS: dict[str, Callable[[Path], DepthFile]] = {
    **dict.fromkeys(_IMAGE_SUFFIXES, _read_image),
    ".pfm": _read_pfm,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
_SIZES: dict[str, Callable[[Path], tuple[int, int]]] = {
    ".png": _png_size,
    ".pgm": read_image_size,
    ".tif": read_image_size,
    ".tiff": read_image_size,
    ".pfm": _pfm_size,
    ".npy": _npy_size,
    ".npz": _npz_size,
}
_WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], int]] = {
    ".png": _write_image,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".pfm": _write_pfm,
    ".npy": _write_npy,
}
SUFFIXES = tuple(_READERS)
"""Suffixes that may contain depth or disparity."""
