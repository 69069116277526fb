"""Downloads from a local server with planted faults: each must end in the right file or in an error, with nothing left.

python tools/download_faults.py [--out docs/results/downloads.json]
"""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from densevision.errors import WeightsError
from densevision.io import download as downloads
from densevision.io.download import download

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
TIMEOUT = 0.6
"""Seconds without data after which a connection counts as broken."""

RIGHT_FILE = (
    "good",
    "unknown-length",
    "chunked",
    "slow",
    "redirect-good",
    "redirect-relative",
    "busy-twice",
    "hang-once",
    "breaks-and-resumes",
    "breaks-twice-and-resumes",
    "breaks-without-ranges",
    "breaks-and-changes",
    "breaks-and-sends-another-part",
    "replaces-an-old-file",
    "two-processes",
)
"""Faults after which the right file must be there."""
ERRORS = (
    "404",
    "403",
    "410",
    "500",
    "503",
    "short",
    "empty",
    "corrupt",
    "web-page",
    "hang-before-headers",
    "hang-in-the-middle",
    "closes-at-once",
    "no-http",
    "invalid-length",
    "longer-than-stated",
    "endless",
    "gzip",
    "redirect-file",
    "redirect-ftp",
    "redirect-data",
    "redirect-loop",
    "refused-connection",
    "address-file",
    "address-ftp",
    "offline",
)
"""Faults that must end in an error, with no file left and an old one unchanged."""


