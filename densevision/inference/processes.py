"""Several processes that work on one run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

__all__ = ["find_run_to_join", "gather_objects", "get_launch_rank", "get_rank_and_world_size"]

T = TypeVar("T")

RUN_VARIABLE = "DENSEVISION_RUN"
"""Environment variable that names the run folder to the processes that Fabric starts for the first one."""


def get_launch_rank() -> int:
    """Rank of this process as its launcher set it, before the process group exists; 0 without a launcher."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def find_run_to_join() -> Path | None:
    """Folder of the run that this process was started to take part in; None where it starts a run of its own."""
    return Path(os.environ[RUN_VARIABLE]) if get_launch_rank() and RUN_VARIABLE in os.environ else None


def get_rank_and_world_size() -> tuple[int, int]:
    """Rank of this process and the number of processes; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gather_objects(value: T) -> list[T]:
    """Gathers the value of every process in every process, ordered by rank."""
    _, world_size = get_rank_and_world_size()
    if world_size == 1:
        return [value]
    values: list[T | None] = [None] * world_size
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]
