"""Defaults that follow the size of the data and the machine, for options that nobody has set."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Set
from typing import Any, TypeVar

from densevision.run_config import TaskConfig

C = TypeVar("C", bound=TaskConfig)

IMAGES = 1000
"""Up to here the config's own number of epochs; beyond, it falls with the root of the number of images."""
LEAST_EPOCHS = 12
UPDATES = 8
"""A batch is small enough for so many updates per epoch."""
WORTHWHILE = 200
"""Fewer images are read by the training process itself."""
MOST_WORKERS = 8


def autoscale_defaults(config: C, given: Set[str], images: int) -> tuple[C, dict[str, Any]]:
    """The config with defaults that suit the data and the machine.

    Args:
        config: A resolved config.
        given: Dotted names of the options that were set; they stay as they are.
        images: Samples of the training split.

    Returns:
        The config, and what was changed in it by dotted names.
    """
    train = config.train
    wanted = {
        "train.epochs": _epochs(train.epochs, images),
        "train.batch": train.batch if train.batch == "auto" else _batch(train.batch, images),
        "data.workers": _workers(images),
    }
    now = {"train.epochs": train.epochs, "train.batch": train.batch, "data.workers": config.data.workers}
    changes = {name: value for name, value in wanted.items() if name not in given and value != now[name]}
    settings = {name.replace(".", "__"): value for name, value in changes.items()}
    return (config.changed(**settings) if settings else config), changes


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _epochs(usual: int, images: int) -> int:
    if images <= IMAGES:
        return usual
    return min(usual, max(LEAST_EPOCHS, round(usual * math.sqrt(IMAGES / images))))


def _batch(usual: int, images: int) -> int:
    """The largest power of two, from 2 to the usual batch, that leaves enough updates in an epoch."""
    if images >= UPDATES * usual:
        return usual
    return min(usual, 2 ** max(1, int(math.log2(max(1, images // UPDATES)))))


def _workers(images: int) -> int:
    """One core stays for the network. Only forked workers start without running a person's script again."""
    if images < WORTHWHILE or multiprocessing.get_start_method() != "fork":
        return 0
    return min(MOST_WORKERS, cores() - 1)
