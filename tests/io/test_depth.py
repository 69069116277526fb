"""Depth files: round trips, agreement with other tools, and errors."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.errors import DataError, UsageError
from densevision.io.depth import read_depth, read_depth_size, read_numbers, write_depth, write_points
from densevision.io.flow import read_flow


@pytest.fixture
def numbers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    valid = rng.random((5, 7)) < 0.8
    return np.where(valid, rng.uniform(0.5, 90, (5, 7)), 0).astype(np.float32), valid


@pytest.mark.parametrize("suffix", [".pfm", ".npy", ".npz"])
def test_floats__come_back_exactly(numbers: tuple[np.ndarray, np.ndarray], suffix: str, tmp_path: Path) -> None:
    depth, valid = numbers
    write_depth(tmp_path / f"a{suffix}", depth, valid)
    found = read_depth(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.depth, depth)
    np.testing.assert_array_equal(found.valid, valid)


def test_png__holds_steps_that_opencv_reads(numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    depth, valid = numbers
    write_depth(tmp_path / "a.png", depth, valid, scale=256)
    steps = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert steps.dtype == np.uint16
    np.testing.assert_array_equal(steps, np.where(valid, np.rint(depth * 256), 0))
    found = read_depth(tmp_path / "a.png", 256)
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_allclose(found.depth, depth, atol=0.5 / 256)


def test_pfm__opencv_reads_the_same(numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    depth, _ = numbers
    write_depth(tmp_path / "a.pfm", depth)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.pfm"), cv2.IMREAD_UNCHANGED), depth)


def test_npz__says_what_it_holds(tmp_path: Path) -> None:
    write_depth(tmp_path / "a.npz", np.ones((2, 3)), kind="disparity", unit="px")
    found = read_depth(tmp_path / "a.npz")
    assert (found.kind, found.unit) == ("disparity", "px")
    with pytest.raises(UsageError, match="npz"):
        write_depth(tmp_path / "a.npy", np.ones((2, 3)), kind="disparity")


def test_png__what_a_sensor_did_not_see_is_unknown(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 65535, 1000]], np.uint16))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.png", 1000).valid, [[False, False, True]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_marks_of_unknown__are_not_valid(value: float, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[value, 2.0]]))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy").valid, [[False, True]])


def test_8_bits__are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((2, 2), np.uint8))
    with pytest.raises(DataError, match="16 bits"):
        read_depth(tmp_path / "a.png", 256)


def test_scale__must_be_stated(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((2, 2), np.uint16))
    with pytest.raises(DataError, match=r"data\.scale.*KITTI 256"):
        read_depth(tmp_path / "a.png")


def test_negative__is_an_error_or_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0, -1.0]]))
    with pytest.raises(DataError, match=r"pixel \(0, 1\)"):
        read_depth(tmp_path / "a.npy")
    file = read_depth(tmp_path / "a.npy", ignore_negative=True)
    np.testing.assert_array_equal(file.valid, [[True, False]])
    assert file.negative == 1 and file.depth.tolist() == [[1, 0]]


@pytest.mark.parametrize("cut", [5, 20, 40])
def test_pfm__truncated(numbers: tuple[np.ndarray, np.ndarray], cut: int, tmp_path: Path) -> None:
    write_depth(tmp_path / "a.pfm", numbers[0])
    (tmp_path / "a.pfm").write_bytes((tmp_path / "a.pfm").read_bytes()[:cut])
    with pytest.raises(DataError):
        read_depth(tmp_path / "a.pfm")


@pytest.mark.parametrize("name", ["missing.npy", "missing.pfm", "missing.png"])
def test_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_depth(tmp_path / name, 1)


def test_shape__two_dimensions(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4)))
    with pytest.raises(DataError, match=r"\(H, W\)"):
        read_depth(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(1, 1, 7), (7, 1, 1), (1, 1, 1), (5, 7, 1), (1, 5, 7)])
def test_npy__one_channel_leaves_one_row_or_column_only(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(shape))
    wanted = shape[:2] if shape[2] == 1 else shape[1:]
    assert read_depth(tmp_path / "a.npy").depth.shape == read_depth_size(tmp_path / "a.npy") == wanted


def test_pfm__lines_that_end_as_windows_writes_them(numbers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    write_depth(tmp_path / "a.pfm", numbers[0])
    head, body = (tmp_path / "a.pfm").read_bytes().split(b"-1.0\n", 1)
    (tmp_path / "b.pfm").write_bytes(head.replace(b"\n", b"\r\n") + b"-1.0\r\n" + body)
    np.testing.assert_array_equal(read_depth(tmp_path / "b.pfm").depth, numbers[0])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pfm", ".tif"])
def test_damaged__is_an_error_of_the_data_in_our_own_words(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_depth(tmp_path / f"whole{suffix}", rng.uniform(1, 9, (6, 7)))
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    file = tmp_path / f"a{suffix}"
    for number in range(300):
        data = bytearray(whole)
        data[rng.integers(0, len(data))] = rng.integers(0, 256)
        file.write_bytes(data[: rng.integers(0, len(data))] if number % 3 == 0 else data)
        for read in (read_depth_size, lambda path: read_depth(path, ignore_negative=True)):
            try:
                read(file)
            except DataError as failure:
                assert "pickle" not in str(failure)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pfm", ".png"])
def test_size__is_reported_by_the_header(numbers: tuple[np.ndarray, np.ndarray], suffix: str, tmp_path: Path) -> None:
    write_depth(tmp_path / f"a{suffix}", numbers[0])
    assert read_depth_size(tmp_path / f"a{suffix}") == (5, 7)
    (tmp_path / f"a{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:20])
    with pytest.raises(DataError):
        read_depth_size(tmp_path / f"a{suffix}")


def test_points__are_laid_out_as_the_header_says(tmp_path: Path) -> None:
    points = np.array([[1.0, 2, 3], [-4, 5, 6]], np.float32)
    write_points(tmp_path / "a.ply", points, np.array([[255, 0, 1], [2, 3, 4]], np.uint8))
    head, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    assert b"element vertex 2\n" in head and head.count(b"property") == 6
    rows = np.frombuffer(body, [("p", "<f4", 3), ("c", "u1", 3)])
    np.testing.assert_array_equal(rows["p"], points)
    np.testing.assert_array_equal(rows["c"], [[255, 0, 1], [2, 3, 4]])


@pytest.mark.parametrize(("scale", "limit"), [(1000.0, 65.534), (256.0, 255.9921875)])
def test_png__numbers_beyond_16_bits_become_unknown(scale: float, limit: float, tmp_path: Path) -> None:
    depth = np.array([[limit, limit + 1 / scale, 1e6, 1.0]])
    assert write_depth(tmp_path / "a.png", depth, scale=scale) == 2
    file = read_depth(tmp_path / "a.png", scale)
    np.testing.assert_array_equal(file.valid, [[True, False, False, True]])
    np.testing.assert_allclose(file.depth, [[limit, 0, 0, 1]], rtol=1e-6)


def test_offset__and_scale_state_any_linear_encoding(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 1, 257, 513, 65535]], np.uint16))
    file = read_depth(tmp_path / "a.png", 256, 1.0)
    np.testing.assert_array_equal(file.depth, [[0, 0, 1, 2, 0]])
    np.testing.assert_array_equal(file.valid, [[False, False, True, True, False]])


def test_8_bits__with_permission_are_scaled(tmp_path: Path) -> None:
    steps = np.array([[0, 4, 255]], np.uint8)
    for name in ("a.png", "a.pgm", "a.tif"):
        cv2.imwrite(str(tmp_path / name), steps)
        file = read_depth(tmp_path / name, 4, allow_8bit=True)
        np.testing.assert_array_equal(file.depth, [[0, 1, 63.75]])
        np.testing.assert_array_equal(file.valid, [[False, True, True]])


@pytest.mark.parametrize("maximum", [15, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("is_plain", [False, True])
def test_pgm__numbers_are_raw_whatever_the_maximum(maximum: int, is_plain: bool, tmp_path: Path) -> None:
    numbers = np.arange(1, 13).reshape(3, 4)
    header = f"{'P2' if is_plain else 'P5'}\n# made by hand\n4 3\n{maximum}\n".encode()
    body = " ".join(map(str, numbers.ravel())).encode()
    if not is_plain:
        body = numbers.astype(">u2" if maximum > 255 else "u1").tobytes()
    (tmp_path / "a.pgm").write_bytes(header + body)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.pgm", 1, allow_8bit=True).depth, numbers)


def test_npz__header_of_another_size_takes_no_memory(tmp_path: Path) -> None:
    """NumPy would take the 40 TB that the header states."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**7, 10**6)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", stream.getvalue() + bytes(64))
    with pytest.raises(DataError) as refusal:
        read_numbers(tmp_path / "a.npz")
    assert refusal.value.file == tmp_path / "a.npz"


