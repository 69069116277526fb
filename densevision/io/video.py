"""Videos: frames read on demand, and written to MP4 or WebM, by OpenCV's FFmpeg; one frame is in memory at a time."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

# FFmpeg prints to the terminal what our errors state; it reads this when OpenCV first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.atomic_write import atomic_write
from densevision.io.decode import read_magic_bytes, silence_decoders, wrap_decoder_errors
from densevision.io.image import MAX_PIXELS

__all__ = [
    "VIDEO_SUFFIXES",
    "VideoReader",
    "VideoWriter",
    "get_frame_size",
    "get_property",
    "is_video",
    "open_capture",
    "read_video",
]

log = logging.getLogger("densevision")

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")
"""Suffixes of files that are read as videos."""

_MIN_TOLERATED_FRAMES = 2
"""Frames by which containers miscount without any loss, besides one in a hundred."""
_CODECS = {".mp4": "mp4v", ".webm": "VP80"}
"""Suffix -> codec: MPEG-4, which every player shows, and VP8, which browsers show."""
_MAX_TIME_BASE = 65535
"""Largest numerator of a frame rate in MPEG-4."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the suffix of a video; the file is not opened.

    >>> is_video("a/clip.MP4"), is_video("a/clip.png")
    (True, False)
    """
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def read_video(path: str | os.PathLike[str], on_error: Literal["fail", "skip"] = "fail") -> VideoReader:
    """Opens a video as an iterator of frames.

    Args:
        path: Any container and codec that FFmpeg reads.
        on_error: If the stream breaks well before its stated end, `fail` raises after the last good frame, and `skip`
            ends there and counts the frames that are `missing`.

    Raises:
        DataError: The file is missing, empty or not a readable video.
    """
    return VideoReader(path, on_error)


class VideoReader(Iterator[np.ndarray]):
    """Iterates once over the frames of a video: (H, W, 3) uint8 RGB, upright by the rotation that the file states.

    Attributes:
        path: The file.
        fps: Frames per second, None if the file does not state them.
        size: (height, width) of the upright frames.
        count: Number of frames that the file states, or None; some containers only estimate it.
        position: Number of frames read so far.
        missing: Frames that a broken stream lost according to the file; known at the end.
    """

    def __init__(self, path: str | os.PathLike[str], on_error: Literal["fail", "skip"] = "fail"):
        self._capture = self._open(path)
        self.path = path
        self.size = get_frame_size(self._capture, path)
        self.fps: float | None = self._get_property(cv2.CAP_PROP_FPS) or None
        self.count: int | None = int(self._get_property(cv2.CAP_PROP_FRAME_COUNT)) or None
        self.position = 0
        self.missing = 0
        self._on_error = on_error
        self._end_seconds = 0.0

    def __next__(self) -> np.ndarray:
        with wrap_decoder_errors(self.path), silence_decoders:
            is_read, frame = self._capture.read()
        if not is_read:
            self._finish()
            raise StopIteration
        self.position += 1
        self._end_seconds = max(self._end_seconds, self._get_property(cv2.CAP_PROP_POS_MSEC) / 1000)
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Closes the file, which ends the iteration."""
        self._capture.release()

    def _open(self, path: str | os.PathLike[str]) -> cv2.VideoCapture:
        read_magic_bytes(path)
        return open_capture(path, os.fspath(path), cv2.CAP_FFMPEG)

    def _finish(self) -> None:
        """Decides whether the end of the stream is the end of the video."""
        if not self._capture.isOpened():
            return
        self.close()
        self.missing = self._count_missing_frames()
        if self.position and self.missing <= max(_MIN_TOLERATED_FRAMES, 0.01 * (self.count or 0)):
            return
        if self._on_error == "fail" or not self.position:
            total = "an unknown number" if self.count is None else self.count
            hint = "Convert the video again from its source, or read the intact part with on_error=skip."
            raise DataError(f"the stream breaks after frame {self.position} of {total}", file=self.path, hint=hint)

    def _count_missing_frames(self) -> int:
        """Frames between the last one and the stated end; also by time, as counts at uneven rates are estimates."""
        if self.count is None:
            return 0
        by_count = max(0, self.count - self.position)
        if self.fps is None or self._end_seconds == 0:
            return by_count
        by_time = round(self.count - self._end_seconds * self.fps) - 1
        return min(by_count, max(0, by_time))

    def _get_property(self, key: int) -> float:
        return get_property(self._capture, key)


