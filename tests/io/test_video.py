"""Videos: round trips within the loss of the codec, rotation by the matrix of MP4, and truncated streams."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.video import VideoWriter, is_video, read_video


def frame(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Red rises and blue falls with time; the top left quarter is green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = number * 8 % 256
    image[..., 2] = 255 - number * 8 % 256
    image[: height // 2, : width // 2, 1] = 200
    return image


def write_video(path: Path, frames: int = 30, fps: float = 25.0) -> Path:
    with VideoWriter(path, fps) as video:
        for number in range(frames):
            video.write(frame(number))
    return path


def parse_boxes(data: bytes) -> dict[bytes, bytes]:
    """The top-level boxes of an MP4. Source: ISO/IEC 14496-12, 4.2."""
    parts, start = {}, 0
    while start < len(data):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        parts[kind] = data[start : start + size]
        start += size
    return parts


def move_index_to_front(data: bytes) -> bytes:
    """Moves the index of an MP4 to its front, as streaming servers do: a truncated file has a readable beginning."""
    parts = parse_boxes(data)
    index = bytearray(parts.pop(b"moov"))
    table = index.find(b"stco") + 8
    for entry in range(struct.unpack(">I", index[table : table + 4])[0]):
        at = table + 4 + 4 * entry
        index[at : at + 4] = struct.pack(">I", struct.unpack(">I", index[at : at + 4])[0] + len(index))
    return parts.pop(b"ftyp") + bytes(index) + b"".join(parts.values())


def test_read_video__frames_round_trip(tmp_path: Path) -> None:
    video = read_video(write_video(tmp_path / "a.mp4"))
    assert (video.size, video.fps, video.count, video.position) == ((48, 64), 25.0, 30, 0)
    frames = list(video)
    assert video.position == 30 and video.missing == 0
    for number, image in enumerate(frames):
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        inner = (slice(2, 20), slice(2, 28))
        assert np.abs(image[inner].astype(int) - frame(number)[inner]).max() <= 8
    assert list(video) == []


@pytest.mark.parametrize("fps", [0.5, 29.97, 120.0])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_read_video__rates_and_counts(frames: int, fps: float, tmp_path: Path) -> None:
    video = read_video(write_video(tmp_path / "a.mp4", frames, fps))
    assert video.fps == pytest.approx(fps, rel=1e-4) and video.count == frames
    assert len(list(video)) == frames


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(66.667, 66.67), (120.007, 120.01), (211.222, 211.22), (65.5355, 65.54), (6553.6, 6554), (1 / 60, 0.017)],
)
def test_video_writer__unsupported_rate_is_rounded_with_a_warning(
    fps: float, expected: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.mp4", 4, fps)
    video = read_video(path)
    assert video.fps == pytest.approx(expected, rel=1e-6) and len(list(video)) == 4
    assert f"{expected:g}" in caplog.text


@pytest.mark.parametrize("fps", [24000 / 1001, 30000 / 1001, 25, 29.97, 59.94, 120000 / 1001, 240])
def test_video_writer__common_rates_need_no_warning(
    fps: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_video(write_video(tmp_path / "a.mp4", 2, fps)).fps == pytest.approx(fps, rel=1e-5)
    assert not caplog.text


@pytest.mark.parametrize(
    ("matrix", "size", "green"),
    [((0, 1, -1, 0), (64, 48), (0, 1)), ((-1, 0, 0, -1), (48, 64), (1, 1)), ((0, -1, 1, 0), (64, 48), (1, 0))],
    ids=["90", "180", "270"],
)
def test_read_video__rotation(matrix: tuple, size: tuple, green: tuple, tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "a.mp4").read_bytes())
    # Version 0 of the track header: 4 + 20 bytes of flags and times, 16 of layers and volume, then the matrix.
    at = data.find(b"tkhd") + 4 + 24 + 16
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(bytes(data))
    video = read_video(tmp_path / "a.mp4")
    image = next(video)
    assert video.size == size == image.shape[:2]
    quarters = image[size[0] // 4 :: size[0] // 2, size[1] // 4 :: size[1] // 2, 1]
    assert np.unravel_index(quarters.argmax(), (2, 2)) == green


@pytest.mark.parametrize("code", ["MJPG", "FFV1"])
def test_read_video__other_containers(code: str, tmp_path: Path) -> None:
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 10, (64, 48))
    for number in range(12):
        writer.write(frame(number)[..., ::-1].copy())
    writer.release()
    frames = list(read_video(path))
    assert len(frames) == 12
    assert np.abs(frames[5].astype(int) - frame(5))[2:20, 2:28].max() <= (0 if code == "FFV1" else 8)


def test_read_video__broken_stream(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    data = move_index_to_front(write_video(tmp_path / "a.mp4").read_bytes())
    (tmp_path / "a.mp4").write_bytes(data)
    assert len(list(read_video(tmp_path / "a.mp4"))) == 30
    (tmp_path / "a.mp4").write_bytes(data[: len(data) * 3 // 4])
    video, intact = read_video(tmp_path / "a.mp4"), 0
    with pytest.raises(DataError, match=r"a\.mp4.*frame \d+ of 30"):
        for _ in video:
            intact += 1
    assert 5 < intact < 28 and video.missing == 30 - intact
    video = read_video(tmp_path / "a.mp4", on_error="skip")
    assert len(list(video)) == intact and video.missing == 30 - intact
    assert not capfd.readouterr().err


def test_read_video__missing_index_is_an_error(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4").read_bytes()
    index = data.find(b"moov")
    for length in (0, 10, 100, index // 2, index, index + 200):
        (tmp_path / "a.mp4").write_bytes(data[:length])
        with pytest.raises(DataError, match=r"a\.mp4"):
            read_video(tmp_path / "a.mp4")


def test_read_video__missing_folder_or_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.mp4"):
        read_video(tmp_path / "absent.mp4")
    with pytest.raises(DataError, match="cannot be read"):
        read_video(tmp_path)
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"text\.mp4"):
        read_video(tmp_path / "text.mp4")


def test_read_video__close_ends_the_iteration(tmp_path: Path) -> None:
    video = read_video(write_video(tmp_path / "a.mp4"))
    next(video)
    video.close()
    assert list(video) == [] and video.missing == 0


def test_is_video__by_suffix() -> None:
    assert all(is_video(f"a{suffix}") for suffix in (".mp4", ".MOV", ".avi", ".mkv", ".webm"))
    assert not any(is_video(name) for name in ("a.png", "a.gif", "mp4", "a.mp4.txt", "folder"))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (47, 63), (48, 63)])
def test_video_writer__odd_sides_are_padded(size: tuple[int, int], tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as video:
        for number in range(3):
            video.write(frame(number, *size))
    image = list(read_video(tmp_path / "a.mp4"))[1]
    assert image.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert abs(int(image[-1, -1, 2]) - int(frame(1, *size)[-1, -1, 2])) <= 12


def test_video_writer__failures_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"), VideoWriter(tmp_path / "a.mp4") as video:
        video.write(frame(0))
        raise RuntimeError("midway")
    with pytest.raises(DataError, match="no frame"), VideoWriter(tmp_path / "a.mp4"):
        pass
    for wrong in (frame(0, 10, 10), frame(0)[..., 0], frame(0).astype(np.float32)):
        with pytest.raises(DataError, match=r"a\.mp4"):  # noqa: SIM117
            with VideoWriter(tmp_path / "a.mp4") as video:
                video.write(frame(0))
                video.write(wrong)
    assert not list(tmp_path.iterdir())


def test_video_writer__unsupported_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4"):
        VideoWriter(tmp_path / "a.avi")
    for fps in (0, -1, 1e-4, 1e6, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="fps"):
            VideoWriter(tmp_path / "a.mp4", fps)
    (tmp_path / "file").touch()
    with pytest.raises(DenseVisionError, match="cannot write"), VideoWriter(tmp_path / "file" / "a.mp4"):
        pass


def test_video_writer__full_disk_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import resource, sys, numpy as np\n"
        "from densevision.errors import DenseVisionError\n"
        "from densevision.io.video import VideoWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "rng = np.random.default_rng(0)\n"
        "try:\n"
        "    with VideoWriter(sys.argv[1]) as video:\n"
        "        for _ in range(30): video.write(rng.integers(0, 256, (96, 128, 3), np.uint8))\n"
        "except DenseVisionError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.mp4")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a.mp4" in process.stdout and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_read_video__memory_does_not_grow(tmp_path: Path, peak_kib: str) -> None:
    program = (
        "import sys\n"
        "from densevision.io.video import read_video\n"
        "frames = sum(1 for _ in read_video(sys.argv[1]))\n"
        f"print(frames, {peak_kib})"
    )
    peaks = {}
    rng = np.random.default_rng(0)
    for frames in (10, 2000):
        path = tmp_path / f"{frames}.mp4"
        with VideoWriter(path) as video:
            for number in range(frames):
                video.write(frame(number, 240, 320) | rng.integers(0, 64, (240, 320, 3), np.uint8))
        command = [sys.executable, "-c", program, str(path)]
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        read, peaks[frames] = map(int, process.stdout.split())
        assert read == frames
    assert peaks[2000] - peaks[10] < 20_000
