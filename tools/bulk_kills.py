"""Kills bulk predictions on Ray: trials of tools/kill_test.py, on a cluster that all of them share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

IMAGES = 48
ROWS_PER_FILE = 2
STAGES = ("ray::Map",)
"""How Ray calls the processes that run stages of a pipeline; the others belong to the cluster itself."""
POLL = 0.05
"""Seconds between two looks at the folder."""
MAX_JITTER = 0.2
"""Seconds at most from the shard that a trial waits for to the kill."""
EARLY = 0.4
"""Fraction of the trials that kill at any moment of the run; the others while shards are written."""
STARTS = 5
"""Attempts to start the cluster: a busy machine exceeds the half minute that Ray gives it."""
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(True, False, {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
Process = Callable[[tuple[str, ...]], int]


@contextlib.contextmanager
def run_cluster() -> Iterator[subprocess.Popen]:
    """A cluster on this machine, which RAY_ADDRESS then names; ended with the block."""
    if importlib.util.find_spec("ray") is None:
        raise click.ClickException('trials of bulk predictions need the extra ray: pip install "densevision[ray]"')
    for _ in range(STARTS):
        command = [sys.executable, "-c", CLUSTER]
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        helper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert helper.stdout is not None and helper.stdin is not None
        address = helper.stdout.readline().strip()
        if address:
            break
        helper.wait()
    else:
        raise click.ClickException("the Ray cluster does not start")
    os.environ["RAY_ADDRESS"] = address
    try:
        yield helper
    finally:
        del os.environ["RAY_ADDRESS"]
        helper.stdin.close()
        helper.wait(60)


def prepare_bulk(
    folder: Path, helper: subprocess.Popen, start: Process, finish: Process
) -> Callable[[random.Random, Path], dict[str, Any]]:
    """A trial kills the driver or a worker, lets the run be completed, and compares all rows.

    Args:
        folder: Where images and the undisturbed predictions are.
        helper: The process of `run_cluster`.
        start: Starts a command line; returns its process id.
        finish: Runs a command line to its end; returns the exit code.
    """
    import ray.data  # noqa: F401  loaded once, before the children are forked

    images, reference = folder / "bulk-images", folder / "bulk-reference"
    make_images(images)

    def call(out: Path) -> tuple[str, ...]:
        files = ("--rows-per-file", str(ROWS_PER_FILE), "--on-error", "skip", "--quiet")
        return ("detection", "predict", str(images), "--engine", "ray", "--out", str(out), *files)

    def trial(rng: random.Random, out: Path) -> dict[str, Any]:
        if not reference.exists():
            begin = time.monotonic()
            if finish(call(reference)):
                raise click.ClickException("the undisturbed bulk prediction fails")
            trial.seconds = time.monotonic() - begin  # type: ignore[attr-defined]
        while True:
            victim = rng.choice(("driver", "worker"))
            child = start(call(out))
            if wait_for_moment(rng, out, child, trial.seconds):  # type: ignore[attr-defined]
                code = kill_driver(child, call(out), finish) if victim == "driver" else kill_worker(child, helper, rng)
                if code is not None:
                    break
            shutil.rmtree(out, ignore_errors=True)  # it had ended before
        problem = f"exit code {code}" if code else compare_rows(reference, out)
        shutil.rmtree(out, ignore_errors=True)
        return {"kills": 1, "problem": problem, "victim": victim}

    return trial


def make_images(folder: Path) -> None:
    """Rendered scenes, one of which is damaged."""
    from densevision.datasets.scenes import Scenes
    from densevision.io.image import write_image

    scenes = Scenes(IMAGES, 5, (96, 128))
    for index in range(IMAGES):
        write_image(folder / f"{index:03d}.png", scenes[index].image)
    path = folder / "007.png"
    path.write_bytes(path.read_bytes()[:500])


def wait_for_moment(rng: random.Random, out: Path, child: int, seconds: float) -> bool:
    """Waits for a random number of shards, and a little longer; False if the run ends before."""
    is_early = rng.random() < EARLY
    wanted = 0 if is_early else rng.randrange(1, IMAGES // ROWS_PER_FILE)
    jitter = rng.uniform(0, seconds if is_early else MAX_JITTER)
    while len(list(out.glob("part-*.parquet"))) < wanted:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(POLL)
    time.sleep(jitter)
    return os.waitpid(child, os.WNOHANG)[0] == 0


def kill_driver(child: int, call: tuple[str, ...], finish: Process) -> int:
    """Kills the driver and runs the same call again; returns its exit code."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return finish(call)


def kill_worker(child: int, helper: subprocess.Popen, rng: random.Random) -> int | None:
    """Kills a process that computes for the driver, which goes on; returns its exit code, None if it ended before."""
    import psutil

    busy = []
    while not busy:
        for process in psutil.Process(helper.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                name = " ".join(process.cmdline()[:1])
                if name.startswith(STAGES):
                    busy.append(process)
        if not busy and os.waitpid(child, os.WNOHANG)[0]:
            return None
        time.sleep(POLL)
    with contextlib.suppress(psutil.Error):
        rng.choice(busy).kill()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def compare_rows(reference: Path, out: Path) -> str | None:
    """The first difference between all rows of two folders, whatever file they are in."""
    expected, actual = read_rows(reference), read_rows(out)
    if len(set(actual["source"].to_pylist())) != actual.num_rows:
        return "a row twice"
    if actual.num_rows != expected.num_rows:
        return f"{actual.num_rows} of {expected.num_rows} rows"
    different = [name for name in expected.column_names if not actual[name].equals(expected[name])]
    return f"{', '.join(different)} differ" if different else None


def read_rows(folder: Path) -> Any:
    """All rows as an Arrow table, sorted by source."""
    import pyarrow
    import pyarrow.parquet

    files = sorted(folder.glob("part-*.parquet"))
    return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files]).sort_by("source")
