"""Pictures of a run: its first batches with their labels, its answers beside the truth, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from densevision.draw.plots import curves
from densevision.draw.sheet import contact_sheet
from densevision.engine.loader import Collate, EpochBatches
from densevision.engine.run_folder import RunFolder
from densevision.io.image import to_display, write_image
from densevision.results import Result
from densevision.sample import Sample
from densevision.tasks.contract import Task

BATCHES = 2
PICTURES = 16
EXAMPLES = 8
"""Validation samples whose answers are drawn."""


def draw_batches(folder: Path, task: Task, loader: DataLoader) -> None:
    """Draws the first training batches as the network will see them, with their truth."""
    dataset, batches = loader.dataset, loader.batch_sampler
    assert isinstance(batches, EpochBatches)
    for number, picks in zip(range(BATCHES), batches):
        batch = Collate(task)([dataset[pick] for pick in picks[:PICTURES]])
        pictures = next(iter(batch.inputs.values()))
        # A batch of several sizes is padded to the largest, and each truth is of its own canvas.
        own = [picture[:, : view.size[0], : view.size[1]] for picture, view in zip(pictures, batch.views)]
        drawn = [_drawn(task, picture, truth) for picture, truth in zip(own, batch.truths)]
        captions = [str(identity) for identity in batch.ids]
        write_image(folder / f"{number}.jpg", contact_sheet(drawn, captions))


def draw_answers(file: Path, shown: Sequence[tuple[Sample, Result]]) -> None:
    """Draws validation pictures in rows: as they are, with the answer, and with the truth."""
    drawn, captions = [], []
    for sample, result in shown:
        picture = to_display(next(iter(sample.images.values())))
        drawn += [picture, result.beside(sample.truth, picture), sample.truth.overlay(picture)]
        captions += [str(sample.id), "answer", "truth"]
    if drawn:
        write_image(file, contact_sheet(drawn, captions, columns=3 if len(shown) < 4 else 6))


def draw_curves(folder: RunFolder) -> None:
    """Draws losses, metrics and rate over the epochs."""
    rows = folder.rows()
    columns = {name: [float(row.get(name) or "nan") for row in rows] for name in (rows[0] if rows else {})}
    if len(rows) > 1:
        curves(folder.plots / "curves.png", columns)


def _drawn(task: Task, picture: Tensor, truth) -> np.ndarray:
    image = (picture[:3].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return image if truth is None else task.draw(image, truth)
