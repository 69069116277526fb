"""Default options that follow the size of the dataset and the machine."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Set
from typing import Any, TypeVar

from densevision.run_config import TaskConfig

__all__ = ["autoscale_defaults", "count_cores"]

C = TypeVar("C", bound=TaskConfig)

REFERENCE_IMAGES = 1000
"""Up to here the config's number of epochs; beyond, it falls with the square root of the number of images."""
MIN_EPOCHS = 12
MIN_STEPS_PER_EPOCH = 8
"""Batches are small enough for so many steps per epoch."""
MIN_IMAGES_FOR_WORKERS = 200
"""Smaller datasets are read by the training process itself."""
MAX_WORKERS = 8


def autoscale_defaults(config: C, given: Set[str], images: int) -> tuple[C, dict[str, Any]]:
    """Adapts epochs, batch size and workers to the dataset and the machine.

    Args:
        config: A resolved config.
        given: Dotted names of the options that were given explicitly; they are not changed.
        images: Samples in the training split.

    Returns:
        The config, and the changed options by dotted names.
    """
    train = config.train
    current = {"train.epochs": train.epochs, "train.batch": train.batch, "data.workers": config.data.workers}
    adapted = {
        "train.epochs": _scale_epochs(train.epochs, images),
        "train.batch": train.batch if train.batch == "auto" else _scale_batch(train.batch, images),
        "data.workers": _choose_workers(images),
    }
    changes = {name: value for name, value in adapted.items() if name not in given and value != current[name]}
    settings = {name.replace(".", "__"): value for name, value in changes.items()}
    return (config.replace(**settings) if settings else config), changes


def count_cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _scale_epochs(epochs: int, images: int) -> int:
    if images <= REFERENCE_IMAGES:
        return epochs
    return min(epochs, max(MIN_EPOCHS, round(epochs * math.sqrt(REFERENCE_IMAGES / images))))


def _scale_batch(batch: int, images: int) -> int:
    """The largest power of two, from 2 to the config's batch, that leaves enough steps in an epoch."""
    if images >= MIN_STEPS_PER_EPOCH * batch:
        return batch
    return min(batch, 2 ** max(1, int(math.log2(max(1, images // MIN_STEPS_PER_EPOCH)))))


def _choose_workers(images: int) -> int:
    """Leaves one core to the model. Workers that are not forked would run the user's script again."""
    if images < MIN_IMAGES_FOR_WORKERS or multiprocessing.get_start_method() != "fork":
        return 0
    return min(MAX_WORKERS, count_cores() - 1)
