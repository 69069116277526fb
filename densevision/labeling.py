"""Labels for people to correct: predictions as a dataset of an annotation program, and the images to look at first."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.datasets.conversion import OBJECT_WRITERS, ConversionReport, ObjectSplit
from densevision.errors import UsageError, did_you_mean
from densevision.io.atomic_write import atomic_folder, write_text
from densevision.io.box_table import RecordBuffer, StringArray, build_table
from densevision.io.label_issues import LabelIssues
from densevision.io.segmentations import SegmentationBuilder
from densevision.results import Detections, Instances
from densevision.tasks import check_task_name, load_config

if TYPE_CHECKING:
    from densevision.api import PathLike

__all__ = ["AutolabelReport", "Review", "autolabel"]

REVIEW_FILE = "review.csv"


@dataclass(frozen=True)
class Review:
    """How sure a model is of one image.

    Attributes:
        image: Path of the image.
        objects: Number of objects that were written.
        uncertain: Number of objects between the two thresholds, which were not written.
        lowest_score: Lowest score of the written objects; 1 if there are none.
    """

    image: str
    objects: int
    uncertain: int
    lowest_score: float


@dataclass(frozen=True)
class AutolabelReport:
    """What was written.

    Attributes:
        out: The folder.
        reviews: One per image, those first that most need a look: most uncertain objects, then the lowest score.
        losses: What the format cannot represent, counted.
    """

    out: Path
    reviews: tuple[Review, ...]
    losses: ConversionReport

    @property
    def objects(self) -> int:
        """Number of objects that were written."""
        return sum(review.objects for review in self.reviews)

    @property
    def uncertain(self) -> int:
        """Number of objects that were left to people."""
        return sum(review.uncertain for review in self.reviews)


def autolabel(
    source: Any,
    task: str,
    weights: Any = None,
    *,
    out: PathLike,
    to: str = "cvat",
    score_threshold: float = 0.5,
    review_threshold: float = 0.2,
    **options: Any,
) -> AutolabelReport:
    """Writes predictions as labels in the format of an annotation program, for people to correct.

    Objects above `score_threshold` are written. Those between the thresholds are not: `review.csv` lists all images
    with their number, so that people begin where the model is unsure.

    Args:
        source: Paths of images, folders or globs, as `predict` takes them.
        task: "detection" or "instance".
        weights: A file, a name, or a predictor; the bundled demo weights by default.
        out: A new folder, written completely or not at all, with copies of the images.
        to: A key of `densevision.datasets.conversion.OBJECT_WRITERS`, such as "cvat", "label-studio" or "coco".
        score_threshold: Objects of at least this score are labels.
        review_threshold: Objects of at least this score, below the other one, count as uncertain.
        **options: Options of `predict`.

    Raises:
        UsageError: The task has no objects, the format is unknown, the thresholds are not in order, or `out` exists.
        DataError: An image cannot be read, or is not a file.
    """
    from densevision.api import predict

    _check_arguments(task, to, score_threshold, review_threshold)
    if Path(out).exists():
        raise UsageError("exists already", field="out", value=os.fspath(out), hint="Name a new folder.")
    results = predict(source, task, weights, stream=True, score_threshold=review_threshold, **options)
    objects, reviews = _collect(results, score_threshold)
    order = sorted(reviews, key=lambda review: (-review.uncertain, review.lowest_score, review.image))
    report = ConversionReport()
    with atomic_folder(out) as folder:
        OBJECT_WRITERS[to]({"train": objects}, folder, report)
        write_text(folder / REVIEW_FILE, _format_reviews(order))
    return AutolabelReport(Path(out), tuple(order), report)


def _check_arguments(task: str, to: str, score_threshold: float, review_threshold: float) -> None:
    if "max_detections" not in load_config(check_task_name(task)).predict_options or task == "joint":
        hint = "Use detection or instance."
        raise UsageError("has no objects that annotation programs could show", field="task", value=task, hint=hint)
    if to not in OBJECT_WRITERS:
        raise UsageError("no such format", field="to", value=to, hint=did_you_mean(to, OBJECT_WRITERS))
    if not 0 < review_threshold <= score_threshold <= 1:
        value = f"{review_threshold} and {score_threshold}"
        hint = "Choose 0 < review_threshold <= score_threshold <= 1."
        raise UsageError("thresholds are not in order", field="review_threshold", value=value, hint=hint)


def _collect(results: Iterable[Any], score_threshold: float) -> tuple[ObjectSplit, list[Review]]:
    """The sure objects of all images, and a review of each image."""
    files: list[str] = []
    sizes: list[tuple[int, int]] = []
    names: tuple[str, ...] = ()
    records, masks, reviews, has_masks = RecordBuffer(), SegmentationBuilder(), [], False
    count = 0
    for image, result in enumerate(results):
        assert isinstance(result, Detections)
        if not isinstance(result.source, str) or not os.path.isfile(result.source):
            hint = "Give image files, folders or globs."
            raise UsageError("labels belong to image files", field="source", value=str(result.source)[:80], hint=hint)
        files.append(os.path.abspath(result.source))
        sizes.append(result.size)
        names = result.names
        is_sure = (result.scores >= score_threshold) & (result.areas > 0)
        for row in np.flatnonzero(is_sure).tolist():
            records.add(image, int(result.labels[row]), result.boxes[row].astype(float).tolist(), count)
            count += 1
            if isinstance(result, Instances) and result.masks is not None:
                has_masks = True
                masks.add_rle(result.masks[row])
        lowest = float(result.scores[is_sure].min(initial=1.0))
        reviews.append(Review(result.source, int(is_sure.sum()), int((~is_sure).sum()), lowest))
    folder = os.path.commonpath([os.path.dirname(file) for file in files]) if files else os.getcwd()
    relative = [os.path.relpath(file, folder) for file in files]
    issues = LabelIssues("fix")  # boxes that reach beyond their image are clipped, as in every dataset
    table = build_table(
        StringArray.of(relative),
        np.asarray(sizes, np.int32).reshape(-1, 2),
        np.arange(1, len(files) + 1),
        records.array(),
        names,
        tuple(range(1, len(names) + 1)),
        issues,
        lambda row: (REVIEW_FILE, f"object {row}", None),
    )
    segmentations = masks.build().take(table.origin) if has_masks else None
    areas = np.full(len(table.labels), np.nan)
    return ObjectSplit(table, segmentations, Path(folder), tuple(relative), areas), reviews


def _format_reviews(reviews: list[Review]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "objects", "uncertain", "lowest_score"])
    for review in reviews:
        writer.writerow([review.image, review.objects, review.uncertain, f"{review.lowest_score:.4f}"])
    return stream.getvalue()
