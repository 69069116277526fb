"""Memory: what is free, and the peak that was used."""

from __future__ import annotations

import os
import sys

import torch

__all__ = ["get_free_bytes", "measure_peak_megabytes"]


def measure_peak_megabytes(device: torch.device) -> float:
    """Peak memory so far in MiB: of the GPU where one is used, else of this process; NaN where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    bytes_per_unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 2**20


def get_free_bytes(device: torch.device) -> int | None:
    """Bytes that are free now on the device or in the machine; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not hasattr(os, "sysconf") or "SC_AVPHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