def test_npz__damaged_name_of_a_member_is_not_ignored(tmp_path: Path) -> None:
    """The mask of known pixels would be missing in silence, although NumPy refuses to read it."""
    path = tmp_path / "a.npz"
    np.savez(path, depth=np.ones((4, 5), np.float32), valid=np.zeros((4, 5), bool))
    data = path.read_bytes()
    last = data.rindex(b"valid.npy")  # in the directory at the end
    path.write_bytes(data[:last] + b"vaxid.npy" + data[last + 9 :])
    with np.load(path) as archive, pytest.raises(zipfile.BadZipFile):
        archive["vaxid"]
    with pytest.raises(DataError):
        read_depth(path)


@pytest.mark.parametrize("shape", ["('4', 5)", "(4.5, 5)", "{4: 5}"])
def test_npy__shape_that_is_no_shape(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(80))
    for read in (read_depth, read_flow):
        with pytest.raises(DataError):
            read(path)


def test_npz__member_that_is_no_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.ones((2, 3), np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("valid.npy", b"yes")
    with pytest.raises(DataError):
        read_numbers(tmp_path / "a.npz")


def test_pgm__odd_number_of_bytes_of_16_bits(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 65535\n" + bytes(7))
    with pytest.raises(DataError):
        read_numbers(tmp_path / "a.pgm", allow_8bit=True)
