"""A judgement that can be looked into: numbers, what they came from, and any of its pictures again. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.engine.progress import Progress, silent
from densevision.engine.report import Report
from densevision.errors import DataError
from densevision.io.image import read_image, to_display
from densevision.io.pictures import list_pictures
from densevision.io.weights import Card
from densevision.metrics.scoring import Judge, OnError, Scoring
from densevision.results import Detections, Result
from densevision.results.detections import SURE
from densevision.tasks import load_files, scoring_options


@dataclass(frozen=True)
class Look:
    """One picture with its answer and its truth.

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
        """What answers are drawn on: the picture, or black of the answer's size."""
        return np.zeros((*self.truth.size, 3), np.uint8) if self.image is None else self.image


@dataclass(frozen=True)
class Judgement:
    """One evaluation, from a model or from files.

    Attributes:
        report: The numbers.
        metric: What they came from.
        looks: Names of pictures -> those pictures again, in that order, one at a time.
        origin: Who answered what, for headings.
        card: Of the weights, where a model answered.
    """

    report: Report
    metric: Judge
    looks: Callable[[Sequence[str]], Iterable[Look]]
    origin: str
    card: Card | None = None

    def ranked(self) -> tuple[str, list[tuple[str, float]]]:
        """The headline number that pictures have of their own, and the pictures from the worst to the best.

        Pictures for which it is not defined are left out.
        """
        from densevision.metrics.glossary import meaning

        pictures = self.metric.by_picture()
        each = pictures.each()
        name = next((name for name in self.report.metrics if name in each), "")
        values = each.get(name, np.zeros(0))
        known = np.flatnonzero(~np.isnan(values)) if name else np.zeros(0, int)
        order = known[np.argsort(values[known] if meaning(name).rising else -values[known], kind="stable")]
        return name, [(pictures.ids[place], float(values[place])) for place in order]


def judge_files(
    task: str,
    truth: Path,
    predictions: Path,
    on_error: OnError = "fail",
    images: Path | None = None,
    set: Mapping[str, Any] | None = None,
) -> Judgement:
    """Judges prediction files so that they can be looked into; the numbers are those of `score`.

    Args:
        task: Name of the task.
        truth: What is true.
        predictions: What was predicted.
        on_error: See `metrics.scoring.Scoring`.
        images: Folder of the pictures, found by the names of the truth; to be drawn on.
        set: See `tasks.scoring_options`.
    """
    scoring: Scoring = load_files(task)(truth, predictions, on_error, **scoring_options(task, set))
    report = Report(task=task, **scoring.report())
    pictures = _Pictures(images)

    def looks(ids: Sequence[str]) -> Iterator[Look]:
        for id, answer, true in scoring.pairs(ids):
            yield Look(id, pictures.read(id, true), answer, true)

    return Judgement(report, scoring.metric, looks, f"{predictions} against {truth}")


class _Pictures:
    """Pictures of a folder by the names that truths have."""

    def __init__(self, folder: Path | None):
        self.files: dict[str, Path] = {}
        if folder is None:
            return
        if not folder.is_dir():
            raise DataError("there is no such folder", file=folder, mend="Give the folder of the pictures.")
        for name in list_pictures(folder):
            path = Path(name)
            for key in (path.stem, path.with_suffix("").as_posix()):
                self.files[key] = folder / path

    def read(self, id: str, truth: Result) -> np.ndarray | None:
        """(H, W, 3) uint8, or None where there is none of the truth's size, unless the truth is a picture itself."""
        path = Path(id)
        keys = (id, path.with_suffix("").as_posix(), path.name, path.stem)
        file = next((self.files[key] for key in keys if key in self.files), None)
        image = None if file is None else to_display(read_image(file))
        fits = image is None or image.shape[:2] == tuple(truth.size) or hasattr(truth, "image")
        return image if fits else None


def every(judgement: Judgement, progress: Progress = silent) -> Iterator[Look]:
    """All pictures that were judged, under a bar where `progress` draws one."""
    ids = judgement.metric.by_picture().ids
    for _, look in zip(progress(ids, "looking at errors"), judgement.looks(ids)):
        yield look


def side_by_side(look: Look, others: Iterable[tuple[str, Result]] = ()) -> tuple[list[np.ndarray], list[str]]:
    """A picture, its truth, its answer and where that is wrong; further answers behind it. Pictures and captions.

    Numbers have the same colours in truth and answers.
    """
    from densevision.draw.fields import draw_errors
    from densevision.metrics.error_maps import error_map

    canvas = look.canvas()
    drawn, captions = ([look.image], ["picture"]) if look.image is not None else ([], [])
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
