"""Judges class maps of any tool from files alone. No torch here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from densevision.data.mask_layouts import SUFFIXES as MASK_ENDINGS
from densevision.data.mask_layouts import class_list
from densevision.errors import DataError, UsageError
from densevision.io.masks import CITYSCAPES_NAMES, Coding
from densevision.io.pictures import SUFFIXES, list_pictures
from densevision.metrics.scoring import UNANSWERED, OnError, Scoring, score_folders
from densevision.results import SemanticMap
from densevision.tasks.semantic.config import BINARY, SemanticConfig
from densevision.tasks.semantic.metric import MultilabelMetric, SemanticMetric

HEEDS = ("classes", "mode", "data.values", "data.unknown", "data.colours", "data.unknown_colours")
"""Options of the config that bear on files."""
NUMBERED = 255
CITYSCAPES = "_gtFine_"
"""What Cityscapes adds to the names of truths; of its several truths of a picture, labelIds are judged."""
ENDINGS = (*MASK_ENDINGS, "_leftImg8bit")
"""What the name of a mask may add to its picture's, and Cityscapes to that of a picture."""

log = logging.getLogger("densevision")


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> dict[str, Any]:
    """mIoU and its companions of masks against masks: metrics, protocol, counts, named, tables; see `open_files`."""
    scoring = open_files(truth, predictions, on_error, config)
    report = scoring.report()
    if not classes_of(truth, config)[0]:
        seen = np.flatnonzero(~np.isnan(scoring.metric.confusion.iou()))  # type: ignore[attr-defined]
        rows = report["tables"]["per class"]
        report["tables"] = {"per class": {str(index): rows[str(index)] for index in seen}}
    return report


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> Scoring:
    """Pairs masks with masks of truth.

    Masks are index pictures of one channel, or what the config says: colours, or 16-bit sets of classes with
    `multilabel`. A classes.txt in or above the folder of the truth names the classes, one a line in the order of the
    values; a line `-` stands for a value that means unknown, as 255 always does. Cityscapes' labelIds have its 19
    classes. Without all these classes are called by their numbers.

    Predictions are written as the truth is, or hold class numbers, 0, 1, 2, ..., as ours do: these are taken where all
    of them are such numbers, and not all are classes as the truth writes them.

    Args:
        truth: A folder with masks below it, or a mask.
        predictions: A folder with masks of the same names, but for the suffixes and `ENDINGS`, or a mask.
        on_error: See `metrics.scoring.Scoring`.
        config: Says what classes there are, and what pixels mean, instead of the files, where it has any of `HEEDS`.

    Raises:
        DataError: There is nothing to compare.
        UsageError: The config says what has no effect on these files.
    """
    names, coding = classes_of(truth, config)
    classes, multilabel = names or tuple(map(str, range(NUMBERED))), config is not None and config.mode == "multilabel"
    metric = MultilabelMetric if multilabel else SemanticMetric

    def reader(coding: Coding) -> Callable[[Path], SemanticMap]:
        def read(path: Path) -> SemanticMap:
            labels = (coding.read_sets if multilabel else coding.read)(path)
            return SemanticMap(labels=labels, names=classes, multilabel=multilabel, size=labels.shape)

        return read

    readers = reader(coding if multilabel else _coding_of_answers(predictions, coding)), reader(coding)
    scoring = score_folders(truth, predictions, SUFFIXES, readers, lambda *_: metric(classes), on_error, ENDINGS)
    scoring.named[UNANSWERED] = [name for name in scoring.named[UNANSWERED] if CITYSCAPES not in name]
    return scoring


def classes_of(truth: Path, config: SemanticConfig | None = None) -> tuple[tuple[str, ...], Coding]:
    """Class names, none where nothing states them, and what the pixels of the truth mean.

    Raises:
        DataError: There is no such folder.
        UsageError: The config says what has no effect without class names.
    """
    stated, coding = _stated(truth)
    if config is None:
        return stated, coding
    data = config.data
    codes = data.colours if data.colours is not None else data.values
    names = config.classes or (BINARY if config.mode == "binary" else stated)
    names = names or tuple(map(str, range(len(codes or ()))))
    if not names:
        option = "mode" if config.mode == "multilabel" else "data.unknown"
        raise UsageError("has no effect on files without classes", field=option, mend="Set classes as well.")
    config.changed(classes=names)  # refuses as many codes as there are no classes
    if codes is None and not data.unknown and names == stated:
        return stated, coding
    return names, Coding(len(names), data.values, data.colours, data.unknown, data.unknown_colours)


def _stated(truth: Path) -> tuple[tuple[str, ...], Coding]:
    """What the nearest classes.txt says, or the names of Cityscapes' files."""
    folder = truth.parent if truth.is_file() else truth
    if not folder.is_dir():
        raise DataError("there is no such folder", file=truth, mend="Give two folders of masks, or two masks.")
    names, unknown = class_list(folder)
    names, unknown = (names, unknown) if names else class_list(folder.parent)
    if names:
        values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
        return names, Coding(len(names), values, unknown=unknown)
    if any(f"{CITYSCAPES}labelIds." in file for file in _files(truth)):
        return CITYSCAPES_NAMES, Coding.cityscapes()
    return (), Coding(NUMBERED)


def _files(place: Path) -> Sequence[str]:
    """Names of the pictures below a folder, or of the one."""
    return [place.name] if place.is_file() else list_pictures(place)


def _coding_of_answers(predictions: Path, coding: Coding) -> Coding:
    """What the pixels of predictions mean: see `open_files`."""
    numbers = Coding(coding.classes)
    if coding.colours is None and coding.values in (None, tuple(range(coding.classes))):
        return coding
    classes_alone = replace(coding, unknown=(), unknown_colours=(), others_unknown=False)
    folder = predictions.parent if predictions.is_file() else predictions
    found = False
    for file in _files(predictions):
        numbered, coded = _fits(numbers, folder / file), _fits(classes_alone, folder / file)
        if coded and not numbered:
            return coding
        found = found or (numbered and not coded)
    if found:
        log.info("predictions are read as class numbers: they hold none but 0 to %d", coding.classes - 1)
    return numbers if found else coding


def _fits(coding: Coding, file: str | os.PathLike[str]) -> bool:
    """Whether every pixel is of a class; a file that cannot be read fits nothing."""
    try:
        coding.read(file)
    except DataError:
        return False
    return True
