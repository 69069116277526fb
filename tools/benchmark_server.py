"""Loads `densevision serve` in a process of its own, and compares every response with `densevision.predict`.

    python tools/benchmark_server.py [--task detection] [--clients 16] [--requests 2000] [--out FILE]

Clients send small images of different sizes as fast as they get responses. Reported are failures, the largest
difference from `predict`, latencies as clients see them, and the memory of the server over time. The other parts send
more requests at a time than the queue holds, uploads that are no images or far too large, and SIGTERM under load, after
which accepted requests without a response are counted.
"""

from __future__ import annotations

import io
import json
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
import numpy as np
import psutil
from PIL import Image

SIZES = ((64, 96), (80, 64), (96, 96), (48, 120))
IMAGES = 24
OVERLOAD_REQUESTS = 200
BOMB_SIDE = 100_000
CHUNK = 1 << 16
FIELDS = {"detection": "scores", "depth": "depth", "semantic": "labels"}
"""Task -> field of its results that is compared."""


def write_images(folder: Path) -> list[Path]:
    """Writes smooth random images."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(IMAGES):
        height, width = SIZES[number % len(SIZES)]
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        files.append(folder / f"{number}.png")
        small.resize((width, height), Image.Resampling.BICUBIC).save(files[-1])
    return files


def start_server(task: str, options: list[str]) -> tuple[subprocess.Popen[str], str]:
    """Starts a server on a free port; returns the process and its address."""
    command = [sys.executable, "-m", "densevision", "serve", "--quiet", "--model", task, "--port", "0", *options]
    command += ["--device", "cpu", "--precision", "float32"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def measure_load(task: str, clients: int, requests: int, files: list[Path], expected: list[Any]) -> dict[str, Any]:
    """Sends the requests and compares the responses."""
    process, url = start_server(task, ["--queue", str(2 * clients), "--timeout", "120"])
    memory, statuses, seconds, differences = [], Counter(), [], []
    server = psutil.Process(process.pid)
    contents = [file.read_bytes() for file in files]
    field, query = FIELDS[task], {"score_threshold": "0.05"} if task == "detection" else {}
    local = threading.local()

    def send(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=url, timeout=300)
        index = number % len(files)
        start = time.perf_counter()
        upload = {"image": (files[index].name, contents[index])}
        response = local.client.post(f"/v1/{task}/predict", params=query, files=upload)
        seconds.append(time.perf_counter() - start)
        statuses[response.status_code] += 1
        if response.status_code == 200:
            actual = np.asarray(response.json()["results"][0][field], np.float64)
            same_shape = actual.shape == expected[index].shape
            differences.append(float(np.abs(actual - expected[index]).max(initial=0)) if same_shape else float("inf"))
        if number % max(1, requests // 20) == 0:
            memory.append(round(server.memory_info().rss / 1e6))

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, range(requests)))
    wall = time.perf_counter() - start
    metrics = dict(
        line.rsplit(" ", 1) for line in httpx.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")
    )
    labels = f'{{model="bundled",task="{task}"}}'
    batches = float(metrics[f"densevision_batch_images_count{labels}"])
    process.terminate()
    code = process.wait(120)
    ordered = np.sort(seconds)
    return {
        "requests": requests,
        "clients": clients,
        "statuses": {str(status): count for status, count in statuses.items()},
        "largest_difference": max(differences, default=None),
        "requests_per_s": round(requests / wall, 1),
        "images_per_batch": round(requests / batches, 2),
        "latency_ms": {f"p{p}": round(1000 * float(np.percentile(ordered, p)), 1) for p in (50, 90, 99)},
        "memory_mb": memory,
        "exit_code": code,
    }


def measure_overload(task: str, clients: int, file: Path) -> dict[str, Any]:
    """Sends four times as many requests at a time as the queue holds: the others are refused, and none is lost."""
    bound = max(1, clients // 4)
    process, url = start_server(task, ["--queue", str(bound), "--timeout", "120"])
    content, statuses, refusals = file.read_bytes(), Counter(), []

    def send(_: int) -> None:
        start = time.perf_counter()
        response = httpx.post(
            f"{url}/v1/{task}/predict", files={"image": ("a.png", content)}, timeout=300, verify=False
        )
        statuses[str(response.status_code)] += 1
        if response.status_code == 429:
            refusals.append(time.perf_counter() - start)
            assert response.headers["Retry-After"]

    try:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(send, range(OVERLOAD_REQUESTS)))
    finally:
        process.terminate()
        code = process.wait(120)
    slowest = round(1000 * max(refusals, default=0.0))
    return {
        "queue": bound,
        "clients": clients,
        "statuses": dict(statuses),
        "slowest_429_ms": slowest,
        "exit_code": code,
    }


def make_hostile_uploads() -> dict[str, tuple[str, bytes]]:
    """Uploads that must be refused: name of the file and content."""
    image = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)).save(jpeg, "JPEG")
    rows = zlib.compress(b"\0" * (BOMB_SIDE // 8 + 1) * 4096, 9)  # the head of an image of one bit per pixel
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return {
        "PNG of 100,000 x 100,000 pixels": ("a.png", bomb),
        "truncated JPEG": ("a.jpg", jpeg.getvalue()[: len(jpeg.getvalue()) // 2]),
        "truncated PNG": ("a.png", png.getvalue()[:60]),
        "HTML named .jpg": ("a.jpg", b"<!DOCTYPE html><html><body>no image</body></html>"),
        "empty": ("a.jpg", b""),
        "100 MB": ("a.jpg", b"\xff\xd8" + bytes(100_000_000)),
    }


def measure_hostile(task: str, file: Path) -> dict[str, Any]:
    """Sends uploads that must be refused, and whether the server still serves afterwards."""
    process, url = start_server(task, [])
    outcomes, memory = {}, psutil.Process(process.pid)
    before = memory.memory_info().rss
    try:
        for name, (file_name, content) in make_hostile_uploads().items():
            outcomes[name] = send_hostile(url, task, file_name, content)
        good = httpx.post(f"{url}/v1/{task}/predict", files={"image": ("a.png", file.read_bytes())}, timeout=120)
        growth = round((memory.memory_info().rss - before) / 1e6)
    finally:
        process.terminate()
        code = process.wait(120)
    return {"uploads": outcomes, "status_afterwards": good.status_code, "memory_growth_mb": growth, "exit_code": code}


def send_hostile(url: str, task: str, file_name: str, content: bytes) -> dict[str, Any]:
    """Sends one upload through a socket, which reads the response while the body is still on its way."""
    address = urlsplit(url)
    boundary = "frontier"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{file_name}"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    request = (
        f"POST /v1/{task}/predict HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nConnection: close\r\n\r\n"
    ).encode()
    rest, start = memoryview(request + body), time.perf_counter()
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        while True:
            readable, writable, _ = select.select([connection], [connection] if rest else [], [], 60)
            if readable:
                status = int(connection.recv(64).split()[1])
                break
            rest = rest[connection.send(rest[:CHUNK]) :] if writable else rest
    milliseconds = round(1000 * (time.perf_counter() - start))
    return {"status": status, "ms": milliseconds, "sent_mb": round((len(request) + len(body) - len(rest)) / 1e6, 1)}


def measure_drain(task: str, clients: int, file: Path) -> dict[str, Any]:
    """Sends SIGTERM under load; a request is lost if its connection was made and no response came."""
    process, url = start_server(task, ["--queue", str(2 * clients)])
    content, outcomes, stop = file.read_bytes(), Counter(), threading.Event()

    def send(_: int) -> None:
        while not stop.is_set():
            try:  # a connection of its own for each request: none is closed while it is idle
                response = httpx.post(
                    f"{url}/v1/{task}/predict", files={"image": ("a.png", content)}, timeout=120, verify=False
                )
                outcomes[str(response.status_code)] += 1
            except httpx.ConnectError:
                outcomes["refused after SIGTERM"] += 1
                return
            except httpx.TransportError as error:
                outcomes[f"lost: {type(error).__name__}"] += 1

    with ThreadPoolExecutor(clients) as pool:
        sent = [pool.submit(send, number) for number in range(clients)]
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
        stop.set()
        for each in sent:
            each.result()
    return {"outcomes": dict(outcomes), "exit_code": code}


@click.command()
@click.option("--task", type=click.Choice(list(FIELDS)), default="detection")
@click.option("--clients", default=16)
@click.option("--requests", default=2000)
@click.option("--out", type=click.Path(path_type=Path), help="Write the numbers as JSON.")
def main(task: str, clients: int, requests: int, out: Path | None) -> None:
    """Measures the server of one task."""
    import densevision

    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder))
        model = densevision.load(task=task)
        options = {"score_threshold": 0.05} if task == "detection" else {}
        results = [model.predict(file, device="cpu", precision="float32", **options) for file in files]
        expected = [np.asarray(result.to_dict()[FIELDS[task]], np.float64) for result in results]
        report: dict[str, Any] = {
            "command": f"python tools/benchmark_server.py --task {task} --clients {clients} --requests {requests}",
            "protocol": f"{IMAGES} images of {', '.join(f'{w} x {h}' for h, w in SIZES)} pixels, bundled weights, "
            f"float32; {FIELDS[task]} compared with densevision.predict, one image at a time",
            "versions": {name: version(name) for name in ("densevision", "torch", "fastapi", "uvicorn")},
            "python": platform.python_version(),
            "cores": len(os.sched_getaffinity(0)),
            "load": measure_load(task, clients, requests, files, expected),
            "overload": measure_overload(task, clients, files[0]),
            "hostile": measure_hostile(task, files[0]),
            "drain": measure_drain(task, clients, files[0]),
        }
    text = json.dumps(report, indent=1)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    main()
