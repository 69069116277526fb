"""Judges class maps of any tool from files alone. No torch here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from densevision.datasets.mask_layouts import SUFFIXES as MASK_ENDINGS
from densevision.datasets.mask_layouts import class_list
from densevision.draw.colors import palette
from densevision.errors import DataError, UsageError
from densevision.io.image import read_index
from densevision.io.image_files import SUFFIXES, list_images
from densevision.io.masks import BINARY, CITYSCAPES_NAMES, UNKNOWN, WHITE, Coding
from densevision.metrics.scoring import UNANSWERED, OnError, Scoring, score_folders
from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric

if TYPE_CHECKING:
    from densevision.tasks.semantic.config import SemanticConfig

SUPPORTED_OPTIONS = ("classes", "mode", "data.values", "data.unknown", "data.colors", "data.unknown_colors")
"""Options of the config that bear on files."""
NUMBERED = 255
CITYSCAPES = "_gtFine_"
"""What Cityscapes adds to the names of truths; of its several truths of an image, labelIds are judged."""
ENDINGS = (*MASK_ENDINGS, "_leftImg8bit")
"""What the name of a mask may add to its image's, and Cityscapes to that of an image."""

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

    Masks are index images of one channel, or what the config says: colors, or 16-bit sets of classes with
    `multilabel`. A classes.txt in or above the folder of the truth names the classes, one a line in the order of the
    values; a line `-` stands for a value that means unknown, as 255 always does. Cityscapes' labelIds have its 19
    classes. Without all these classes are called by their numbers.

    Predictions are written as the truth is, or hold class numbers, 0, 1, 2, ..., as ours do: these are taken where all
    of them are such numbers, and not all are classes as the truth writes them, or where they have our palette. With
    `mode: binary` they may be 0 and 255.

    Args:
        truth: A folder with masks below it, or a mask.
        predictions: A folder with masks of the same names, but for the suffixes and `ENDINGS`, or a mask.
        on_error: See `metrics.scoring.Scoring`.
        config: Says what classes there are, and what pixels mean, instead of the files, where it has any of `SUPPORTS`.

    Raises:
        DataError: There is nothing to compare, or the truth says 255 where foreground must be meant.
        UsageError: The config says what has no effect on these files.
    """
    names, coding = classes_of(truth, config)
    mode = "multiclass" if config is None else config.mode
    classes, multilabel = names or tuple(map(str, range(NUMBERED))), mode == "multilabel"
    if not multilabel and not (config is not None and (config.data.values is not None or config.data.unknown)):
        _refuse_white(truth, coding)
    metric = MultilabelMetric if multilabel else SemanticMetric

    def reader(coding: Coding) -> Callable[[Path], SemanticMap]:
        def read(path: Path) -> SemanticMap:
            labels = (coding.read_sets if multilabel else coding.read)(path)
            return SemanticMap(labels=labels, names=classes, multilabel=multilabel, size=labels.shape)

        return read

    said = coding if multilabel else _coding_of_answers(predictions, coding, mode == "binary")
    readers = reader(said), reader(coding)
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
    codes = data.colors if data.colors is not None else data.values
    names = config.classes or (BINARY if config.mode == "binary" else stated)
    names = names or tuple(map(str, range(len(codes or ()))))
    if not names:
        option = "mode" if config.mode == "multilabel" else "data.unknown"
        raise UsageError("has no effect on files without classes", field=option, hint="Set classes as well.")
    config.changed(classes=names)  # refuses as many codes as there are no classes
    if codes is None and not data.unknown and names == stated:
        return stated, coding
    return names, Coding(len(names), data.values, data.colors, data.unknown, data.unknown_colors)


def _stated(truth: Path) -> tuple[tuple[str, ...], Coding]:
    """What the nearest classes.txt says, or the names of Cityscapes' files."""
    folder = truth.parent if truth.is_file() else truth
    if not folder.is_dir():
        raise DataError("there is no such folder", file=truth, hint="Give two folders of masks, or two masks.")
    names, unknown = class_list(folder)
    names, unknown = (names, unknown) if names else class_list(folder.parent)
    if names:
        values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
        return names, Coding(len(names), values, unknown=unknown)
    if any(f"{CITYSCAPES}labelIds." in file.name for file in _paths(truth)):
        return CITYSCAPES_NAMES, Coding.cityscapes()
    return (), Coding(NUMBERED)


def _refuse_white(truth: Path, coding: Coding) -> None:
    """Refuses masks of 0 and 255 alone, where nobody says what 255 means."""
    if coding.colors is None and coding.classes in (2, NUMBERED) and _values(truth) == {0, UNKNOWN}:
        raise DataError(WHITE[0], file=truth, field="data.values", hint=WHITE[1])


def _coding_of_answers(predictions: Path, coding: Coding, binary: bool) -> Coding:
    """What the pixels of predictions mean: see `open_files`."""
    numbers = Coding(coding.classes)
    if coding.colors is None and coding.values in (None, tuple(range(coding.classes))):
        white = binary and _values(predictions) in ({UNKNOWN}, {0, UNKNOWN})
        return replace(numbers, values=(0, UNKNOWN)) if white else coding
    classes_alone = replace(coding, unknown=(), unknown_colors=(), others_unknown=False)
    found = doubtful = False
    for file in _paths(predictions):
        numbered, coded = _labels(numbers, file), _labels(classes_alone, file)
        if coded is not None and numbered is None:
            return coding
        found = found or (numbered is not None and (coded is None or _is_ours(file, coding.classes)))
        doubtful = doubtful or (numbered is not None and (numbered != UNKNOWN).all() and (numbered != coded).any())
    if found:
        log.info("predictions are read as class numbers: they hold none but 0 to %d", coding.classes - 1)
        return numbers
    if doubtful:
        log.warning("predictions may be class numbers as well; they are read as the truth is written")
    return coding


def _paths(place: Path) -> list[Path]:
    """The images below a folder, or the one."""
    return [place] if place.is_file() else [place / file for file in list_images(place)]


def _values(place: Path) -> set[int]:
    """The numbers in masks, up to the first that has others than 0 and 255; mostly one mask tells."""
    found: set[int] = set()
    for file in _paths(place):
        try:
            found.update(np.unique(read_index(file)).tolist())
        except DataError:
            continue  # whoever judges it says what is wrong with it
        if found - {0, UNKNOWN}:
            break
    return found


def _labels(coding: Coding, file: Path) -> np.ndarray | None:
    """The classes of a mask's pixels; None where a pixel has none, or the file cannot be read."""
    try:
        return coding.read(file)
    except DataError:
        return None


def _is_ours(file: Path, classes: int) -> bool:
    """Whether a mask has the palette that ours have."""
    with Image.open(file) as image:
        colors = (image.getpalette() or []) if image.mode == "P" else []
    return colors[: 3 * classes] == palette(classes).ravel().tolist()
