"""Measures bulk prediction: CPU time per stage, and one against two workers on a cluster of two nodes on this machine.

    python tools/benchmark_bulk.py stages IMAGES --out docs/results/bulk.json
    python tools/benchmark_bulk.py workers IMAGES --count 2000 --out docs/results/bulk.json

Stages are measured in this process by its CPU time, which other programs hardly change. Workers are measured in turns,
by the clock, on copies of the images.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from densevision.bulk.cluster import connect_to_ray

PACKAGES = ("densevision", "torch", "ray", "pyarrow")
TASKS = ("detection", "semantic")


@click.group(help=(__doc__ or "").splitlines()[0])
def main() -> None:
    """Runs a command."""


@main.command()
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.option("--task", "tasks", multiple=True, default=TASKS, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def stages(images: Path, tasks: tuple[str, ...], out: Path) -> None:
    """CPU time of listing, reading with decoding, predicting and writing, for one core."""
    import torch

    from densevision.bulk.destination import Destination
    from densevision.bulk.plan import list_items, make_chunks
    from densevision.bulk.ray_predictor import RayPredictor, find_constants
    from densevision.bulk.reading import ImageReader
    from densevision.bulk.shard_writer import ShardWriter
    from densevision.results.shards import make_schema

    torch.set_num_threads(1)
    rows = {}
    for task in tasks:
        seconds = dict.fromkeys(("list", "read", "predict", "write"), 0.0)
        clock = _Clock(seconds)
        predictor = RayPredictor(task, device="cpu")
        schema = make_schema(task, find_constants(predictor.predictor, predictor.options))
        make_chunks(list_items([str(images)]))  # imports what it needs
        clock.start()
        chunks = make_chunks(items := list_items([str(images)]))
        clock.stop("list")
        with tempfile.TemporaryDirectory() as folder:
            destination = Destination(folder)
            destination.start({"task": task})
            writer, reader = ShardWriter(destination, schema, ("parquet",), "skip"), ImageReader(3, 400_000_000)
            for chunk in chunks:
                tables = list(reader(chunk))
                clock.stop("read")
                predicted = [predictor(table) for table in tables]
                clock.stop("predict")
                for table in predicted:
                    writer(table)
                clock.stop("write")
            size = sum(file.stat().st_size for file in Path(folder).glob("*.parquet"))
        rows[task] = {
            "images": len(items),
            "image_kb": round(sum(item.length for item in items) / len(items) / 1e3, 1),
            "row_kb": round(size / len(items) / 1e3, 2),
            "images_per_core_second": {name: round(len(items) / value, 1) for name, value in seconds.items()},
        }
        click.echo(f"{task}: {json.dumps(rows[task])}")
    _write(out, "stages", {"command": _describe_command(), "tasks": rows})


class _Clock:
    """CPU time of this process by stage."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds, self.last = seconds, time.process_time()

    def start(self) -> None:
        """Leaves out what was before."""
        self.last = time.process_time()

    def stop(self, name: str) -> None:
        """Adds what passed since the last call."""
        now = time.process_time()
        self.seconds[name] += now - self.last
        self.last = now


