"""Several processes as one: who am I, and what did the others find."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

RUN = "DENSEVISION_RUN"
"""Environment variable in which the first process tells those that Lightning starts for it where the run is."""


def launched_rank() -> int:
    """Number of this process as its launcher says, before processes have met; 0 when there is no launcher."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def run_to_join() -> Path | None:
    """The run that this process was started to help with, or None where it runs its own."""
    return Path(os.environ[RUN]) if launched_rank() and RUN in os.environ else None


def rank_and_world() -> tuple[int, int]:
    """Number of this process and how many there are; (0, 1) when alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gathered(value: T) -> list[T]:
    """The value of every process, in the order of their numbers, in every process."""
    _, world = rank_and_world()
    if world == 1:
        return [value]
    values: list[T | None] = [None] * world
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]
