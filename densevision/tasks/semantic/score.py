"""Judges class maps of any tool from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densevision.data.mask_layouts import class_list
from densevision.errors import DataError, UsageError
from densevision.io.masks import Coding
from densevision.io.pictures import SUFFIXES
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results import SemanticMap
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.metric import SemanticMetric

HEEDS = ("classes", "data.unknown")
"""Options of the config that bear on files."""
NUMBERED = 255


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> dict[str, Any]:
    """mIoU and its companions of masks against masks: metrics, protocol, counts, named, tables; see `open_files`."""
    scoring = open_files(truth, predictions, on_error, config)
    report = scoring.report()
    if not class_names(truth, config)[0]:
        seen = np.flatnonzero(~np.isnan(scoring.metric.confusion.iou()))  # type: ignore[attr-defined]
        rows = report["tables"]["per class"]
        report["tables"] = {"per class": {str(index): rows[str(index)] for index in seen}}
    return report


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> Scoring:
    """Pairs masks with masks of truth.

    Masks are index pictures of one channel. A classes.txt in or above the folder of the truth names the classes, one a
    line in the order of the values; a line `-` stands for a value that means unknown, as 255 always does. Without it
    classes are called by their numbers.

    Args:
        truth: A folder with masks below it, or a mask.
        predictions: A folder with masks of the same names, but for the suffixes, or a mask.
        on_error: See `metrics.scoring.Scoring`.
        config: Gives names and unknown values instead of classes.txt, where it has any.

    Raises:
        DataError: There is nothing to compare.
    """
    names, unknown = class_names(truth, config)
    values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
    coding = Coding(len(names), values, unknown=unknown) if names else Coding(NUMBERED)
    classes = names or tuple(map(str, range(NUMBERED)))

    def read(path: Path) -> SemanticMap:
        labels = coding.read(path)
        return SemanticMap(labels=labels, names=classes, size=labels.shape)

    return score_folders(truth, predictions, SUFFIXES, (read, read), lambda *_: SemanticMetric(classes), on_error)


def class_names(truth: Path, config: SemanticConfig | None = None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and unknown values of the config, or of the nearest classes.txt; none where there is neither."""
    if config is not None and config.classes is not None:
        return config.classes, config.data.unknown
    if config is not None:
        problem, mend = "has no effect on files without classes", "Set classes as well."
        raise UsageError(problem, field="data.unknown", value=config.data.unknown, mend=mend)
    folder = truth.parent if truth.is_file() else truth
    if not folder.is_dir():
        raise DataError("there is no such folder", file=truth, mend="Give two folders of masks, or two masks.")
    names, unknown = class_list(folder)
    return (names, unknown) if names else class_list(folder.parent)
