"""The server as a process of its own: it ends without losing requests, and says why it does not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "densevision", "serve", "--quiet", "--device", "cpu", "--precision", "float32"]


@pytest.fixture
def start_server(weights: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Starts a server of a small detector; returns the process and its address."""
    processes = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [*COMMAND, "--model", f"detection={weights}", "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), process.communicate(timeout=30)
        return process, line.split()[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_sigterm__completes_what_was_accepted(start_server: Any, encode_image: Any) -> None:
    import httpx

    process, url = start_server("--batch", "4", "--batch-window-ms", "1500")
    upload = {"image": ("a.png", encode_image())}
    statuses: list[int] = []

    def send() -> None:
        statuses.append(httpx.post(f"{url}/v1/detection/predict", files=upload, timeout=120).status_code)

    threads = [threading.Thread(target=send) for _ in range(3)]  # fewer than a batch: they wait for the window
    for thread in threads:
        thread.start()
    while httpx.get(f"{url}/health", timeout=60).json()["active_requests"] < 3:
        pass
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert process.wait(60) == 143
    assert statuses == [200] * 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


@pytest.mark.slow
def test_upload__large_body_gets_its_response(start_server: Any) -> None:
    import httpx

    _, url = start_server()
    response = httpx.post(f"{url}/v1/detection/predict", files={"image": ("a.png", bytes(100_000_000))}, timeout=120)
    assert response.status_code == 413
    assert response.json()["error"]["message"]
    assert httpx.get(f"{url}/health", timeout=60).json()["status"] == "ok"


def fail_to_start(*arguments: str) -> int | str | None:
    """The exit code of a server that does not start."""
    from densevision.cli.main import run

    with pytest.raises(SystemExit) as raised:
        run(["serve", *arguments])
    return raised.value.code


def test_start__port_in_use(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert fail_to_start("--model", f"detection={weights}", "--port", port) == 2
    assert capsys.readouterr().err.startswith("error: port")


def test_start__other_machines_need_a_token(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_to_start("--model", f"detection={weights}", "--host", "0.0.0.0") == 2
    assert "token" in capsys.readouterr().err


def test_start__without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert fail_to_start("--model", "detection") == 2
    assert "densevision[serve]" in capsys.readouterr().err


def test_help__needs_neither_torch_nor_the_extra() -> None:
    program = (
        "import sys\n"
        "for name in ('fastapi', 'uvicorn', 'prometheus_client', 'torch'): sys.modules[name] = None\n"
        "from densevision.cli.main import run; run(['serve', '--help'])"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert completed.returncode == 0 and "--batch-window-ms" in completed.stdout, completed.stderr
