"""Optical flow in files: Middlebury .flo, KITTI's 16-bit .png, .pfm, .npy and Spring's .flo5, read and written."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.atomic_write import whole, write_bytes
from densevision.io.decode import read_header
from densevision.io.image import read_image, write_image
from densevision.io.image_files import is_whole

MAGIC = 202021.25
"""First four bytes of a .flo file as a float: they spell PIEH."""
UNKNOWN = 1e9
"""Numbers of this size and more in a .flo file mean that the motion is not known."""
KITTI_ZERO, KITTI_STEPS = 2**15, 64
"""The number that stands for no motion, and the steps of a pixel, in KITTI's files."""

_LONGEST_SIDE = 1 << 16
_AGAIN = "Fetch or write it again."
_DAMAGE = (ValueError, EOFError, OSError, OverflowError, SyntaxError, TokenError, BadZipFile)
"""What NumPy raises at files that are not in its format."""

Flow = tuple[np.ndarray, np.ndarray]


def read_flow(path: str | os.PathLike[str]) -> Flow:
    """Reads motion and where it is known; the suffix tells the format.

    Args:
        path: `.flo` (Middlebury, Sintel, FlyingChairs; from 1e9 it is unknown), `.png` (KITTI, HD1K: 16 bits, the third
            channel says whether it is known), `.pfm` (FlyingThings3D: two of three channels), `.npy` (TartanAir:
            (H, W, 2) or (2, H, W)), `.flo5` (Spring; needs h5py). In the last three what is not finite is unknown.

    Returns:
        (2, H, W) float32, right and down in pixels, 0 where unknown; and (H, W) bool, where it is known.

    Raises:
        DataError: The file is missing, of another format, or shorter or longer than it says.
        UsageError: The suffix is none of these, or h5py is missing.
    """
    path = Path(path)
    flow, known = _format(path, _READERS)(path)
    planes = np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)
    known = known & np.isfinite(planes).all(0)
    return np.where(known, planes, np.float32(0)), known


def flow_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of a file of motion, from what shows without reading its numbers: its header and its end.

    Args:
        path: As of `read_flow`.

    Raises:
        DataError: The file is missing, of another format, or shorter or longer than it says.
        UsageError: The suffix is none of `read_flow`'s, or h5py is missing.
    """
    path = Path(path)
    return _format(path, _SIZES)(path)


def read_array(path: str | os.PathLike[str], mapped: bool = False) -> np.ndarray:
    """Reads an array in NumPy's format; `mapped` leaves its numbers in the file until they are asked for.

    Raises:
        DataError: The file is missing, damaged, or holds something else than one array of numbers.
    """
    _opened(path).close()
    try:
        # A header may claim any size: mapping compares it with the file's before memory is taken.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE:
        array = None
    if not isinstance(array, np.ndarray):
        raise DataError("not an array of numbers in NumPy's format, or cut short", file=path, hint=_AGAIN)
    return array if mapped else np.array(array)


def write_flow(path: str | os.PathLike[str], flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes motion; the inverse of `read_flow`. The file is written whole or not at all.

    KITTI's format holds steps of 1/64 pixel from -512 to 512; what lies beyond is clipped, as KITTI's own tools do.

    Args:
        path: Its suffix picks the format.
        flow: (2, H, W) right and down, in pixels.
        valid: (H, W) bool, where it is known; everywhere when not given.

    Raises:
        UsageError: The suffix is none of `read_flow`'s, or h5py is missing.
    """
    path = Path(path)
    write = _format(path, _WRITERS)
    known = np.ones(flow.shape[1:], bool) if valid is None else valid
    write(path, np.asarray(flow, np.float32).transpose(1, 2, 0), known)


def _format(path: Path, table: dict[str, Callable]) -> Callable:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise UsageError("no format of optical flow has this suffix", file=path, hint=did_you_mean(suffix, table))
    return table[suffix]


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None


def _flo_shape(path: Path, stream: BinaryIO) -> tuple[int, int, int]:
    magic, size = stream.read(4), np.frombuffer(stream.read(8).ljust(8, b"\0"), "<i4")
    if magic != np.float32(MAGIC).tobytes():
        raise DataError("not a .flo file: it begins with another magic", file=path, field="magic", value=magic)
    width, height = (int(side) for side in size)
    if not (0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE):
        raise DataError("no size of an image", file=path, field="width, height", value=(width, height), hint=_AGAIN)
    return _checked_body(path, stream, (height, width, 2))


def _flo_size(path: Path) -> tuple[int, int]:
    with _opened(path) as stream:
        return _flo_shape(path, stream)[:2]


def _read_flo(path: Path) -> Flow:
    with _opened(path) as stream:
        shape = _flo_shape(path, stream)
        flow = np.frombuffer(stream.read(), "<f4").reshape(shape)
    return flow, (np.abs(flow) < UNKNOWN).all(2)


