"""Gives weights whose batch norms were folded into convolutions the statistics that training needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from densevision.inference.loader import make_training_loader
from densevision.nn.folded_norms import find_folded_norms, unfold_norms
from densevision.nn.model import Model
from densevision.sample import Batch, SampleSet
from densevision.tasks.base import Task

__all__ = ["unfold_model_norms"]

log = logging.getLogger("densevision")

IMAGES = 64
"""Statistics of a channel are means over millions of pixels of so many images."""


def unfold_model_norms(task: Task, model: Model, samples: SampleSet, device: torch.device) -> int:
    """Measures the statistics of folded batch norms on augmented training images, and says so.

    Args:
        task: Augments the images; all processes read the same ones.
        model: The model with its first weights; it is moved to the device.
        samples: The training split.
        device: Where to compute.

    Returns:
        Number of norms that were measured; 0 where none is folded.
    """
    names = find_folded_norms(model)
    if not names:
        return 0
    loader = make_training_loader(task, samples, 0)
    images = 0

    def read_batches() -> Iterator[Batch]:
        nonlocal images
        for batch in loader:
            images += len(batch)
            yield batch
            if images >= IMAGES:
                return

    model.to(device)
    unfold_norms(model, names, read_batches(), lambda batch: model(**batch.to(device).inputs))
    log.warning(
        "%d batch norms of the weights were folded into convolutions: their mean and variance were measured on %d "
        "training images; predictions stay the same",
        len(names),
        images,
    )
    return len(names)
