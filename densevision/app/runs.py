"""Runs for the page: what a run folder holds, and its best and worst validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision import api
from densevision.draw.contact_sheet import make_contact_sheet
from densevision.errors import DataError
from densevision.evaluation.evaluate import evaluate_model
from densevision.evaluation.result import EvaluationResult, draw_side_by_side
from densevision.file_info import info
from densevision.inference.progress import Progress
from densevision.io.image import read_image, to_display
from densevision.run_folder import RunFolder
from densevision.sample import FirstSamples
from densevision.tasks import load_config, load_task
from densevision.yaml_files import read_yaml

__all__ = ["Run", "list_images", "open_run", "rank_images"]

SHOWN = 4
"""Best and worst images that are drawn."""
PANEL_WIDTH = 360
NAMES = {"curves": "Curves", "predictions": "Validation images: prediction and ground truth"}
"""File name of a plot -> its heading; others are headed by their names."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: The folder.
        summary: What `densevision info` says: task, arch, data, epochs, best.
        columns: Names of the columns of its log.
        rows: The rows of its log, the last epoch first.
    """

    path: Path
    summary: dict[str, Any]
    columns: list[str]
    rows: list[list[str]]


def open_run(path: Path) -> Run:
    """Reads a run folder.

    Raises:
        UsageError: The folder holds no run.
        DataError: The run is damaged.
    """
    folder = RunFolder.open(path)
    rows = folder.read_rows()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(name, "") for name in columns] for row in reversed(rows)]
    return Run(path, info(path), columns, cells)


def list_images(path: Path) -> list[tuple[np.ndarray, str]]:
    """The images of a run with captions: its curves, first batches, predictions and plots of the last validation."""
    folder = RunFolder.open(path)
    files = [folder.plots / "curves.png", *sorted(folder.batches.glob("*.jpg")), *sorted(folder.plots.glob("*.*"))]
    images = []
    for file in dict.fromkeys(files):
        if file.exists() and file.suffix in (".png", ".jpg"):
            name = file.stem.replace("_", " ").capitalize()
            caption = f"Training batch {int(file.stem) + 1}" if file.parent == folder.batches else name
            images.append((to_display(read_image(file)), NAMES.get(file.stem, caption)))
    return images


def rank_images(
    path: Path, count: int, report_progress: Callable[[float, str], object] = lambda fraction, text: None
) -> tuple[str, list[tuple[np.ndarray, str]], list[tuple[np.ndarray, str]]]:
    """Evaluates the weights of a run on its first validation images, and draws the worst and the best.

    Args:
        path: The run folder.
        count: Number of images that are evaluated.
        report_progress: Called with the fraction that is done, and with a text.

    Returns:
        Name of the metric; worst and best images, each a row of image, ground truth, prediction and errors with its
        caption. The two lists have no image in common.

    Raises:
        DataError: The run has no weights yet, its dataset cannot be read, or no image has a metric of its own.
    """
    weights = info(path)["weights"]
    if weights is None:
        raise DataError("the run has no weights yet", file=path, hint="Wait for its first epoch.")
    task = str(read_yaml(RunFolder(path).config).get("task"))
    predictor = api.load(weights, task)
    predictor.task = load_task(task)(load_config(task).resolve(RunFolder(path).config))
    samples = FirstSamples(predictor.task.open_dataset("val"), count)
    evaluation = evaluate_model(
        predictor, samples, predictor.task.evaluation_options(), progress=_make_progress(len(samples), report_progress)
    )
    name, ranked = evaluation.rank_images()
    if not ranked:
        raise DataError("no image has a metric of its own", file=path)
    worst = ranked[: min(SHOWN, -(-len(ranked) // 2))]
    best = ranked[::-1][: min(SHOWN, len(ranked) - len(worst))]
    drawn = [list(_draw_examples(evaluation, name, dict(part))) for part in (worst, best)]
    return name, drawn[0], drawn[1]


def _draw_examples(
    evaluation: EvaluationResult, name: str, values: Mapping[str, float]
) -> Iterator[tuple[np.ndarray, str]]:
    for example in evaluation.examples(list(values)):
        images, captions = draw_side_by_side(example)
        sheet = make_contact_sheet(images, captions, columns=len(images), width=PANEL_WIDTH * len(images))
        yield sheet, f"{example.caption}: {name} {values[example.image_id]:.4g}"


def _make_progress(count: int, report: Callable[[float, str], object]) -> Progress:
    """A progress bar as `evaluate_model` takes it, which reports to the page."""

    def wrap(items: Iterable[Any], title: str) -> Iterator[Any]:
        for number, item in enumerate(items):
            report(min(1.0, number / max(1, count)), f"{title} image {number + 1} of {count}")
            yield item

    return wrap
