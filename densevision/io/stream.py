"""Streams: cameras, RTSP and HTTP streams, and videos at addresses, by OpenCV's FFmpeg.

A video at an address has a length, and all of its frames are read. A stream without length is live: only its newest
frame matters, and those that come while the reader is busy are dropped.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from densevision.errors import DataError
from densevision.io.decode import silence_decoders
from densevision.io.stream_failures import explain_failure, hide_credentials
from densevision.io.video import VideoReader, get_frame_size, get_property, open_capture

__all__ = ["LiveReader", "RemoteVideo", "is_stream", "open_stream"]

log = logging.getLogger("densevision")

_STREAM = re.compile(r"(?i)(https?|rtsps?)://.+|webcam:\d{1,3}")
_GRACE = 1.0
"""Seconds after the time limit until which FFmpeg itself ends a read."""
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0
"""Seconds before the first attempt to reconnect, which double with each further one, and their limit."""


def is_stream(source: str) -> bool:
    """Whether a source is the address of a stream, or a camera; nothing is opened.

    >>> [is_stream(text) for text in ("rtsp://host/1", "webcam:0", "clip.mp4", "ftp://host/a.mp4")]
    [True, True, False, False]
    """
    return _STREAM.fullmatch(source) is not None


def open_stream(address: str, timeout: float, reconnect: int = 0) -> LiveReader | RemoteVideo:
    """Opens a stream.

    Args:
        address: `webcam:NUMBER`, or an address that begins with http://, https://, rtsp:// or rtsps://.
        timeout: Seconds to wait for it to open, and for each frame.
        reconnect: Attempts in a row to open it again when its connection is lost.

    Raises:
        DataError: It cannot be opened: the error says why.
    """
    capture = _connect(address, timeout)
    count = get_property(capture, cv2.CAP_PROP_FRAME_COUNT)
    if count and address.lower().startswith("http"):
        return RemoteVideo(address, capture, timeout, reconnect)
    return LiveReader(address, capture, timeout, reconnect)


def _connect(address: str, timeout: float) -> cv2.VideoCapture:
    """Opens a connection.

    Raises:
        DataError: It fails.
    """
    name = hide_credentials(address)
    if address.lower().startswith("webcam:"):
        try:
            return open_capture(name, int(address.partition(":")[2]), cv2.CAP_ANY)
        except DataError:
            hint = "Cameras are numbered from 0; close other programs that use it."
            raise DataError("there is no such camera, or it is in use", file=name, hint=hint) from None
    limit = max(1, round(timeout * 1000))
    limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit)
    try:
        return open_capture(name, address, cv2.CAP_FFMPEG, limits)
    except DataError:
        raise DataError(explain_failure(address, timeout), file=name) from None


class RemoteVideo(VideoReader):
    """Reads a video at an address from beginning to end; see `VideoReader`.

    Args:
        address: See `open_stream`.
        capture: The connection.
        timeout: See `open_stream`.
        reconnect: Attempts in a row to continue where the connection was lost; what was read before is read again. The
            last frame before it may be damaged.
    """

    def __init__(self, address: str, capture: cv2.VideoCapture, timeout: float, reconnect: int = 0):
        self.timeout, self.reconnect = timeout, reconnect
        self._address, self._connection = address, capture
        super().__init__(address)
        self.path = hide_credentials(address)

    def __next__(self) -> np.ndarray:
        try:
            return super().__next__()
        except DataError as failure:
            return self._reconnect(failure)

    def _open(self, path: object) -> cv2.VideoCapture:
        return self._connection

    def _reconnect(self, failure: DataError) -> np.ndarray:
        """Opens the video again, passes over the frames that were read, and returns the next one."""
        for attempt in range(1, self.reconnect + 1):
            _announce(failure.problem, str(self.path), attempt, self.reconnect)
            time.sleep(_choose_delay(attempt))
            try:
                self._capture = _connect(self._address, self.timeout)
                with silence_decoders:
                    all(self._capture.grab() for _ in range(self.position))
                return super().__next__()
            except DataError as next_failure:
                failure = next_failure
        raise failure


class LiveReader(Iterator[np.ndarray]):
    """Iterates over the newest frames of a live stream: (H, W, 3) uint8 RGB.

    A thread receives all frames and keeps the last one, so that the reader never falls behind.

    Attributes:
        fps: Frames per second that the stream states, or None.
        size: (height, width) at the start.
        position: Number of frames read so far.
        dropped: Number of frames that were replaced by newer ones before they were read.
        seconds: When the last frame that was read arrived, since the stream was opened.
    """

    def __init__(self, address: str, capture: cv2.VideoCapture, timeout: float, reconnect: int = 0):
        self.address, self.timeout, self.reconnect = address, timeout, reconnect
        self.name = hide_credentials(address)
        self.size = get_frame_size(capture, self.name)
        self.fps: float | None = get_property(capture, cv2.CAP_PROP_FPS) or None
        self.position, self.dropped, self.seconds = 0, 0, 0.0
        self._capture, self._start = capture, time.monotonic()
        self._newest: tuple[np.ndarray, float] | None = None
        self._failure: str | None = None
        self._received = 0
        self._waiting_since: float | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __next__(self) -> np.ndarray:
        """The newest frame; waits for the next one if it was read before.

        Raises:
            DataError: The connection was lost, and was not to be opened again or could not be.
        """
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._receive, name="stream", daemon=True)
            self._thread.start()
        with self._changed:
            while self._newest is None or self._stopping.is_set():
                if self._stopping.is_set():
                    raise StopIteration
                if self._failure is not None:
                    hint = "Use reconnect to open it again."
                    problem = f"{self._failure} after frame {self.position}"
                    raise DataError(problem, file=self.name, hint=None if self.reconnect else hint)
                since = self._waiting_since
                if since is not None and time.monotonic() - since > self.timeout + _GRACE:
                    # FFmpeg keeps the limit itself; a camera's driver may wait for ever.
                    raise DataError(f"no frame came within {self.timeout:g} s", file=self.name)
                self._changed.wait(0.5)  # Ctrl-C is noticed in between, on all systems
            (frame, self.seconds), self._newest = self._newest, None
        self.position += 1
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Ends the iteration and closes the connection."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(self.timeout + 1)  # a frame that is waited for comes, or its time is over
        if self.dropped:
            log.info("%s: %d frames read, %d dropped to keep up", self.name, self.position, self.dropped)

    def _receive(self) -> None:
        """Keeps the newest frame until the stream fails for good or the reader closes it."""
        failure, attempt = "reading failed", 0
        try:
            failure = self._receive_frames()
            while attempt < self.reconnect and not self._stopping.is_set():
                attempt += 1
                _announce(failure, self.name, attempt, self.reconnect)
                self._stopping.wait(_choose_delay(attempt))
                try:
                    self._capture = _connect(self.address, self.timeout)
                except DataError as error:
                    failure = error.problem
                    continue
                received = self._received
                failure = self._receive_frames()
                attempt = 0 if self._received > received else attempt
        finally:
            self._capture.release()
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _receive_frames(self) -> str:
        """Receives frames until the connection fails or is to be closed; returns the reason."""
        while not self._stopping.is_set():
            self._waiting_since = start = time.monotonic()
            with silence_decoders:
                is_read, frame = self._capture.read()
            self._waiting_since, now = None, time.monotonic()
            if not is_read:
                is_late = now - start >= 0.9 * self.timeout
                return f"no frame came within {self.timeout:g} s" if is_late else "the connection was closed"
            self._received += 1
            with self._changed:
                self.dropped += self._newest is not None
                self._newest = frame, now - self._start
                self._changed.notify_all()
        return "the reader was closed"


def _announce(problem: str, name: str, attempt: int, attempts: int) -> None:
    log.warning("%s: %s; attempt %d of %d to reconnect", name, problem, attempt, attempts)


def _choose_delay(attempt: int) -> float:
    return min(_FIRST_DELAY * 2 ** (attempt - 1), _LONGEST_DELAY)
