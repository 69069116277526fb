"""Depth and disparity in files: 16-bit .png, .pfm, .npy, .npz and float .tif, read and written; points as .ply."""

from __future__ import annotations

import os
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.atomic_write import whole, write_bytes
from densevision.io.image import image_size, read_image, write_image
from densevision.io.image_files import is_whole

SATURATED = 65535
"""Largest 16-bit number: depth sensors write it where they saw nothing."""

_AGAIN = "Fetch or write it again."
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_HEADER = re.compile(rb"(Pf|PF)\s+(\d+)\s+(\d+)\s+(" + _NUMBER + rb")\r?\n")
_HEADER_BYTES = 256
_DAMAGE = (ValueError, OSError, EOFError, RuntimeError, KeyError, SyntaxError)
_DAMAGE += (tokenize.TokenError, zipfile.BadZipFile, zlib.error)
_DISPARITY = {"disp", "disps", "disparity", "disparities"}


@dataclass(frozen=True)
class DepthFile:
    """What a file of depth or disparity holds.

    Attributes:
        depth: (H, W) float32; 0 where it is not known.
        valid: (H, W) bool.
        kind: What the numbers are, where the file says: "metric", "relative" or "disparity".
        unit: Their unit, where the file says.
    """

    depth: np.ndarray
    valid: np.ndarray
    kind: str | None = None
    unit: str | None = None


def read_depth(
    path: str | os.PathLike[str], scale: float | None = None, hint: bool = False, floats: bool = True
) -> DepthFile:
    """Reads depth or disparity; the suffix tells the format. Zero and infinity mean that it is not known.

    Args:
        path: `.png` (gray, 16 bits; 65535 is not known either), `.pfm` (one channel), `.npy`, `.npz` (ours, or a single
            array), `.tif` (gray, 16 bits or float).
        scale: Steps per unit by which the numbers are divided; a file of integers needs it. KITTI 256; NYU 1000 or
            5000; TUM 5000; 7-Scenes 1000.
        fix: Take negative numbers and NaN as not known, instead of refusing them.
        floats: Divide floats by the scale as well, not integers alone.

    Raises:
        DataError: The file is missing, damaged, in 8 bits, without a stated scale, or holds NaN or negative numbers.
        UsageError: The suffix is none of these.
    """
    path = Path(path)
    found = read_numbers(path)
    numbers = found.depth
    if numbers.dtype.kind in "ui" and scale is None:
        hint = "Set data.scale to its steps per unit: KITTI 256, millimeters 1000, TUM 5000."
        raise DataError("integers whose scale is not stated", file=path, field="data.scale", value=None, hint=hint)
    if numbers.dtype == np.uint16:  # what most files are: nothing in it can be negative or NaN
        valid = numbers - np.uint16(1) < SATURATED - 1  # 0 turns over, so that one comparison finds both
        depth = np.divide(numbers, np.float32(scale or 1), dtype=np.float32)
        return replace(found, depth=depth if numbers.max() < SATURATED else depth * valid, valid=valid & found.valid)
    lost = ~np.isfinite(numbers) | (numbers == 0) | ~found.valid
    wrong = (np.isnan(numbers) | (numbers < 0)) & found.valid
    if wrong.any() and not hint:
        row, column = np.argwhere(wrong)[0].tolist()
        way = "Write 0 where nothing is known; of a dataset, data.on_error=fix takes these pixels as not known."
        problem = f"{int(wrong.sum())} numbers are negative or NaN"
        field, value = f"pixel ({row}, {column})", float(numbers[row, column])
        raise DataError(problem, file=path, field=field, value=value, hint=way)
    valid = ~(lost | wrong)
    steps = scale if scale and (floats or numbers.dtype.kind in "ui") else 1
    depth = np.where(valid, numbers, 0).astype(np.float32) / np.float32(steps)
    return replace(found, depth=depth, valid=valid)


def read_numbers(path: str | os.PathLike[str]) -> DepthFile:
    """Reads the numbers of a file as they stand there: neither scaled nor judged; `valid` is what the file itself says.

    Raises:
        DataError: The file is missing, damaged, in 8 bits, or does not hold one number per pixel.
        UsageError: The suffix is none of `read_depth`'s.
    """
    path = Path(path)
    return _format(path, _READERS)(path)