def _write_flo(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    height, width = known.shape
    body = np.where(known[..., None], flow, np.float32(10 * UNKNOWN)).astype("<f4")
    write_bytes(path, np.float32(MAGIC).tobytes() + np.array([width, height], "<i4").tobytes() + body.tobytes())


def _kitti_size(path: Path) -> tuple[int, int]:
    header = read_header(path)
    if not is_whole(path):
        read_image(path)
    with _opened(path) as stream:
        bits, colors = stream.read(26)[24:]
    if header.format != "PNG" or (bits, colors) != (16, 2):
        raise _not_kitti(path, f"{header.mode} in {header.format}")
    return header.size


def _not_kitti(path: Path, found: str) -> DataError:
    hint = "KITTI keeps flow in 16 bits; an image of 8 bits is a drawing of it, or was converted with loss."
    return DataError("flow needs a PNG of three channels of 16 bits", file=path, value=found, hint=hint)


def _read_kitti(path: Path) -> Flow:
    image = read_image(path)
    if image.dtype != np.uint16 or image.shape[2] != 3:
        raise _not_kitti(path, f"{image.shape[2]} channels of {image.dtype}")
    planes = (np.ascontiguousarray(image[..., axis]).astype(np.float32) for axis in (0, 1))
    flow = np.stack([(plane - np.float32(KITTI_ZERO)) / np.float32(KITTI_STEPS) for plane in planes])
    return flow.transpose(1, 2, 0), image[..., 2] > 0


def _write_kitti(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    steps = np.rint(flow.astype(np.float64) * KITTI_STEPS + KITTI_ZERO).clip(0, 2**16 - 1)
    numbers = np.where(known[..., None], steps, 0)
    write_image(path, np.dstack([numbers, known]).astype(np.uint16))


def _pfm_shape(path: Path, stream: BinaryIO) -> tuple[str, tuple[int, int, int]]:
    """Byte order and shape."""
    kind, sides, scale = (stream.readline(80).strip() for _ in range(3))
    size = re.fullmatch(rb"(\d+)\s+(\d+)", sides)
    if kind != b"PF" or size is None or _number(scale) in (None, 0.0):
        found = (kind, sides, scale)
        raise DataError("not a .pfm file of three channels", file=path, field="header", value=found)
    shape = _checked_body(path, stream, (int(size[2]), int(size[1]), 3))
    return "<f4" if _number(scale) < 0 else ">f4", shape


def _pfm_size(path: Path) -> tuple[int, int]:
    with _opened(path) as stream:
        return _pfm_shape(path, stream)[1][:2]


def _read_pfm(path: Path) -> Flow:
    with _opened(path) as stream:
        kind, shape = _pfm_shape(path, stream)
        flow = np.frombuffer(stream.read(), kind).reshape(shape)
    # Rows run from the bottom up.
    flow = flow[::-1, :, :2]
    return flow, np.isfinite(flow).all(2)


def _write_pfm(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    height, width = known.shape
    rows = np.dstack([np.where(known[..., None], flow, np.nan), np.zeros((height, width))])[::-1].astype("<f4")
    write_bytes(path, f"PF\n{width} {height}\n-1.0\n".encode() + rows.tobytes())


def _npy_field(path: Path, mapped: bool = False) -> np.ndarray:
    """(H, W, 2)."""
    array = read_array(path, mapped)
    if array.ndim == 3 and array.shape[0] == 2 and array.shape[2] != 2:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] != 2 or array.dtype.kind not in "fiu":
        raise DataError("flow needs numbers (H, W, 2) or (2, H, W)", file=path, value=(array.shape, str(array.dtype)))
    return array


def _npy_size(path: Path) -> tuple[int, int]:
    return _npy_field(path, mapped=True).shape[:2]


def _read_npy(path: Path) -> Flow:
    flow = _npy_field(path).astype(np.float32)
    return flow, np.isfinite(flow).all(2)


def _write_npy(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    with whole(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.where(known[..., None], flow, np.float32(np.nan)))


@contextmanager
def _flo5_field(path: Path) -> Iterator[Any]:
    """The dataset (H, W, 2) of an open file."""
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as archive:
            flow = archive["flow"]
            if len(flow.shape) != 3 or flow.shape[2] != 2:
                raise DataError("flow needs numbers (H, W, 2)", file=path, field="flow", value=flow.shape)
            yield flow
    except (OSError, KeyError) as failure:
        raise DataError(f"not a .flo5 file: {failure}", file=path, hint=_AGAIN) from None


def _flo5_size(path: Path) -> tuple[int, int]:
    with _flo5_field(path) as field:
        return field.shape[:2]


def _read_flo5(path: Path) -> Flow:
    with _flo5_field(path) as field:
        flow = np.asarray(field, np.float32)
    return flow, np.isfinite(flow).all(2)


def _write_flo5(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    h5py = _h5py(path)
    with whole(path) as temporary, h5py.File(temporary, "w") as archive:
        archive.create_dataset("flow", data=np.where(known[..., None], flow, np.nan), compression="gzip")


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise UsageError(
            "a .flo5 file is HDF5, which the package h5py reads", file=path, hint="pip install h5py"
        ) from None
    return h5py


def _checked_body(path: Path, stream: BinaryIO, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape, where the rest of the file has as many bytes as it takes, and not one more."""
    expected, found = math.prod(shape) * 4, os.fstat(stream.fileno()).st_size - stream.tell()
    if found != expected:
        problem = (
            f"{'short' if found < expected else 'long'} body: {shape[1]} x {shape[0]} pixels take {expected} bytes"
        )
        raise DataError(problem, file=path, field="body", value=found, hint=_AGAIN)
    return shape


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_READERS: dict[str, Callable[[Path], Flow]] = {
    ".flo": _read_flo,
    ".png": _read_kitti,
    ".pfm": _read_pfm,
    ".npy": _read_npy,
    ".flo5": _read_flo5,
}
_SIZES: dict[str, Callable[[Path], tuple[int, int]]] = {
    ".flo": _flo_size,
    ".png": _kitti_size,
    ".pfm": _pfm_size,
    ".npy": _npy_size,
    ".flo5": _flo5_size,
}
_WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    ".flo": _write_flo,
    ".png": _write_kitti,
    ".pfm": _write_pfm,
    ".npy": _write_npy,
    ".flo5": _write_flo5,
}
SUFFIXES = tuple(_READERS)
"""Suffixes that may hold optical flow."""
