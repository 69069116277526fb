"""The Ray cluster: the one that RAY_ADDRESS names, or one on this machine. No dashboard, no reports to Ray's makers."""

from __future__ import annotations

import logging
import os
from typing import Any

from densevision.errors import UsageError
from densevision.optional_packages import import_optional
from densevision.telemetry import disable_telemetry

__all__ = ["Resources", "connect_to_ray"]

ACTOR_CPUS, TASK_CPUS = 0.75, 0.25
"""Cores that a worker and a reader reserve where processors compute the network: a machine with one core has room for
one of each, and what the worker leaves is for reading."""
GPU_ACTOR_CPUS, GPU_TASK_CPUS = 1.0, 1.0
"""The same where GPUs compute it: readers then need whole cores."""


def connect_to_ray() -> Any:
    """Returns the module `ray`, connected.

    A program that has called `ray.init` stays connected as it is. Otherwise RAY_ADDRESS names the cluster; without it,
    a cluster on this machine starts and ends with the program, on the loopback address.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    disable_telemetry()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors that matter are raised; the others only alarm
    ray = import_optional("ray", "engine=ray")
    import_optional("ray.data", "engine=ray")
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"address": address} if address else _local_options()
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            hint = "RAY_ADDRESS must name a running cluster, such as auto or HOST:6379."
            raise UsageError(f"no Ray cluster: {error}", field="RAY_ADDRESS", value=address, hint=hint) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray


def _local_options() -> dict[str, Any]:
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers beside any other program
    return {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}


class Resources:
    """What each stage reserves.

    Args:
        ray: The module, connected.
        workers: Number of workers; by default one per GPU share, or one per core without GPUs.
        gpus_per_worker: GPUs of a worker, also a fraction; by default 1 where the cluster has any, else 0.

    Raises:
        UsageError: The cluster has not as many GPUs or cores.
    """

    def __init__(self, ray: Any, workers: int | None, gpus_per_worker: float | None):
        present = ray.cluster_resources()
        cpus, gpus = present.get("CPU", 0.0), present.get("GPU", 0.0)
        self.gpus = (1.0 if gpus else 0.0) if gpus_per_worker is None else float(gpus_per_worker)
        self.worker_cpus, self.task_cpus = (GPU_ACTOR_CPUS, GPU_TASK_CPUS) if self.gpus else (ACTOR_CPUS, TASK_CPUS)
        limit = int(gpus // self.gpus) if self.gpus else int(cpus)
        self.workers = max(1, limit) if workers is None else workers
        if self.workers > limit:
            kind = f"{gpus:g} GPUs" if self.gpus else f"{cpus:g} cores"
            hint = "Give fewer workers, or a smaller share of a GPU to each."
            raise UsageError(f"the cluster has {kind}", field="workers", value=self.workers, hint=hint)
