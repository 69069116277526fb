"""Streams from a local server: newest frames, whole videos, and faults of servers and connections."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from stream_server import SIZE, StreamServer, serve_streams

from densevision.errors import DataError
from densevision.io import stream as stream_module
from densevision.io.stream import LiveReader, RemoteVideo, is_stream, open_stream
from densevision.io.stream_failures import explain_failure, hide_credentials
from densevision.io.video import read_video

sys.path.insert(0, str(Path(__file__).parent))
from test_video import move_index_to_front, write_video

TIMEOUT = 1.0


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames, its index in front, as servers store videos."""
    path = write_video(tmp_path_factory.mktemp("stream") / "a.mp4", 40)
    path.write_bytes(move_index_to_front(path.read_bytes()))
    return path


@pytest.fixture
def server(video_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamServer]:
    monkeypatch.setattr(stream_module, "_FIRST_DELAY", 0.05)
    with serve_streams(video_file.read_bytes()) as streams:
        yield streams


def number(frame: np.ndarray) -> int:
    """The number of a frame of the server, by its brightness."""
    return round(float(frame.mean()) / 4)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("webcam:0", True),
        ("RTSP://host/a", True),
        ("https://host/a.mp4?x=1", True),
        ("webcam:", False),
        ("a.mp4", False),
        ("ftp://host/a", False),
    ],
)
def test_is_stream__by_its_form(source: str, expected: bool) -> None:
    assert is_stream(source) is expected


def test_live__frames_come_in_order_and_the_newest_is_read(server: StreamServer) -> None:
    reader = open_stream(server.address("/live"), TIMEOUT)
    assert isinstance(reader, LiveReader) and reader.size == SIZE
    first = number(next(reader))
    time.sleep(0.5)  # about 25 frames come meanwhile
    second, seconds = number(next(reader)), reader.seconds
    third = number(next(reader))
    reader.close()
    assert first < second < third and second - first >= 8 and third - second <= 4
    assert reader.dropped >= 7 and reader.position == 3 and seconds >= 0.4
    with pytest.raises(StopIteration):
        next(reader)


def test_live__frame_is_rgb(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cv2, "cvtColor", lambda image, code: image[..., ::-1] if code == cv2.COLOR_BGR2RGB else pytest.fail("code")
    )
    reader = open_stream(server.address("/live"), TIMEOUT)
    frame = next(reader)
    reader.close()
    assert frame.shape == (*SIZE, 3) and frame.dtype == np.uint8


@pytest.mark.parametrize(("path", "reason"), [("/cut", "closed"), ("/stall", "within 1 s")])
def test_live__lost_connection_is_an_error(path: str, reason: str, server: StreamServer) -> None:
    reader = open_stream(server.address(path), TIMEOUT)
    start, frames = time.monotonic(), []
    with pytest.raises(DataError, match=f"{reason} after frame .*reconnect"):
        frames += [number(frame) for frame in reader]
    assert time.monotonic() - start < 4 * TIMEOUT
    reader.close()


def test_live__reconnects_if_asked(server: StreamServer, caplog: pytest.LogCaptureFixture) -> None:
    """/cut gives eight frames a connection; a frame resets the count of attempts."""
    reader = open_stream(server.address("/cut"), TIMEOUT, reconnect=1)
    numbers = []
    with caplog.at_level("WARNING"):
        for frame in reader:
            numbers.append(number(frame))
            if numbers[-1] >= 20:
                break
    reader.close()
    assert numbers == sorted(set(numbers)) and server.requests.count("/cut") >= 3
    assert "attempt 1 of 1 to reconnect" in caplog.text


def test_live__attempts_end(video_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_FIRST_DELAY", 0.05)
    with serve_streams() as streams:
        reader = open_stream(streams.address("/live"), TIMEOUT, reconnect=2)
        next(reader)
    with pytest.raises(DataError, match="after frame"):
        list(reader)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/none", "404"), ("/text", "text/plain"), ("/hang", "nothing within 1 s")],
)
def test_open_stream__says_what_the_server_does(path: str, reason: str, server: StreamServer) -> None:
    with pytest.raises(DataError, match=reason):
        open_stream(server.address(path), TIMEOUT)


