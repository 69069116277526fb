"""Programs that do the same work with densevision and with other libraries, to be timed in turns.

A module of this folder has `ROWS`: name -> `Row`. Rows need no file but what they write; weights are random, and both
sides have the same where the other library's can be converted. A library that is not installed is left out; none of
them is a dependency.
"""

from __future__ import annotations

import copy
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from densevision.inference.allocator import keep_all_freed_memory
from densevision.inference.device import pick_device, pick_precision

__all__ = ["OURS", "Call", "Row", "load_rows", "measure_row", "predict_in_precisions", "run_in_bfloat16"]

Call = Callable[[], Any]
OURS = "densevision"
"""What the names of our own calls begin with."""
MODULES = ("detection", "instance", "flow", "backbone", "semantic", "depth", "training", "processes")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        label: What is done.
        prepare: Folder for files -> name of each library and precision, and the call that does the work.
        peers: Packages that are compared with.
        target: How many times faster than the best other library "auto" shall be, None without a target.
        needs_gradients: Whether the calls compute gradients.
        warm_up: Turns before those that count.
        is_process: Whether the calls are whole processes, whose wall time counts.
    """

    label: str
    prepare: Callable[[Path], dict[str, Call]]
    peers: tuple[str, ...]
    target: float | None = None
    needs_gradients: bool = False
    warm_up: int = 2
    is_process: bool = False


def load_rows() -> dict[str, Row]:
    """All rows by name; only the modules of this folder are imported, not the other libraries."""
    return {name: row for module in MODULES for name, row in importlib.import_module(f"peers.{module}").ROWS.items()}


def measure_row(row: Row, repeats: int) -> dict[str, Any]:
    """Median seconds of wall and of CPU time of every call, and how many times faster ours is.

    With one thread CPU time is compared, else and for whole processes wall time. The calls take turns, so that other
    load on the machine affects all of them.
    """
    missing = [name for name in row.peers if not _find_version(name)]
    if missing:
        return {"label": row.label, "not_measured": f"not installed: {', '.join(missing)}"}
    # As our training does it; the other library's steps gain by it, too.
    allocator = keep_all_freed_memory() if row.needs_gradients else nullcontext()
    with tempfile.TemporaryDirectory() as folder, allocator:
        torch.manual_seed(0)
        calls = row.prepare(Path(folder))
        wall: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(row.warm_up + repeats):
            for name, call in calls.items():
                wall_start, cpu_start = time.perf_counter(), _measure_cpu()
                with torch.inference_mode(not row.needs_gradients):
                    call()
                if turn >= row.warm_up:
                    wall[name].append(time.perf_counter() - wall_start)
                    cpu[name].append(_measure_cpu() - cpu_start)
    wall_seconds, cpu_seconds = (_take_medians(seconds) for seconds in (wall, cpu))
    # One thread takes as long as it computes, whatever else the machine does.
    counts_cpu = torch.get_num_threads() == 1 and not row.is_process
    return {
        "label": row.label,
        "wall_seconds": {name: round(value, 4) for name, value in wall_seconds.items()},
        "cpu_seconds": {name: round(value, 4) for name, value in cpu_seconds.items()},
        "compared": "cpu_seconds" if counts_cpu else "wall_seconds",
        **_compare(cpu_seconds if counts_cpu else wall_seconds),
        "target": row.target,
        "repeats": repeats,
        "auto_is": pick_precision("auto", pick_device("cpu")),
        "peers": {name: _find_version(name) for name in row.peers},
    }


def predict_in_precisions(model: Any, source: Any, **options: Any) -> dict[str, Call]:
    """Our calls, in float32 and in "auto", each by a predictor of its own.

    One predictor holds the form of its network for one precision: in turns it would be made anew at every call.
    """
    calls: dict[str, Call] = {}
    for precision in ("float32", "auto"):
        predictor = copy.deepcopy(model)
        calls[f"{OURS} {precision}"] = partial(predictor.predict, source, precision=precision, **options)
    return calls


def run_in_bfloat16(call: Call) -> Call:
    """The call under autocast, where the processor multiplies bfloat16 as our `auto` does."""

    def run() -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return call()

    return run


def _compare(seconds: dict[str, float]) -> dict[str, Any]:
    """Each of ours against the fastest peer of the same precision ("auto" against all), as a ratio of times."""
    peers = {name: value for name, value in seconds.items() if not name.startswith(OURS)}
    ours = {name: value for name, value in seconds.items() if name.startswith(OURS)}
    ratios = {}
    for name, value in ours.items():
        rivals = {peer: time for peer, time in peers.items() if not name.endswith("float32") or "bfloat16" not in peer}
        if rivals:
            best = min(rivals, key=rivals.__getitem__)
            ratios[name] = {"fastest_peer": best, "times_faster": round(rivals[best] / value, 3)}
    return {"comparison": ratios}


def _take_medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def _measure_cpu() -> float:
    """CPU seconds of this process and of the processes that it has waited for."""
    import resource

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