def open_capture(
    path: str | os.PathLike[str], source: str | int, backend: int, parameters: Sequence[int] = ()
) -> cv2.VideoCapture:
    """Opens a video, a stream or a camera with OpenCV; frames are upright.

    Args:
        path: Its name in messages.
        source: What OpenCV opens: a path, an address, or the number of a camera.
        backend: `cv2.CAP_FFMPEG` or `cv2.CAP_ANY`.
        parameters: OpenCV's properties and their values, in turn.

    Raises:
        DataError: It cannot be opened.
    """
    with wrap_decoder_errors(path), silence_decoders:
        capture = cv2.VideoCapture(source, backend, list(parameters))
        # The default differs between versions of OpenCV.
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    if not capture.isOpened() or not get_property(capture, cv2.CAP_PROP_FRAME_WIDTH):
        hint = "The file may be truncated; convert it to MP4, or remove it."
        raise DataError("not a readable video", file=path, hint=hint)
    return capture


def get_frame_size(capture: cv2.VideoCapture, path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the frames.

    Raises:
        DataError: They are larger than the limit.
    """
    height, width = (int(get_property(capture, key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    if height * width > MAX_PIXELS:
        problem = f"frames of {height * width:,} pixels ({width} x {height}) are more than the limit"
        raise DataError(problem, file=path, value=MAX_PIXELS, hint="Convert it to a smaller size.")
    return height, width


def get_property(capture: cv2.VideoCapture, key: int) -> float:
    """A property of a video, 0 where it is unknown."""
    value = capture.get(key)
    return value if math.isfinite(value) and value > 0 else 0.0


class VideoWriter:
    """Context manager that writes frames to an MP4 (MPEG-4) or WebM (VP8) file, atomically.

    The first frame defines the size. The lossy codec stores color for pairs of pixels, so an odd side is padded by a
    copy of its last row or column. Rates have two or three decimals, as in MPEG-4: others are rounded, with a
    warning.

    Args:
        path: Ends in .mp4, or in .webm for browsers.
        fps: Frames per second, from 0.002 to 65535. The attribute `fps` is the rate that is written.

    Raises:
        UsageError: The suffix or the rate is not supported.
        DataError: A frame is not (H, W, 3) uint8 or has another size than the first one, or there is no frame.
        DenseVisionError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 25.0):
        if Path(path).suffix.lower() not in _CODECS:
            hint = "Choose a name that ends in .mp4."
            raise UsageError("videos are written as .mp4 or .webm only", file=path, hint=hint)
        self.path = path
        self.fps = _round_frame_rate(path, fps)
        self.size: tuple[int, int] | None = None
        self.written = 0
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        self._temporary = self._stack.enter_context(atomic_write(self.path))
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame: (H, W, 3) uint8 RGB."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            value = f"{frame.shape} {frame.dtype}"
            raise DataError("a frame must be (height, width, 3) uint8", file=self.path, value=value)
        height, width = frame.shape[:2]
        if self.size is None:
            self.size = (height, width)
            self._open(height + height % 2, width + width % 2)
        if (height, width) != self.size:
            problem = f"frame {self.written + 1} has another size than the first, {self.size}"
            raise DataError(problem, file=self.path, value=(height, width))
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        self._writer.write(cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.size is not None:
                self._writer.release()
            if kind is None:
                self._check()
        except BaseException as problem:
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def _open(self, height: int, width: int) -> None:
        code = cv2.VideoWriter.fourcc(*_CODECS[Path(self.path).suffix.lower()])
        with silence_decoders:
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self.fps, (width, height))
        if not self._writer.isOpened():
            hint = "Resize the frames, or save images instead."
            value = f"{width} x {height}, {self.fps:g} fps"
            raise DataError("the codec does not support this video", file=self.path, value=value, hint=hint)

    def _check(self) -> None:
        """Checks that the file states every frame, because OpenCV does not report failed writes such as a full disk."""
        if not self.written:
            raise DataError("no frame was written", file=self.path)
        try:
            count = read_video(self._temporary).count
        except DataError:
            count = 0
        if count != self.written:
            problem = f"only {count} of {self.written} frames could be written"
            raise DenseVisionError(problem, file=self.path, hint="Free disk space and check the permissions.")


def _round_frame_rate(path: str | os.PathLike[str], fps: float) -> float:
    """The nearest rate that the writer supports: a decimal fraction whose digits form a number of at most 16 bits."""
    decimals = (3, 2, 1, 0)
    rates = (round(fps * 10**digits) / 10**digits for digits in decimals) if math.isfinite(fps) else ()
    rate = next((rate for rate, digits in zip(rates, decimals) if 2 <= rate * 10**digits <= _MAX_TIME_BASE), None)
    if rate is None:
        hint = f"Choose a rate from 0.002 to {_MAX_TIME_BASE}."
        raise UsageError("unsupported frame rate", file=path, field="fps", value=fps, hint=hint)
    if abs(rate - fps) > 1e-3 * min(1, fps):
        log.warning("%s: MP4 does not support %.6g frames per second; written with %.6g", path, fps, rate)
    return rate
