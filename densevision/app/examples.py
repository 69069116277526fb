"""Synthetic scenes as image files, for those who have no image at hand."""

from __future__ import annotations

from pathlib import Path

from densevision.io.image import write_image
from densevision.opened_dataset import open_dataset

__all__ = ["write_examples"]

COUNT = 3
"""Number of scenes for tasks of single images."""
PAIRS = 1
"""Number of scenes for tasks of several images, whose files form one sequence."""


def write_examples(task: str, seed: int, folder: Path) -> list[Path]:
    """Renders scenes of a task and writes their images.

    Args:
        task: Name of the task.
        seed: Seed of the scenes; the same seed gives the same images.
        folder: Where the files go.

    Returns:
        The files: `COUNT` images, or one pair for tasks of pairs.
    """
    samples = open_dataset(task, f"scenes:{5 * COUNT}:{seed}", split="val")
    is_pair = len(samples[0].images) > 1 and task == "flow"
    files = []
    for index in range(PAIRS if is_pair else COUNT):
        images = list(samples[index].images.values())
        for number, image in enumerate(images if is_pair else images[:1]):
            ending = f"-{number + 1}" if is_pair else ""
            path = folder / f"scene-{seed}-{index + 1}{ending}.png"
            write_image(path, image)
            files.append(path)
    return files