def depth_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of a file of depth or disparity, without reading its numbers.

    Raises:
        DataError: The file is missing, its header or its length is wrong, or it does not hold one number per pixel.
        UsageError: The suffix is none of `read_depth`'s.
    """
    path = Path(path)
    return _format(path, _SIZES)(path)


def kind_by_name(path: str | os.PathLike[str]) -> Literal["metric", "disparity"]:
    """What a file of depth holds by its name and those of the folders that the path states.

    >>> kind_by_name("disp_0/left/000.npy"), kind_by_name("dispnet/000.npy")
    ('disparity', 'metric')
    """
    return "disparity" if _DISPARITY & set(re.findall("[a-z]+", os.fspath(path).lower())) else "metric"


def write_depth(
    path: str | os.PathLike[str],
    depth: np.ndarray,
    valid: np.ndarray | None = None,
    scale: float = 1.0,
    kind: str | None = None,
    unit: str | None = None,
) -> None:
    """Writes depth or disparity; the inverse of `read_depth`. The file is written whole or not at all.

    Args:
        path: Its suffix picks the format.
        depth: (H, W).
        valid: (H, W) bool, where it is known; everywhere when not given.
        scale: Steps per unit by which the numbers are multiplied. A 16-bit image rounds to whole steps, and to one
            step at least; what it cannot hold is written as the largest number that it can.
        kind: What the numbers are; `.npz` alone holds it.
        unit: Their unit; `.npz` alone holds it.

    Raises:
        UsageError: The suffix is none of `read_depth`'s, or cannot hold kind and unit.
    """
    path = Path(path)
    known = np.ones(depth.shape, bool) if valid is None else np.asarray(valid, bool)
    numbers = np.where(known, np.asarray(depth, np.float32) * np.float32(scale), np.float32(0))
    if (kind or unit) and path.suffix.lower() != ".npz":
        raise UsageError("only .npz holds what the numbers are", file=path, field="kind", value=kind)
    if path.suffix.lower() == ".npz":
        words = {name: word for name, word in (("kind", kind), ("unit", unit)) if word is not None}
        with whole(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, depth=numbers, valid=known, **words)
        return
    _format(path, _WRITERS)(path, numbers, known)


def write_points(path: str | os.PathLike[str], points: np.ndarray, colors: np.ndarray | None = None) -> None:
    """Writes a point cloud as binary PLY, whole or not at all.

    Args:
        path: The file.
        points: (N, 3) x, y, z.
        colors: (N, 3) uint8 RGB; without colors when not given.
    """
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    fields += [(name, "u1") for name in ("red", "green", "blue")] if colors is not None else []
    rows = np.empty(len(points), fields)
    for column, name in enumerate("xyz"):
        rows[name] = points[:, column]
    for column, (name, _) in enumerate(fields[3:]):
        rows[name] = colors[:, column]
    kinds = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {kinds[kind]} {name}\n" for name, kind in fields)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    write_bytes(path, header.encode("ascii") + rows.tobytes())


def _format(path: Path, table: dict[str, Callable]) -> Callable:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise UsageError("no format of depth has this suffix", file=path, hint=did_you_mean(suffix, table))
    return table[suffix]


def _plain(numbers: np.ndarray) -> DepthFile:
    return DepthFile(numbers, np.ones(numbers.shape[:2], bool))


def _read_image(path: Path) -> DepthFile:
    image = read_image(path)
    if image.dtype == np.uint8 or image.shape[2] != 1:
        found = f"{image.shape[2]} channels of {image.dtype}"
        hint = "An image of 8 bits is a drawing of depth, or was converted with loss: take the original file."
        raise DataError("depth needs one channel of 16 bits", file=path, value=found, hint=hint)
    return _plain(image[..., 0])


def _png_size(path: Path) -> tuple[int, int]:
    size = image_size(path)
    if not is_whole(path):
        read_image(path)
    return size


def _write_image(path: Path, numbers: np.ndarray, known: np.ndarray) -> None:
    steps = np.rint(numbers).clip(1, SATURATED - 1)
    write_image(path, np.where(known, steps, 0).astype(np.uint16))


def _write_tiff(path: Path, numbers: np.ndarray, known: np.ndarray) -> None:
    with whole(path) as temporary, open(temporary, "wb") as stream:
        tifffile.imwrite(stream, np.where(known, numbers, np.float32(0)), compression="zlib", metadata=None)


def _read_pfm(path: Path) -> DepthFile:
    data = _bytes(path)
    (height, width), order, start = _pfm_header(path, data, len(data))
    rows = np.frombuffer(data, order, offset=start).reshape(height, width)
    # Rows run from the bottom up.
    return _plain(rows[::-1].astype(np.float32))


def _pfm_header(path: Path, data: bytes, length: int) -> tuple[tuple[int, int], str, int]:
    """Size, type of the numbers and where they begin, of a file of so many bytes that begins with `data`."""
    header = _HEADER.match(data)
    if header is None or header[1] != b"Pf":
        raise DataError("not a .pfm file of one channel", file=path, field="header", value=data[:20], hint=_AGAIN)
    width, height, order = int(header[2]), int(header[3]), float(header[4])
    expected = 4 * width * height
    if length - header.end() != expected or not expected:
        problem = f"{width} x {height} pixels take {expected} bytes"
        raise DataError(problem, file=path, field="body", value=length - header.end(), hint=_AGAIN)
    return (height, width), "<f4" if order < 0 else ">f4", header.end()


def _pfm_size(path: Path) -> tuple[int, int]:
    data = _bytes(path, _HEADER_BYTES)
    return _pfm_header(path, data, path.stat().st_size)[0]


def _write_pfm(path: Path, numbers: np.ndarray, known: np.ndarray) -> None:
    height, width = numbers.shape
    rows = np.where(known, numbers, np.inf)[::-1].astype("<f4")
    write_bytes(path, f"Pf\n{width} {height}\n-1.0\n".encode() + rows.tobytes())


def _read_npy(path: Path) -> DepthFile:
    with _numpys(path):
        return _plain(_one_channel(np.load(path, allow_pickle=False), path))


def _npy_size(path: Path) -> tuple[int, int]:
    with _numpys(path):
        return _one_channel(np.load(path, mmap_mode="r", allow_pickle=False), path).shape


def _read_npz(path: Path) -> DepthFile:
    with _numpys(path), np.lib.npyio.NpzFile(path, allow_pickle=False) as archive:
        names = archive.files
        found = _plain(_one_channel(archive[_depth_in(archive, path)], path))
        valid = archive["valid"].astype(bool) if "valid" in names else found.valid
        kind, unit = (str(archive[word]) if word in names else None for word in ("kind", "unit"))
    if valid.shape != found.depth.shape:
        raise DataError("valid is not of the depth's size", file=path, field="valid", value=valid.shape)
    return DepthFile(found.depth, valid, kind, unit)


def _npz_size(path: Path) -> tuple[int, int]:
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with _numpys(path), np.lib.npyio.NpzFile(path, allow_pickle=False) as archive:
        with archive.zip.open(f"{_depth_in(archive, path)}.npy") as member:
            shape, _, kind = headers[np.lib.format.read_magic(member)](member)
        return _one_channel(np.broadcast_to(np.zeros((), kind), shape), path).shape


def _depth_in(archive: np.lib.npyio.NpzFile, path: Path) -> str:
    """The name of the depth in an archive."""
    names = archive.files
    if "depth" not in names and len(names) != 1:
        raise DataError("which array is the depth?", file=path, value=names, hint="Name it depth.")
    return "depth" if "depth" in names else names[0]


def _one_channel(array: Any, path: Path) -> np.ndarray:
    """(H, W) of an array that may have an axis of one channel, the last or the first."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError("depth needs an array of numbers", file=path, value=str(getattr(array, "dtype", "archive")))
    if array.ndim == 3 and 1 in (array.shape[2], array.shape[0]):
        array = array[..., 0] if array.shape[2] == 1 else array[0]
    if array.ndim != 2 or not array.size:
        raise DataError("depth has one number per pixel, (H, W)", file=path, value=array.shape)
    return array


def _write_npy(path: Path, numbers: np.ndarray, known: np.ndarray) -> None:
    with whole(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.where(known, numbers, np.float32(0)))


@contextmanager
def _numpys(path: Path) -> Iterator[None]:
    """What NumPy and its archives raise at a damaged file, when it is opened or read, as an error of the data."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except _DAMAGE:
        raise DataError("not an array of numbers in NumPy's format, or damaged", file=path, hint=_AGAIN) from None


def _bytes(path: Path, count: int = -1) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(count)
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None


_READERS: dict[str, Callable[[Path], DepthFile]] = {
    ".png": _read_image,
    ".pgm": _read_image,
    ".tif": _read_image,
    ".tiff": _read_image,
    ".pfm": _read_pfm,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
_SIZES: dict[str, Callable[[Path], tuple[int, int]]] = {
    ".png": _png_size,
    ".pgm": image_size,
    ".tif": image_size,
    ".tiff": image_size,
    ".pfm": _pfm_size,
    ".npy": _npy_size,
    ".npz": _npz_size,
}
_WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    ".png": _write_image,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".pfm": _write_pfm,
    ".npy": _write_npy,
}
SUFFIXES = tuple(_READERS)
"""Suffixes that may hold depth or disparity."""
