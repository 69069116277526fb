"""Threads: torch's against the cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_threads"]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MIN_CORES_FOR_ONE_THREAD_WARNING = 4


def check_threads() -> Iterator[SystemFinding]:
    """Compares the numbers of threads and cores."""
    import torch

    cores, threads = count_usable_cores(), torch.get_num_threads()
    text = f"{threads} threads of torch on {cores} usable cores"
    setting = os.environ.get("OMP_NUM_THREADS")
    if threads > cores:
        hint = f"They wait for each other: set OMP_NUM_THREADS={cores}."
        yield SystemFinding("threads", "warning", text, hint)
    elif threads == 1 and cores >= MIN_CORES_FOR_ONE_THREAD_WARNING:
        reason = f"OMP_NUM_THREADS is {setting}" if setting else "torch was built without OpenMP"
        yield SystemFinding("threads", "warning", f"{text}: {reason}", f"Set OMP_NUM_THREADS={cores}.")
    else:
        yield SystemFinding("threads", "ok", text)


def count_usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of a container (cgroup version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if CPU_QUOTA.exists():
        quota, period = CPU_QUOTA.read_text().split()[:2]
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores
