"""`train.batch: auto`: the largest power of two whose training step fits the memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from densevision.inference.device import autocast, pick_precision
from densevision.inference.loader import Collate
from densevision.inference.memory import get_free_bytes, measure_peak_megabytes
from densevision.inference.seed import seed_everything
from densevision.nn.model import Model
from densevision.sample import Batch, SampleSet
from densevision.tasks.base import Task

__all__ = ["find_batch_size"]

MAX_BATCH = 256
MEMORY_FRACTION = 0.6
"""Fraction of the free memory that a step may use; the rest is for the loader, the optimizer and fragmentation."""


def find_batch_size(task: Task, samples: SampleSet, device: torch.device) -> int:
    """Tries batch sizes of 2, 4, 8, ... with real samples until the memory or the dataset is exhausted.

    A GPU reports when its memory is exhausted. On the CPU the growth of the peak from one size to the next decides,
    since a machine without memory stalls instead of failing.
    """
    seed_everything(task.config.train.seed)
    model = task.build_model().to(device).train()
    training_modules = task.build_training_modules()
    training_modules = training_modules.to(device) if training_modules is not None else None
    free_bytes, start_megabytes = get_free_bytes(device), measure_peak_megabytes(device)
    budget = np.inf if free_bytes is None else MEMORY_FRACTION * free_bytes
    collate, batch_size = Collate(task), 1
    while batch_size * 2 <= min(MAX_BATCH, len(samples)):
        candidate = batch_size * 2
        augmented = [task.augment(samples, i % len(samples), np.random.default_rng(i), 0) for i in range(candidate)]
        try:
            _run_step(task, model, training_modules, collate(augmented).to(device))
        except torch.OutOfMemoryError:
            break
        used_bytes = (measure_peak_megabytes(device) - start_megabytes) * 2**20
        if used_bytes > budget:
            break
        batch_size = candidate
        if 2 * used_bytes > budget:
            break
    return batch_size


def _run_step(task: Task, model: Model, training_modules: nn.Module | None, batch: Batch) -> None:
    device = next(model.parameters()).device
    for optimizer_name in task.optimizer_names:
        with autocast(device, pick_precision(task.config.train.precision, device)):
            losses = task.compute_losses(model, batch, training_modules, optimizer_name)
        torch.stack(list(losses.values())).sum().backward()
    model.zero_grad(set_to_none=True)
