"""How much memory there is, and how much was used."""

from __future__ import annotations

import os
import resource
import sys

import torch


def peak_megabytes(device: torch.device) -> float:
    """Peak memory so far: of the GPU where it is used, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def free_bytes(device: torch.device) -> int:
    """Memory that is free now on the device, or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
