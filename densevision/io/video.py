"""Videos: frames as they are asked for, and back to a file. OpenCV's FFmpeg does both; one frame is held at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

# FFmpeg prints to the terminal what our errors say; it reads this when OpenCV first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.atomic_write import whole
from densevision.io.decode import first_bytes, quiet

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")
"""How videos' names end."""

_FEW = 2
"""Frames by which containers are known to miscount without any loss, besides one in a hundred."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a path is named like a video; the file is not opened.

    >>> is_video("a/clip.MP4"), is_video("a/clip.png")
    (True, False)
    """
    return Path(path).suffix.lower() in SUFFIXES


def read_video(path: str | os.PathLike[str], on_error: Literal["fail", "skip"] = "fail") -> VideoReader:
    """Opens a video as an iterator of frames.

    Args:
        path: Any container and codec that FFmpeg reads.
        on_error: Where the stream breaks well before its stated end: `fail` raises after the last good frame, `skip`
            ends there and counts what is `missing`.

    Raises:
        DataError: The file is missing, empty or no video that can be read.
    """
    return VideoReader(path, on_error)


class VideoReader(Iterator[np.ndarray]):
    """Frames of a video, (H, W, 3) uint8 RGB, upright by the rotation that the file states. Goes through once.

    Attributes:
        path: The file.
        fps: Frames per second, None where the file does not say.
        size: (height, width) of the upright frames.
        count: Number of frames that the file states, None where it does not; some containers only estimate it.
        position: Frames given so far.
        missing: Frames that a broken stream has lost, by the file's own statement; known at the end.
    """

    def __init__(self, path: str | os.PathLike[str], on_error: Literal["fail", "skip"] = "fail"):
        first_bytes(path)
        with quiet:
            self._capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
            # The default differs between versions of OpenCV.
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        height, width = (int(self._stated(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if not self._capture.isOpened() or height < 1 or width < 1:
            hint = "The file may be cut off; convert it to MP4, or leave it out."
            raise DataError("not a video that can be read", file=path, hint=hint)
        self.path = path
        self.size = (height, width)
        self.fps: float | None = self._stated(cv2.CAP_PROP_FPS) or None
        self.count: int | None = int(self._stated(cv2.CAP_PROP_FRAME_COUNT)) or None
        self.position = 0
        self.missing = 0
        self._on_error = on_error
        self._end = 0.0

    def __next__(self) -> np.ndarray:
        with quiet:
            found, frame = self._capture.read()
        if not found:
            self._finish()
            raise StopIteration
        self.position += 1
        self._end = max(self._end, self._stated(cv2.CAP_PROP_POS_MSEC) / 1000)
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Closes the file; iteration ends."""
        self._capture.release()

    def _finish(self) -> None:
        """Decides at the end of the stream whether it was the end of the video."""
        if not self._capture.isOpened():
            return
        self.close()
        self.missing = self._lost()
        if self.position and self.missing <= max(_FEW, 0.01 * (self.count or 0)):
            return
        if self._on_error == "fail" or not self.position:
            stated = "an unknown number" if self.count is None else self.count
            hint = "Convert it again from its source, or read what there is with on_error=skip."
            raise DataError(f"the stream breaks after frame {self.position} of {stated}", file=self.path, hint=hint)

    def _lost(self) -> int:
        """Frames between the last one and the stated end; by time too, as counts of uneven rates are estimates."""
        if self.count is None:
            return 0
        by_count = max(0, self.count - self.position)
        if self.fps is None or self._end == 0:
            return by_count
        by_time = round(self.count - self._end * self.fps) - 1
        return min(by_count, max(0, by_time))

    def _stated(self, key: int) -> float:
        value = self._capture.get(key)
        return value if math.isfinite(value) and value > 0 else 0.0


class VideoWriter:
    """Writes frames to an MP4 (MPEG-4), which takes its place when the block ends well, and else leaves nothing.

    The first frame decides the size. The codec stores color for pairs of pixels, so that an odd side is continued by
    a copy of its last row or column; it is lossy.

    Args:
        path: Ends in .mp4.
        fps: Frames per second.

    Raises:
        UsageError: Another suffix, or no positive rate.
        DataError: A frame that is not (H, W, 3) uint8, or has another size than the first; or no frame at all.
        DenseVisionError: The file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 25.0):
        if Path(path).suffix.lower() != ".mp4":
            raise UsageError("videos are written as .mp4 only", file=path, hint="Choose a name that ends in .mp4.")
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError("a video needs a positive rate", file=path, field="fps", value=fps)
        self.path = path
        self.fps = fps
        self.size: tuple[int, int] | None = None
        self.written = 0
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        self._temporary = self._stack.enter_context(whole(self.path))
        return self

    def write(self, frame: np.ndarray) -> None:
        """Adds a frame: (H, W, 3) uint8 RGB."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            found = f"{frame.shape} {frame.dtype}"
            raise DataError("a frame is (height, width, 3) uint8", file=self.path, value=found)
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
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.size is not None:
                self._writer.release()
            if kind is None:
                self._check()
        except BaseException as problem:
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, failure, trace)

    def _open(self, height: int, width: int) -> None:
        code = cv2.VideoWriter_fourcc(*"mp4v")
        with quiet:
            self._writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self.fps, (width, height))
        if not self._writer.isOpened():
            hint = "Choose a smaller size or another rate."
            raise DataError("the codec refuses this video", file=self.path, value=f"{width} x {height}", hint=hint)

    def _check(self) -> None:
        """OpenCV reports no failed write, a full disk for one: the file must state every frame."""
        if not self.written:
            raise DataError("no frame was written, so there is no video", file=self.path)
        try:
            stated = read_video(self._temporary).count
        except DataError:
            stated = 0
        if stated != self.written:
            problem = f"only {stated} of {self.written} frames could be written"
            raise DenseVisionError(problem, file=self.path, hint="Free space and check the permissions.")
