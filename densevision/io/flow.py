"""Optical flow files: Middlebury .flo, KITTI's 16-bit .png, .pfm, .npy and Spring's .flo5, read and written.

Marks of unknown flow: in .flo magnitudes of 1e9 and more (Middlebury, Sintel) or NaN; in KITTI's and HD1K's .png a
third channel of 0; in all other formats numbers that are not finite.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.atomic_write import atomic_write, write_bytes
from densevision.io.decode import read_header
from densevision.io.image import read_image, write_image
from densevision.io.image_files import is_complete_file
from densevision.io.numpy_errors import NUMPY_ERRORS
from densevision.io.pfm import read_pfm, read_pfm_header, write_pfm
from densevision.io.placeholders import open_binary, read_content

MAGIC = 202021.25
"""First four bytes of a .flo file as a float; as text they are PIEH."""
UNKNOWN = 1e9
"""Numbers of at least this magnitude in a .flo file mark unknown flow."""
KITTI_ZERO, KITTI_STEPS = 2**15, 64
"""The number that stands for no motion, and steps per pixel, in KITTI's files."""

_MAX_SIDE = 1 << 16
_EXPORT_AGAIN = "Export the file again."

__all__ = ["KITTI_STEPS", "KITTI_ZERO", "SUFFIXES", "read_array", "read_flow", "read_flow_size", "write_flow"]

Flow = tuple[np.ndarray, np.ndarray]


def read_flow(path: str | os.PathLike[str]) -> Flow:
    """Reads flow and its validity; the suffix determines the format.

    Args:
        path: `.flo` (Middlebury, Sintel, FlyingChairs), `.png` (KITTI, HD1K: 16 bits, the third channel is the
            validity), `.pfm` (FlyingThings3D: two of three channels), `.npy` (TartanAir:
            (H, W, 2) or (2, H, W)), `.flo5` (Spring; needs h5py).

    Returns:
        (2, H, W) float32, right and down in pixels, 0 where it is unknown; and (H, W) bool, where it is known.

    Raises:
        DataError: The file is missing, has another format, or is shorter or longer than its header states.
        UsageError: The suffix is unknown, or h5py is missing.
    """
    path = Path(path)
    flow, known = _get_format(path, _READERS)(path)
    planes = np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)
    known = known & np.isfinite(planes).all(0)
    return np.where(known, planes, np.float32(0)), known


def read_flow_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads (height, width) of a flow file without its numbers.

    Args:
        path: As for `read_flow`.

    Raises:
        DataError: The file is missing, has another format, or is shorter or longer than its header states.
        UsageError: The suffix is unknown, or h5py is missing.
    """
    path = Path(path)
    return _get_format(path, _SIZES)(path)


def read_array(path: str | os.PathLike[str], mapped: bool = False) -> np.ndarray:
    """Reads an array in NumPy's format; memory-mapped if `mapped`.

    Raises:
        DataError: The file is missing, damaged, or does not contain one array of numbers.
    """
    _open(path).close()
    try:
        # A header may claim any size: mapping compares it with the file's before memory is taken.
        content = read_content(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False) if content is None else _map_array(content)
    except NUMPY_ERRORS:
        array = None
    if not isinstance(array, np.ndarray):
        raise DataError("not an array of numbers in NumPy's format, or truncated", file=path, hint=_EXPORT_AGAIN)
    return array if mapped else np.array(array)


def _map_array(content: bytes) -> np.ndarray:
    """A read-only array on the bytes of a file in NumPy's format.

    Raises:
        ValueError: It is none, or shorter or longer than its header states.
    """
    stream = io.BytesIO(content)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, is_fortran, dtype = read_header[np.lib.format.read_magic(stream)](stream)
    if dtype.hasobject or len(content) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array of another size than its header states")
    numbers = np.frombuffer(content, dtype, offset=stream.tell())
    return numbers.reshape(shape, order="F" if is_fortran else "C")


def write_flow(path: str | os.PathLike[str], flow: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Writes flow, the inverse of `read_flow`, whole or not at all.

    KITTI's format holds steps of 1/64 pixel from -512 to 512; larger motion is clipped, as KITTI's own tools do.

    Args:
        path: Its suffix selects the format.
        flow: (2, H, W) right and down, in pixels.
        valid: (H, W) bool, where it is known; everywhere by default.

    Raises:
        UsageError: The suffix is unknown, or h5py is missing.
    """
    path = Path(path)
    write = _get_format(path, _WRITERS)
    known = np.ones(flow.shape[1:], bool) if valid is None else valid
    write(path, np.asarray(flow, np.float32).transpose(1, 2, 0), known)


def _get_format(path: Path, table: dict[str, Callable]) -> Callable:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise UsageError("not a suffix of a flow format", file=path, hint=did_you_mean(suffix, table))
    return table[suffix]


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open_binary(path)
    except OSError as error:
        raise DataError(f"cannot be read: {os.strerror(error.errno or 0)}", file=path) from None


