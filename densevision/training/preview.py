"""Images of a run: its first batches with their labels, its answers beside the truth, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.plots import curves
from densevision.inference.loader import Collate, EpochBatches
from densevision.io.image import to_display, write_image
from densevision.results import Result
from densevision.run_folder import RunFolder
from densevision.sample import Sample
from densevision.tasks.base import Task

BATCHES = 2
IMAGES = 16
EXAMPLES = 8
"""Validation samples whose answers are drawn."""


def draw_batches(folder: Path, task: Task, loader: DataLoader) -> None:
    """Draws the first training batches as the network will see them, with their truth."""
    dataset, batches = loader.dataset, loader.batch_sampler
    assert isinstance(batches, EpochBatches)
    for number, picks in zip(range(BATCHES), batches):
        batch = Collate(task)([dataset[pick] for pick in picks[:IMAGES]])
        images = next(iter(batch.inputs.values()))
        # A batch of several sizes is padded to the largest, and each truth is of its own canvas.
        own = [image[:, : view.size[0], : view.size[1]] for image, view in zip(images, batch.views)]
        drawn = [_drawn(task, image, truth) for image, truth in zip(own, batch.ground_truths)]
        captions = [str(identity) for identity in batch.ids]
        write_image(folder / f"{number}.jpg", contact_sheet(drawn, captions))


def draw_answers(file: Path, shown: Sequence[tuple[Sample, Result]]) -> None:
    """Draws validation images in rows: as they are, with the answer, and with the truth."""
    drawn, captions = [], []
    for sample, result in shown:
        image = to_display(next(iter(sample.images.values())))
        drawn += [image, result.beside(sample.truth, image), sample.truth.overlay(image)]
        captions += [str(sample.id), "answer", "truth"]
    if drawn:
        write_image(file, contact_sheet(drawn, captions, columns=3 if len(shown) < 4 else 6))


def draw_curves(folder: RunFolder) -> None:
    """Draws losses, metrics and rate over the epochs."""
    rows = folder.rows()
    columns = {name: [float(row.get(name) or "nan") for row in rows] for name in (rows[0] if rows else {})}
    if len(rows) > 1:
        curves(folder.plots / "curves.png", columns)


def _drawn(task: Task, tensor: Tensor, truth) -> np.ndarray:
    image = (tensor[:3].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return image if truth is None else task.draw(image, truth)