@main.command()
@click.argument("images", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=2000, show_default=True, help="Number of images: copies of those given.")
@click.option("--task", "tasks", multiple=True, default=TASKS, show_default=True)
@click.option("--workers", "numbers", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--turns", default=1, show_default=True, help="How often each number of workers is measured.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def workers(images: Path, count: int, tasks: tuple[str, ...], numbers: tuple[int, ...], turns: int, out: Path) -> None:
    """One and two workers in turns, the memory of the driver, and the difference from `predict`."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder, _run_nodes():
        source = _repeat_images(images, Path(folder) / "images", count)
        for task in tasks:
            runs = [_measure(task, source, Path(folder) / "out", n) for _ in range(turns) for n in numbers]
            rows[task] = {"runs": runs, "largest_difference": _compare(task, images, Path(folder) / "out")}
            click.echo(f"{task}: {json.dumps(rows[task])}")
            _write(out, f"workers_{count}", {"command": _describe_command(), "images": count, "tasks": rows})


@contextlib.contextmanager
def _run_nodes() -> Iterator[None]:
    """Two nodes of one core. Each is a session of its own, to which Linux gives as much time as to any other."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
    os.environ |= {"RAY_num_workers_soft_limit": "4"}  # else a node of one core ends its idle processes at once
    ray_command = str(Path(sys.executable).with_name("ray"))
    shared = [ray_command, "start", "--block", "--num-cpus", "1", "--object-store-memory", str(200 << 20)]
    head = ["--head", "--port", str(port), "--include-dashboard", "false"]
    nodes = [subprocess.Popen([*shared, *head], stdout=subprocess.DEVNULL, start_new_session=True)]
    try:
        while not _is_open(port):
            time.sleep(1)
        join = ["--address", f"127.0.0.1:{port}"]
        nodes.append(subprocess.Popen([*shared, *join], stdout=subprocess.DEVNULL, start_new_session=True))
        os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        ray = connect_to_ray()
        while ray.cluster_resources().get("CPU") != 2:
            time.sleep(1)
        yield
        ray.shutdown()
    finally:
        for node in nodes:
            node.terminate()
            node.wait(90)


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _measure(task: str, source: Path, out: Path, count: int) -> dict[str, Any]:
    """One run: seconds, rows per second between shards, and the driver's memory before it and in its thirds."""
    import psutil

    import densevision

    shutil.rmtree(out, ignore_errors=True)
    memory = psutil.Process().memory_info().rss
    begin, peak = time.monotonic(), _Peak()
    with peak:
        run = densevision.predict(
            source, task, engine="ray", out=out, workers=count, device="cpu", rows_per_file=64, quiet=True
        )
    seconds = time.monotonic() - begin
    return {
        "workers": count,
        "images": run.images,
        "failed": run.failed,
        "seconds": round(seconds, 1),
        "rows_per_second": _measure_rate(out),
        "driver_mb": [round(memory / 1e6), *(round(value / 1e6) for value in peak.thirds())],
    }


def _measure_rate(out: Path) -> float:
    """Rows per second from the first to the last shard, which leaves out the start of the workers."""
    import pyarrow.parquet

    shards = sorted(out.glob("part-*.parquet"), key=lambda file: file.stat().st_mtime)
    rows = sum(pyarrow.parquet.read_metadata(shard).num_rows for shard in shards[1:])
    return round(rows / max(shards[-1].stat().st_mtime - shards[0].stat().st_mtime, 1e-9), 2)


class _Peak:
    """The memory of this process, sampled by a thread while a block runs."""

    def __enter__(self) -> _Peak:
        import threading

        self.values: list[int] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self.done.set()
        self.thread.join()

    def _sample(self) -> None:
        import psutil

        while not self.done.wait(1.0):
            self.values.append(psutil.Process().memory_info().rss)

    def thirds(self) -> list[int]:
        """The largest value in each third of the time."""
        size = max(1, len(self.values) // 3)
        return [max(part) for part in (self.values[:size], self.values[size:-size], self.values[-size:]) if part]


def _repeat_images(images: Path, folder: Path, count: int) -> Path:
    """Links to the images until there are enough of them."""
    from densevision.io.image_files import list_images

    names = list_images(images)
    for number in range(count):
        repeat, index = divmod(number, len(names))
        path = folder / f"{repeat:03d}" / names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to((images / names[index]).absolute())
    return folder


def _compare(task: str, images: Path, out: Path) -> dict[str, float]:
    """The largest difference of each array from those of `predict` in this process."""
    import numpy as np

    import densevision
    from densevision.bulk import read_predictions

    plain = {Path(str(each.source)).stem: each for each in densevision.predict(str(images), task, device="cpu")}
    largest: dict[str, float] = {}
    for row in read_predictions(out):
        assert row.result is not None
        for name, array in plain[Path(row.name).name].numpy().items():
            actual = row.result.numpy()[name]
            assert actual.shape == array.shape, f"{row.source}: {name}"
            difference = np.abs(actual.astype(np.float64) - array.astype(np.float64)).max(initial=0)
            largest[name] = max(largest.get(name, 0.0), float(difference))
    return largest


def _describe_command() -> str:
    return " ".join(["python tools/benchmark_bulk.py", *sys.argv[1:]])


def _write(out: Path, section: str, content: dict[str, Any]) -> None:
    """Writes a section beside those that the file has."""
    from densevision.io.atomic_write import write_text

    versions = {name: version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}
    sections = json.loads(out.read_text()) if out.exists() else {}
    content = {**content, "versions": versions, "load": [round(value, 1) for value in os.getloadavg()]}
    write_text(out, json.dumps({**sections, section: content}, indent=1) + "\n")


if __name__ == "__main__":
    main()
