"""An evaluation with access to single images: the numbers, the metric they come from, and every example on demand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.evaluation.report import Report
from densevision.inference.progress import Progress, hide_progress
from densevision.io.image import read_image, to_display
from densevision.io.image_files import list_images
from densevision.io.weights import Card
from densevision.metrics.metric import Metric
from densevision.metrics.scoring import OnError, Scoring
from densevision.results import Detections, Result
from densevision.results.detections import COMPARISON_THRESHOLD
from densevision.tasks import get_metric_info, get_scoring_options, load_files

__all__ = ["EvaluationResult", "Example", "draw_side_by_side", "iterate_examples", "score_detailed"]


@dataclass(frozen=True)
class Example:
    """One image with its prediction and its ground truth.

    Attributes:
        image_id: The image's name.
        image: (H, W, 3) uint8 RGB; None if it is not available.
        prediction: The prediction.
        truth: The ground truth.
    """

    image_id: str
    image: np.ndarray | None
    prediction: Result
    truth: Result

    @property
    def caption(self) -> str:
        """The file of the image, with its id where that says something else."""
        if not isinstance(self.truth.source, (str, os.PathLike)):
            return self.image_id
        name = Path(self.truth.source).name
        return name if Path(self.image_id).stem == Path(name).stem else f"{name} ({self.image_id})"

    def canvas(self) -> np.ndarray:
        """What results are drawn on: the image, or black of the ground truth's size."""
        return np.zeros((*self.truth.size, 3), np.uint8) if self.image is None else self.image


@dataclass(frozen=True)
class EvaluationResult:
    """The evaluation of a model or of prediction files.

    Attributes:
        report: The numbers.
        metric: The metric that they come from.
        examples: Image ids -> their examples, in that order, one at a time.
        origin: What was evaluated on which data, for headings.
        card: Card of the weights, if a model was evaluated.
    """

    report: Report
    metric: Metric
    examples: Callable[[Sequence[str]], Iterable[Example]]
    origin: str
    card: Card | None = None

    def __repr__(self) -> str:
        return f"EvaluationResult({self.origin}: {self.report!r})"

    def rank_images(self) -> tuple[str, list[tuple[str, float]]]:
        """The first headline metric that single images have, and (image id, value) from the worst to the best.

        Images for which it is undefined are left out.
        """
        images = self.metric.per_image()
        columns = images.compute_each()
        name = next((name for name in self.report.metrics if name in columns), "")
        if not name:
            return name, []
        values = columns[name]
        rows = np.flatnonzero(~np.isnan(values))
        sign = 1 if get_metric_info(self.report.task, name).higher_is_better else -1
        rows = rows[np.argsort(sign * values[rows], kind="stable")]
        return name, [(images.ids[row], float(values[row])) for row in rows]


def score_detailed(
    task: str,
    truth: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    on_error: OnError = "fail",
    images: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """Scores prediction files with access to single images; the numbers are those of `score`.

    Args:
        task: Name of the task.
        truth: Ground truth files.
        predictions: Prediction files.
        on_error: See `metrics.scoring.Scoring`.
        images: Folder of the images to draw on, found by the names of the ground truths.
        overrides: See `tasks.get_scoring_options`.

    Raises:
        DataError: Files cannot be read or compared.
        UsageError: An option has no effect.
    """
    scoring: Scoring = load_files(task)(
        Path(truth), Path(predictions), on_error, **get_scoring_options(task, overrides)
    )
    report = Report(task=task, **scoring.report())
    folder = _ImageFolder(None if images is None else Path(images))

    def examples(ids: Sequence[str]) -> Iterator[Example]:
        for image_id, prediction, target in scoring.pairs(ids):
            yield Example(image_id, folder.read(image_id, target), prediction, target)

    return EvaluationResult(report, scoring.metric, examples, f"{predictions} against {truth}")


class _ImageFolder:
    """Images of a folder by the names of ground truths."""

    def __init__(self, folder: Path | None):
        self.files: dict[str, Path] = {}
        if folder is None:
            return
        if not folder.is_dir():
            raise DataError("there is no such folder", file=folder, hint="Give the folder of the images.")
        for name in list_images(folder):
            path = Path(name)
            for key in (path.stem, path.with_suffix("").as_posix()):
                self.files[key] = folder / path

    def read(self, image_id: str, truth: Result) -> np.ndarray | None:
        """(H, W, 3) uint8; None if there is no image of the ground truth's size, unless that is an image itself."""
        path = Path(image_id)
        keys = (image_id, path.with_suffix("").as_posix(), path.name, path.stem)
        file = next((self.files[key] for key in keys if key in self.files), None)
        if file is None:
            return None
        image = to_display(read_image(file))
        return image if image.shape[:2] == tuple(truth.size) or hasattr(truth, "image") else None


def iterate_examples(evaluation: EvaluationResult, progress: Progress = hide_progress) -> Iterator[Example]:
    """All evaluated images, behind a progress bar if `progress` draws one."""
    ids = evaluation.metric.per_image().ids
    for _, example in zip(progress(ids, "analyzing errors"), evaluation.examples(ids)):
        yield example


def draw_side_by_side(
    example: Example, others: Iterable[tuple[str, Result]] = ()
) -> tuple[list[np.ndarray], list[str]]:
    """An image, its ground truth, its prediction and the prediction's errors, as panels and captions.

    Numbers have the same colors in all panels.

    Args:
        example: The image.
        others: (caption, prediction) of further predictions, drawn behind.
    """
    from densevision.draw.fields import draw_errors
    from densevision.metrics.error_maps import compute_error_map

    canvas = example.canvas()
    panels, captions = ([example.image], ["image"]) if example.image is not None else ([], [])
    panels.append(example.truth.overlay(canvas))
    captions.append("ground truth")
    for caption, prediction in (("prediction", example.prediction), *others):
        panels.append(prediction.overlay_for_comparison(example.truth, canvas))
        captions.append(
            f"{caption}, scores from {COMPARISON_THRESHOLD:g}" if isinstance(prediction, Detections) else caption
        )
        errors = compute_error_map(prediction, example.truth)
        if errors is not None:
            panels.append(draw_errors(errors.values, errors.known, errors.limit))
            captions.append(errors.caption)
    return panels, captions
