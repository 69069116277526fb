"""Several processes as one: who am I, and what did the others find."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


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
