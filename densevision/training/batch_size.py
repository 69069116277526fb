"""`batch: auto`: the largest power of two whose training step fits the memory."""

from __future__ import annotations

import torch

from densevision.inference.device import autocast, pick_precision
from densevision.inference.loader import Collate
from densevision.inference.memory import free_bytes, peak_megabytes
from densevision.inference.seed import seed_everything
from densevision.sample import SampleSet
from densevision.tasks.base import Task

LARGEST = 256
SHARE = 0.6
"""Part of the free memory that a step may take; the rest is for the loader, the optimizer and fragmentation."""


def find_batch(task: Task, samples: SampleSet, device: torch.device) -> int:
    """Tries 2, 4, 8, ... on copies of real samples until memory or data end.

    On a GPU each size is tried; on the CPU the growth from one size to the next tells when to stop, since an
    exhausted machine would not say so but stall.
    """
    import numpy as np

    seed_everything(task.config.train.seed)
    net = task.net().to(device).train()
    training_modules = task.training_modules()
    training_modules = training_modules.to(device) if training_modules is not None else None
    free, fitting, before = free_bytes(device), 1, peak_megabytes(device)
    collate = Collate(task)
    while fitting * 2 <= min(LARGEST, len(samples)):
        size = fitting * 2
        picked = [task.augment(samples, i % len(samples), np.random.default_rng(i), 0) for i in range(size)]
        try:
            _step(task, net, training_modules, collate(picked).to(device))
        except torch.OutOfMemoryError:
            break
        used = (peak_megabytes(device) - before) * 2**20
        if used > SHARE * free:
            break
        fitting = size
        if 2 * used > SHARE * free:
            break
    return fitting


def _step(task: Task, net: torch.nn.Module, training_modules: torch.nn.Module | None, batch) -> None:
    device = next(net.parameters()).device
    for optimizer_name in task.optimizer_names:
        with autocast(device, pick_precision(task.config.train.precision, device)):
            losses = task.losses(net, batch, training_modules, optimizer_name)
        sum(losses.values()).backward()
    net.zero_grad(set_to_none=True)
