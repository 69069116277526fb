"""Images of a run: its first batches with labels, its predictions beside the ground truth, and its curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from densevision.draw.contact_sheet import make_contact_sheet
from densevision.draw.plots import plot_training_curves
from densevision.inference.loader import Collate, EpochBatchSampler
from densevision.io.image import to_display, write_image
from densevision.results import Result
from densevision.run_folder import RunFolder
from densevision.sample import Batch, Sample
from densevision.tasks.base import Task

__all__ = ["EXAMPLES", "draw_batches", "draw_curves", "draw_predictions"]

BATCHES = 2
IMAGES_PER_BATCH = 16
EXAMPLES = 8
"""Number of validation samples whose predictions are drawn."""


def draw_batches(folder: Path, task: Task, loader: DataLoader[Batch]) -> None:
    """Draws the first training batches as the model sees them, with their labels."""
    sampler = loader.batch_sampler
    assert isinstance(sampler, EpochBatchSampler)
    for number, keys in zip(range(BATCHES), sampler):
        samples: list[Sample] = [loader.dataset[key] for key in keys[:IMAGES_PER_BATCH]]  # type: ignore[misc]
        batch = Collate(task)(samples)
        images = next(iter(batch.inputs.values()))
        # A batch of several sizes is padded to the largest, and each ground truth belongs to its own canvas.
        crops = [image[:, : view.size[0], : view.size[1]] for image, view in zip(images, batch.views)]
        drawings = [_draw_input(task, image, truth) for image, truth in zip(crops, batch.target_records)]
        write_image(folder / f"{number}.jpg", make_contact_sheet(drawings, [str(sample_id) for sample_id in batch.ids]))


def draw_predictions(file: Path, examples: Sequence[tuple[Sample, Result]]) -> None:
    """Draws validation images in rows: the image, the prediction, and the ground truth."""
    drawings: list[np.ndarray] = []
    captions: list[str] = []
    for sample, result in examples:
        if sample.truth is None:
            continue
        image = to_display(next(iter(sample.images.values())))
        drawings += [image, result.overlay_for_comparison(sample.truth, image), sample.truth.overlay(image)]
        captions += [str(sample.id), "prediction", "ground truth"]
    if drawings:
        write_image(file, make_contact_sheet(drawings, captions, columns=3 if len(examples) < 4 else 6))


def draw_curves(folder: RunFolder) -> None:
    """Draws losses, metrics and learning rate over the epochs."""
    rows = folder.read_rows()
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(rows) > 1:
        table = {name: [float(row.get(name) or "nan") for row in rows] for name in names}
        plot_training_curves(folder.plots / "curves.png", table)


def _draw_input(task: Task, tensor: Tensor, truth: Result | None) -> np.ndarray:
    image = (tensor[:3].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return image if truth is None else task.draw(image, truth)
