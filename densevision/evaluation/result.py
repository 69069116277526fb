"""A evaluation that can be looked into: numbers, what they came from, and any of its images again. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.evaluation.report import Report
from densevision.inference.progress import Progress, silent
from densevision.io.image import read_image, to_display
from densevision.io.image_files import list_images
from densevision.io.weights import Card
from densevision.metrics.scoring import Judge, OnError, Scoring
from densevision.results import Detections, Result
from densevision.results.detections import SURE
from densevision.tasks import load_files, scoring_options


@dataclass(frozen=True)
class Example:
    """One image with its answer and its truth.

    Attributes:
        id: Its name.
        image: (H, W, 3) uint8 RGB; None where nobody has it.
        answer: What was answered.
        truth: What is true.
    """

    id: str
    image: np.ndarray | None
    answer: Result
    truth: Result

    def canvas(self) -> np.ndarray:
        """What answers are drawn on: the image, or black of the answer's size."""
        return np.zeros((*self.truth.size, 3), np.uint8) if self.image is None else self.image


@dataclass(frozen=True)
class EvaluationResult:
    """One evaluation, from a model or from files.

    Attributes:
        report: The numbers.
        metric: What they came from.
        examples: Names of images -> those images again, in that order, one at a time.
        origin: Who answered what, for headings.
        card: Of the weights, where a model answered.
    """

    report: Report
    metric: Judge
    examples: Callable[[Sequence[str]], Iterable[Example]]
    origin: str
    card: Card | None = None

    def ranked(self) -> tuple[str, list[tuple[str, float]]]:
        """The headline number that images have of their own, and the images from the worst to the best.

        Images for which it is not defined are left out.
        """
        from densevision.metrics.metric_info import metric_info

        images = self.metric.per_image()
        each = images.each()
        name = next((name for name in self.report.metrics if name in each), "")
        values = each.get(name, np.zeros(0))
        known = np.flatnonzero(~np.isnan(values)) if name else np.zeros(0, int)
        order = known[
            np.argsort(values[known] if metric_info(name).higher_is_better else -values[known], kind="stable")
        ]
        return name, [(images.ids[place], float(values[place])) for place in order]


def score_files_detailed(
    task: str,
    truth: Path,
    predictions: Path,
    on_error: OnError = "fail",
    images: Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> EvaluationResult:
    """Judges prediction files so that they can be looked into; the numbers are those of `score`.

    Args:
        task: Name of the task.
        truth: What is true.
        predictions: What was predicted.
        on_error: See `metrics.scoring.Scoring`.
        images: Folder of the reader, found by the names of the truth; to be drawn on.
        set: See `tasks.scoring_options`.
    """
    scoring: Scoring = load_files(task)(truth, predictions, on_error, **scoring_options(task, set))
    report = Report(task=task, **scoring.report())
    reader = _Images(images)

    def examples(ids: Sequence[str]) -> Iterator[Example]:
        for id, answer, true in scoring.pairs(ids):
            yield Example(id, reader.read(id, true), answer, true)

    return EvaluationResult(report, scoring.metric, examples, f"{predictions} against {truth}")


class _Images:
    """Images of a folder by the names that truths have."""

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

    def read(self, id: str, truth: Result) -> np.ndarray | None:
        """(H, W, 3) uint8, or None where there is none of the truth's size, unless the truth is an image itself."""
        path = Path(id)
        keys = (id, path.with_suffix("").as_posix(), path.name, path.stem)
        file = next((self.files[key] for key in keys if key in self.files), None)
        image = None if file is None else to_display(read_image(file))
        fits = image is None or image.shape[:2] == tuple(truth.size) or hasattr(truth, "image")
        return image if fits else None


def every(evaluation_result: EvaluationResult, progress: Progress = silent) -> Iterator[Example]:
    """All images that were judged, under a bar where `progress` draws one."""
    ids = evaluation_result.metric.per_image().ids
    for _, look in zip(progress(ids, "looking at errors"), evaluation_result.examples(ids)):
        yield look


def side_by_side(look: Example, others: Iterable[tuple[str, Result]] = ()) -> tuple[list[np.ndarray], list[str]]:
    """An image, its truth, its answer and where that is wrong; further answers behind it. Images and captions.

    Numbers have the same colors in truth and answers.
    """
    from densevision.draw.fields import draw_errors
    from densevision.metrics.error_maps import error_map

    canvas = look.canvas()
    drawn, captions = ([look.image], ["image"]) if look.image is not None else ([], [])
    drawn.append(look.truth.overlay(canvas))
    captions.append("truth")
    for caption, answer in (("answer", look.answer), *others):
        drawn.append(answer.beside(look.truth, canvas))
        sure = f", scores from {SURE:g}" if isinstance(answer, Detections) else ""
        captions.append(f"{caption}{sure}")
        errors = error_map(answer, look.truth)
        if errors is not None:
            drawn.append(draw_errors(errors.values, errors.known, errors.limit))
            captions.append(errors.caption)
    return drawn, captions
