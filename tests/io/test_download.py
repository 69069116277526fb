"""Downloads against a local server with planted faults: the right file or a clear error, nothing half-written."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from densevision.errors import WeightsError
from densevision.io import download as module
from densevision.io.download import download

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FaultyHandler(BaseHTTPRequestHandler):
    """Serves the fault that the path names; a path may fail a few times before it works."""

    failures: dict[str, int] = {}  # noqa: RUF012
    stop = threading.Event()

    def do_GET(self) -> None:
        fault = self.path.strip("/").split("/")[0]
        if fault.startswith("flaky") and self.failures.setdefault(self.path, 0) < 2:
            self.failures[self.path] += 1
            self.send_error(503)
        elif fault in ("404", "403", "500"):
            self.send_error(int(fault))
        elif fault.startswith("redirect-"):
            targets = {"file": "file:///etc/hostname", "ftp": "ftp://127.0.0.1/x", "good": "/good", "loop": self.path}
            self.send_response(302)
            self.send_header("Location", targets[fault.removeprefix("redirect-")])
            self.end_headers()
        elif fault == "hang":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:1000])
            self.stop.wait(10)
        else:
            content = CONTENT[:-1] + b"x" if fault == "corrupt" else CONTENT
            self.send_response(200)
            if fault != "unknown-length":
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "short" else content)

    def log_message(self, *_: object) -> None:
        """Keeps the test output clean."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    FaultyHandler.stop.clear()
    instance = ThreadingHTTPServer(("127.0.0.1", 0), FaultyHandler)
    thread = threading.Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_address[1]}"
    FaultyHandler.stop.set()
    instance.shutdown()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    for name in (*module.OFFLINE_VARIABLES, "http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("path", ["good", "flaky-1", "redirect-good", "unknown-length"])
def test_download__right_file(path: str, server: str, tmp_path: Path) -> None:
    assert download(f"{server}/{path}", tmp_path / "file", SHA256) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "path", ["404", "403", "500", "short", "corrupt", "hang", "redirect-file", "redirect-ftp", "redirect-loop"]
)
def test_download__fault_is_an_error_and_leaves_nothing(path: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        download(f"{server}/{path}", tmp_path / "file", SHA256, timeout=0.3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "http://127.0.0.1:9/x"])
def test_download__other_addresses_are_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        download(address, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", module.OFFLINE_VARIABLES)
def test_download__offline_is_honored(name: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(WeightsError):
        download(f"{server}/good", tmp_path / "file", SHA256)


def test_download__two_processes_at_once(server: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (f"{server}/good", tmp_path / "file", SHA256)
    processes = [context.Process(target=download, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