class FaultyServer(BaseHTTPRequestHandler):
    """Serves the fault that the path names."""

    protocol_version = "HTTP/1.1"
    requests: dict[str, int] = {}  # noqa: RUF012
    stop = threading.Event()

    def do_GET(self) -> None:
        fault = self.path.strip("/").split("/")[0]
        number = self.requests.setdefault(self.path, 0)
        self.requests[self.path] += 1
        self.close_connection = True
        if fault.isdigit() or (fault == "busy-twice" and number < 2):
            self.send_error(int(fault) if fault.isdigit() else 503)
        elif fault.startswith("redirect-"):
            self._redirect(fault.removeprefix("redirect-"))
        elif fault in ("closes-at-once", "hang-before-headers", "no-http"):
            if fault == "no-http":
                self.wfile.write(b"SSH-2.0-server\r\n\r\n")
            self.stop.wait(5 if fault == "hang-before-headers" else 0)
        elif fault.startswith("breaks") and number < (2 if "twice" in fault else 1):
            start, length = self._get_start(), HALF // 2 if number else HALF
            is_older = fault == "breaks-and-changes"
            self._send(bytes(length) if is_older else CONTENT[start : start + length], start=start, version="one")
        elif fault.startswith("breaks"):
            self._finish_broken(fault)
        else:
            self._send_fault(fault, number)

    def _get_start(self) -> int:
        return int(self.headers.get("Range", "bytes=0-")[6:-1])

    def _finish_broken(self, fault: str) -> None:
        start = self._get_start()
        if fault == "breaks-and-changes" and self.headers.get("If-Range") != '"two"':
            self._send(CONTENT, version="two")
        elif fault == "breaks-without-ranges":
            self._send(CONTENT)
        elif fault == "breaks-and-sends-another-part" and start:
            self._send(CONTENT[10:], start=start, stated_start=10, version="one")
        else:
            self._send(CONTENT[start:], start=start, version="one")

    def _redirect(self, target: str) -> None:
        locations = {
            "good": f"http://{self.headers['Host']}/good/{time.monotonic_ns()}",
            "relative": "/good/relative",
            "file": "file:///etc/hostname",
            "ftp": "ftp://127.0.0.1/x",
            "data": "data:application/octet-stream,x",
            "loop": self.path,
        }
        self.send_response(302)
        self.send_header("Location", locations[target])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes, start: int = 0, stated_start: int | None = None, version: str = "one") -> None:
        """Sends a body that should reach from `start` to the end of the file, but may be shorter."""
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", f'"{version}"')
        if start:
            stated = start if stated_start is None else stated_start
            self.send_header("Content-Range", f"bytes {stated}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(body)

    def _send_fault(self, fault: str, number: int) -> None:
        bodies = {
            "corrupt": CONTENT[:-1] + b"x",
            "web-page": b"<html>Please log in</html>",
            "empty": b"",
            "gzip": gzip.compress(CONTENT),
            "longer-than-stated": CONTENT + b"more",
        }
        body = bodies.get(fault, CONTENT)
        lengths = {"invalid-length": "many", "longer-than-stated": str(len(CONTENT) + 4)}
        self.send_response(200)
        if fault == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif fault not in ("unknown-length", "endless"):
            self.send_header("Content-Length", lengths.get(fault, str(len(body))))
        if fault == "gzip":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if fault == "chunked":
            for part in (body[:HALF], body[HALF:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        elif fault == "slow":
            for start in range(0, len(body), len(body) // 8):
                self.wfile.write(body[start : start + len(body) // 8])
                self.wfile.flush()
                time.sleep(TIMEOUT / 6)
        elif fault == "hang-in-the-middle" or (fault == "hang-once" and not number):
            self.wfile.write(body[:HALF])
            self.wfile.flush()
            self.stop.wait(5)
        elif fault == "endless":
            while not self.stop.is_set():
                self.wfile.write(body)
        else:
            self.wfile.write(body[: HALF if fault == "short" else None])

    def handle(self) -> None:
        """Ends quietly when the client has gone."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keeps the output clean."""


@contextmanager
def serve_faults() -> Iterator[str]:
    """Yields the address of a running server."""
    FaultyServer.stop.clear()
    FaultyServer.requests.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), FaultyServer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        FaultyServer.stop.set()
        server.shutdown()
        server.server_close()


def run_case(fault: str, server: str, folder: Path) -> dict[str, Any]:
    """Downloads once with a planted fault, into an empty folder.

    Returns:
        "outcome": "right file", "error", or what else happened; "as_expected"; "message" of an error; "seconds".
    """
    path = folder / "model.safetensors"
    old = b"an old file" if fault in ("corrupt", "short", "replaces-an-old-file") else None
    if old is not None:
        path.write_bytes(old)
    started, message = time.monotonic(), ""
    try:
        if fault == "two-processes":
            _download_twice(f"{server}/good/two", path)
        else:
            _download_faulty(fault, server, path)
        outcome = "right file" if path.read_bytes() == CONTENT else "wrong file"
    except WeightsError as error:
        message = error.problem
        left = [file.name for file in folder.iterdir()]
        is_clean = left == ([path.name] if old is not None else []) and (old is None or path.read_bytes() == old)
        outcome = "error" if is_clean else f"error, but {left} is left"
    if outcome == "right file" and [file.name for file in folder.iterdir()] != [path.name]:
        outcome = "right file, and others"
    expected = "right file" if fault in RIGHT_FILE else "error"
    seconds = round(time.monotonic() - started, 2)
    message = message.replace(server, "http://server")
    return {
        "fault": fault,
        "outcome": outcome,
        "as_expected": outcome == expected,
        "message": message,
        "seconds": seconds,
    }


def _download_faulty(fault: str, server: str, path: Path) -> None:
    addresses = {
        "refused-connection": "http://127.0.0.1:9/x",
        "address-file": "file:///etc/hostname",
        "address-ftp": "ftp://127.0.0.1/x",
        "replaces-an-old-file": f"{server}/good/old",
    }
    if fault == "offline":
        os.environ["DENSEVISION_OFFLINE"] = "1"
    try:
        download(addresses.get(fault, f"{server}/{fault}"), path, SHA256, TIMEOUT, max_bytes=4 * len(CONTENT))
    finally:
        os.environ.pop("DENSEVISION_OFFLINE", None)


def _download_twice(address: str, path: Path) -> None:
    """Downloads the same file from two processes at once."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=download, args=(address, path, SHA256)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    if any(process.exitcode for process in processes):
        raise WeightsError("one of the processes failed")


@click.command(help=__doc__)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the outcomes as JSON.")
def main(out: str | None) -> None:
    for name in (*downloads.OFFLINE_VARIABLES, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    os.environ["no_proxy"] = "127.0.0.1"
    outcomes = []
    with serve_faults() as server:
        for fault in (*RIGHT_FILE, *ERRORS):
            with tempfile.TemporaryDirectory() as folder:
                outcomes.append(run_case(fault, server, Path(folder)))
            click.echo("{fault}: {outcome} {message}".format(**outcomes[-1]))
    passed = sum(outcome["as_expected"] for outcome in outcomes)
    click.echo(f"{passed} of {len(outcomes)} as expected")
    if out:
        report = {
            "command": f"python tools/download_faults.py --out {out}",
            "python": platform.python_version(),
            "platform": platform.system(),
            "as_expected": passed,
            "faults": len(outcomes),
            "outcomes": outcomes,
        }
        Path(out).write_text(json.dumps(report, indent=1) + "\n")
    if passed < len(outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