def test_open_stream__nobody_listens() -> None:
    for scheme in ("http", "rtsp"):
        with pytest.raises(DataError, match="refused"):
            open_stream(f"{scheme}://127.0.0.1:9/a", TIMEOUT)


def test_open_stream__rtsp_server_that_is_none(server: StreamServer) -> None:
    reason = explain_failure(server.address("/live").replace("http", "rtsp"), TIMEOUT)
    assert "no such stream" in reason


def test_errors__hide_passwords(server: StreamServer) -> None:
    address = server.address("/none").replace("//", "//me:secret@")
    with pytest.raises(DataError) as failure:
        open_stream(address, TIMEOUT)
    assert "secret" not in str(failure.value) and "404" in str(failure.value)
    assert hide_credentials("http://host/a@b") == "http://host/a@b"


def test_webcam__absent() -> None:
    with pytest.raises(DataError, match="webcam:99: there is no such camera"):
        open_stream("webcam:99", TIMEOUT)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """No machine of tests has a camera: a stand-in of OpenCV's class takes the place of the driver."""
    state = SimpleNamespace(opened=[], hangs=False, end=threading.Event())

    class Camera:
        def __init__(self, *arguments: object):
            state.opened.append(arguments)

        def isOpened(self) -> bool:
            return True

        def set(self, *arguments: object) -> bool:
            return True

        def get(self, key: int) -> float:
            return {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}.get(key, -1.0)

        def read(self) -> tuple[bool, np.ndarray]:
            state.end.wait(20 if state.hangs else 0.01)
            return True, np.full((48, 64, 3), (3, 2, 1), np.uint8)

        def release(self) -> None:
            state.opened.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    yield state
    state.end.set()


def test_webcam__is_read(camera: SimpleNamespace) -> None:
    reader = open_stream("webcam:2", TIMEOUT)
    assert isinstance(reader, LiveReader) and next(reader)[0, 0].tolist() == [1, 2, 3]
    reader.close()
    assert camera.opened[0][0] == 2 and camera.opened[-1] == "released"


def test_webcam__driver_that_hangs(camera: SimpleNamespace) -> None:
    camera.hangs = True
    reader, start = open_stream("webcam:0", 0.2), time.monotonic()
    with pytest.raises(DataError, match=r"within 0\.2 s"):
        next(reader)
    assert time.monotonic() - start < 10
    camera.end.set()
    reader.close()


# Videos at addresses


def test_remote_video__has_all_frames_of_the_file(server: StreamServer, video_file: Path) -> None:
    remote, local = open_stream(server.address("/video.mp4"), TIMEOUT), list(read_video(video_file))
    assert isinstance(remote, RemoteVideo) and (remote.fps, remote.count) == (25.0, 40)
    frames = []
    for frame in remote:
        frames.append(frame)
        time.sleep(0.005)  # a slow reader loses nothing
    np.testing.assert_array_equal(frames, local)


def test_remote_video__broken_connection_is_an_error(server: StreamServer) -> None:
    server.faults = 100
    with pytest.raises(DataError, match=r"breaks after frame \d+ of 40"):
        list(open_stream(server.address("/broken.mp4"), TIMEOUT))


def test_remote_video__continues_where_it_broke(server: StreamServer, video_file: Path) -> None:
    frames = list(open_stream(server.address("/broken.mp4"), TIMEOUT, reconnect=1))
    whole = list(read_video(video_file))
    is_equal = [bool((frame == other).all()) for frame, other in zip(frames, whole, strict=True)]
    assert is_equal.count(False) <= 1  # the frame in which the connection broke


def test_remote_video__gives_up(server: StreamServer) -> None:
    server.faults = 100
    reader = open_stream(server.address("/broken.mp4"), TIMEOUT, reconnect=2)
    with pytest.raises(DataError, match="breaks after frame"):
        list(reader)
    assert server.requests.count("/broken.mp4") == 3
