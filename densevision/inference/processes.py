"""Several processes that work on one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

__all__ = [
    "connect_processes",
    "find_run_to_join",
    "gather_objects",
    "get_launch_rank",
    "get_launch_world_size",
    "get_rank_and_world_size",
    "is_restarted",
    "join_launched_processes",
]

T = TypeVar("T")

GATHER_HOURS = 12
"""Hours that a process waits for the others. One that fails is noticed at once: torchrun ends all of them."""

RUN_VARIABLE = "DENSEVISION_RUN"
"""Environment variable that names the run folder to the processes that Fabric starts for the first one."""


def get_launch_rank() -> int:
    """Rank of this process as its launcher set it, before the process group exists; 0 without a launcher."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def get_launch_world_size() -> int:
    """Number of processes that torchrun started, on all machines; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_restarted() -> bool:
    """Whether torchrun started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def join_launched_processes() -> Iterator[None]:
    """Connects the processes that torchrun started while inside; does nothing in a process of its own, or connected."""
    if get_launch_world_size() == 1 or not dist.is_available() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # Objects are gathered by way of the CPU. A process may be slower than the others by the largest image.
    connect_processes("gloo", timedelta(hours=GATHER_HOURS))
    try:
        yield
    finally:
        dist.destroy_process_group()


def connect_processes(backend: str, timeout: timedelta | None = None) -> None:
    """Connects the processes that torchrun started, also after it has started them again.

    The key-value store of torchrun outlives the processes (PyTorch 2.14): each start has keys of its own, so that
    nobody finds the addresses of processes that have failed.

    Args:
        backend: As for `torch.distributed.init_process_group`.
        timeout: How long a process waits for the others; PyTorch's default without it.
    """
    from torch.distributed.distributed_c10d import PrefixStore  # absent from builds of torch without processes
    from torch.distributed.rendezvous import rendezvous

    store, rank, world_size = next(rendezvous("env://"))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        backend, store=PrefixStore(f"start_{start}", store), rank=rank, world_size=world_size, timeout=timeout
    )


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
