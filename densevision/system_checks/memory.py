"""Memory: what is available to this process, and the shared memory of data workers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_memory"]

GIB = 2**30
MIN_AVAILABLE_GIB = 1.0
"""Below, even the smallest training may be killed."""
COMFORTABLE_GIB = 3.0
MIN_SHARED_GIB = 0.5
"""Batches travel from worker processes through shared memory; containers often have 64 MiB."""
SHARED_MEMORY = Path("/dev/shm")
MEMORY_INFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def check_memory() -> Iterator[SystemFinding]:
    """Checks the available memory, limits of containers included."""
    available = measure_available_bytes()
    if available is None:
        yield SystemFinding("memory", "ok", "the system does not tell how much is available")
    elif available < MIN_AVAILABLE_GIB * GIB:
        hint = "Close other programs, or raise the memory limit of the container."
        yield SystemFinding("memory", "error", f"{available / GIB:.1f} GiB available", hint)
    elif available < COMFORTABLE_GIB * GIB:
        hint = "Use small batches: --batch 1, train.batch=2."
        yield SystemFinding("memory", "warning", f"{available / GIB:.1f} GiB available", hint)
    else:
        yield SystemFinding("memory", "ok", f"{available / GIB:.1f} GiB available")
    if SHARED_MEMORY.is_dir():
        size = shutil.disk_usage(SHARED_MEMORY).total
        if size < MIN_SHARED_GIB * GIB:
            message = f"{SHARED_MEMORY} holds {size / 2**20:.0f} MiB, too little for batches of data workers"
            hint = "Start the container with --shm-size=2g, or set data.workers=0."
            yield SystemFinding("shared memory", "warning", message, hint)


def measure_available_bytes() -> int | None:
    """Bytes that this process can still allocate; None where the system does not tell."""
    amounts = [amount for amount in (_read_available(), _read_cgroup_room()) if amount is not None]
    return min(amounts, default=None)


def _read_available() -> int | None:
    if MEMORY_INFO.exists():
        for line in MEMORY_INFO.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _read_cgroup_room() -> int | None:
    """What the container's limit leaves (cgroup version 2); file caches are not counted as used."""
    limit, current, statistics = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if not (limit.exists() and current.exists()) or limit.read_text().strip() == "max":
        return None
    cached = 0
    if statistics.exists():
        rows = dict(line.split() for line in statistics.read_text().splitlines())
        cached = int(rows.get("inactive_file", 0))
    return max(0, int(limit.read_text()) - int(current.read_text()) + cached)
