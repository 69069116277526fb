"""A server of streams on 127.0.0.1, with faults that are planted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

FRAME_SECONDS = 0.02
SIZE = (48, 64)


class StreamServer(ThreadingHTTPServer):
    """Serves MJPEG streams and a video.

    | path | what it does |
    |---|---|
    | /live | frames until the client leaves, at most 20 s |
    | /cut | 8 frames, then the connection is closed |
    | /stall | 8 frames, then nothing |
    | /hang | nothing at all |
    | /video.mp4 | `video`, whole |
    | /broken.mp4 | `video`; the first `faults` requests are cut after `cut_bytes` |
    | /text | a text |
    | others | 404 |

    A frame has the brightness 4 times its number, of the frames of all requests.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, video: bytes = b""):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.video, self.cut_bytes, self.faults = video, len(video) // 2, 1
        self.requests: list[str] = []
        self.frames = 0
        self.stopping = threading.Event()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def serve_streams(video: bytes = b"") -> Iterator[StreamServer]:
    server = StreamServer(video)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    server: StreamServer

    def log_message(self, *arguments: object) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        try:
            if self.path in ("/live", "/cut", "/stall"):
                self._send_frames(1000 if self.path == "/live" else 8)
                if self.path == "/stall":
                    self.server.stopping.wait(20)
            elif self.path == "/hang":
                self.server.stopping.wait(20)
            elif self.path in ("/video.mp4", "/broken.mp4"):
                self._send_video()
            elif self.path == "/text":
                self._start("text/plain", 5)
                self.wfile.write(b"hello")
            else:
                self.send_error(404)
        except OSError:  # the client has left, as it may
            return

    def _start(self, kind: str, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send_frames(self, count: int) -> None:
        self._start("multipart/x-mixed-replace; boundary=frame")
        for _ in range(count):
            if self.server.stopping.is_set():
                return
            image = np.full((*SIZE, 3), min(255, self.server.frames * 4), np.uint8)
            self.server.frames += 1
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            self.wfile.write(jpeg + b"\r\n")
            time.sleep(FRAME_SECONDS)

    def _send_video(self) -> None:
        data = self.server.video
        is_broken = self.path == "/broken.mp4" and self.server.requests.count(self.path) <= self.server.faults
        self._start("video/mp4", len(data))
        self.wfile.write(data[: self.server.cut_bytes] if is_broken else data)