def _flo_shape(path: Path, stream: BinaryIO) -> tuple[int, int, int]:
    magic, size = stream.read(4), np.frombuffer(stream.read(8).ljust(8, b"\0"), "<i4")
    if magic != np.float32(MAGIC).tobytes():
        raise DataError("not a .flo file: wrong magic number", file=path, field="magic", value=magic)
    width, height = (int(side) for side in size)
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise DataError(
            "not an image size", file=path, field="width, height", value=(width, height), hint=_EXPORT_AGAIN
        )
    return _check_body(path, stream, (height, width, 2))


def _flo_size(path: Path) -> tuple[int, int]:
    with _open(path) as stream:
        return _flo_shape(path, stream)[:2]


def _read_flo(path: Path) -> Flow:
    with _open(path) as stream:
        shape = _flo_shape(path, stream)
        flow = np.frombuffer(stream.read(), "<f4").reshape(shape)
    return flow, (np.abs(flow) < UNKNOWN).all(2)


def _write_flo(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    height, width = known.shape
    body = np.where(known[..., None], flow, np.float32(10 * UNKNOWN)).astype("<f4")
    write_bytes(path, np.float32(MAGIC).tobytes() + np.array([width, height], "<i4").tobytes() + body.tobytes())


def _kitti_size(path: Path) -> tuple[int, int]:
    header = read_header(path)
    if not is_complete_file(path):
        read_image(path)
    with _open(path) as stream:
        bits, colors = stream.read(26)[24:]
    if header.file_format != "PNG" or (bits, colors) != (16, 2):
        raise _make_kitti_error(path, f"{header.mode} in {header.file_format}")
    return header.size


def _make_kitti_error(path: Path, found: str) -> DataError:
    hint = "KITTI stores flow in 16 bits; an 8-bit image is a visualization or a lossy copy."
    return DataError("flow needs a PNG of three channels of 16 bits", file=path, value=found, hint=hint)


def _read_kitti(path: Path) -> Flow:
    image = read_image(path)
    if image.dtype != np.uint16 or image.shape[2] != 3:
        raise _make_kitti_error(path, f"{image.shape[2]} channels of {image.dtype}")
    planes = (np.ascontiguousarray(image[..., axis]).astype(np.float32) for axis in (0, 1))
    flow = np.stack([(plane - np.float32(KITTI_ZERO)) / np.float32(KITTI_STEPS) for plane in planes])
    return flow.transpose(1, 2, 0), image[..., 2] > 0


def _write_kitti(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    steps = np.rint(flow.astype(np.float64) * KITTI_STEPS + KITTI_ZERO).clip(0, 2**16 - 1)
    numbers = np.where(known[..., None], steps, 0)
    write_image(path, np.dstack([numbers, known]).astype(np.uint16))


def _pfm_size(path: Path) -> tuple[int, int]:
    return read_pfm_header(path, 3)[:2]


def _read_pfm(path: Path) -> Flow:
    flow = read_pfm(path, 3)[..., :2]
    return flow, np.asarray(np.isfinite(flow).all(2))


def _write_pfm(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    write_pfm(path, np.dstack([np.where(known[..., None], flow, np.nan), np.zeros(known.shape)]))


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
    return flow, np.asarray(np.isfinite(flow).all(2))


def _write_npy(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    with atomic_write(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, np.where(known[..., None], flow, np.float32(np.nan)))


@contextmanager
def _flo5_field(path: Path) -> Iterator[Any]:
    """Opens the HDF5 dataset (H, W, 2)."""
    h5py = _import_h5py(path)
    try:
        with open_binary(path) as stream, h5py.File(stream, "r") as archive:
            flow = archive["flow"]
            if len(flow.shape) != 3 or flow.shape[2] != 2:
                raise DataError("flow needs numbers (H, W, 2)", file=path, field="flow", value=flow.shape)
            yield flow
    except (OSError, KeyError) as error:
        raise DataError(f"not a .flo5 file: {error}", file=path, hint=_EXPORT_AGAIN) from None


def _flo5_size(path: Path) -> tuple[int, int]:
    with _flo5_field(path) as field:
        return field.shape[:2]


def _read_flo5(path: Path) -> Flow:
    with _flo5_field(path) as field:
        flow = np.asarray(field, np.float32)
    return flow, np.asarray(np.isfinite(flow).all(2))


def _write_flo5(path: Path, flow: np.ndarray, known: np.ndarray) -> None:
    h5py = _import_h5py(path)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as archive:
        archive.create_dataset("flow", data=np.where(known[..., None], flow, np.nan), compression="gzip")


def _import_h5py(path: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise UsageError(
            "a .flo5 file is HDF5, which needs the package h5py", file=path, hint="pip install h5py"
        ) from None
    return h5py


def _check_body(path: Path, stream: BinaryIO, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns the shape if the rest of the file has exactly its number of bytes."""
    start = stream.tell()
    expected, found = math.prod(shape) * 4, stream.seek(0, os.SEEK_END) - start
    stream.seek(start)
    if found != expected:
        short_or_long = "short" if found < expected else "long"
        problem = f"the body is too {short_or_long}: {shape[1]} x {shape[0]} pixels take {expected} bytes"
        raise DataError(problem, file=path, field="body", value=found, hint=_EXPORT_AGAIN)
    return shape


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
"""Suffixes that may contain optical flow."""
