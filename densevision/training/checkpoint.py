"""Checkpoints of a run: all state that resuming needs, as tensors and plain data."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import atomic_write
from densevision.io.weights import load_card
from densevision.run_folder import RunFolder

__all__ = ["check_checkpoint", "load_checkpoint", "save_checkpoint"]

log = logging.getLogger("densevision")


def save_checkpoint(fabric: Fabric, folder: RunFolder, state: dict[str, Any]) -> None:
    """Writes a checkpoint atomically. All processes call it; the first one writes."""
    if not fabric.is_global_zero:
        fabric.save(folder.checkpoint, state)
        return
    with atomic_write(folder.checkpoint) as temporary:
        fabric.save(temporary, state)


def load_checkpoint(fabric: Fabric, folder: RunFolder, state: dict[str, Any]) -> None:
    """Restores modules and optimizers in place, and replaces the plain data in `state`. Executes no code."""
    fabric.load(folder.checkpoint, state, weights_only=True)


def check_checkpoint(folder: RunFolder, module: nn.Module, images: int) -> None:
    """Checks that a checkpoint belongs to a module; warns where the dataset has changed.

    Args:
        folder: The run.
        module: The module that the config describes.
        images: Samples in the training split.

    Raises:
        DataError: The checkpoint is damaged.
        UsageError: It is of another model.
    """
    file = folder.checkpoint
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["module"]
        saved = {name: tensor.shape for name, tensor in state.items()}
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        pickle.UnpicklingError,
    ):
        hint = f"Start a new run from its weights: --set train.init_from={folder.last}"
        raise DataError("the checkpoint is damaged", file=file, hint=hint) from None
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    names = sorted(name for name in {*shapes, *saved} if shapes.get(name) != saved.get(name))
    if names:
        problem = "describes another model than the checkpoint of the run"
        hint = "Restore the options with which the run was started."
        raise UsageError(problem, file=folder.config, value=names[0], hint=hint)
    previous = load_card(folder.last).data.get("images") if folder.last.exists() else images
    if previous != images:
        log.warning("the run was started with %s training samples and continues with %d", previous, images)
