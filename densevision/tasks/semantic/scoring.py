"""Scores class maps of any tool from files. No torch here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.datasets.mask_classes import read_class_list
from densevision.datasets.mask_layouts import MASK_SUFFIXES
from densevision.draw.colors import build_palette
from densevision.errors import DataError, UsageError
from densevision.io.decode import open_pillow, wrap_decoder_errors
from densevision.io.image import read_index_mask
from densevision.io.image_files import IMAGE_SUFFIXES, list_images
from densevision.io.masks import BINARY_255_PROBLEM, BINARY_NAMES, CITYSCAPES_NAMES, UNKNOWN, LabelEncoding
from densevision.metrics.scoring import MISSING_PREDICTIONS, OnError, Scoring, drop_drawings, score_folders
from densevision.results import SemanticMap
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric

if TYPE_CHECKING:
    from densevision.tasks.semantic.config import SemanticConfig

__all__ = ["SUPPORTED_OPTIONS", "open_files", "read_encoding", "score"]

SUPPORTED_OPTIONS = ("classes", "mode", "data.values", "data.unknown", "data.colors", "data.unknown_colors")
"""Options of the config that apply to files."""
MAX_CLASSES = 255
"""Classes that are assumed where nothing names them."""
CITYSCAPES_MARK = "_gtFine_"
"""Part of the names of Cityscapes' ground truth; of its several files per image, labelIds are scored."""
NAME_ENDINGS = (*MASK_SUFFIXES, "_leftImg8bit")
"""What the name of a mask may add to that of its image, and Cityscapes to that of an image."""

log = logging.getLogger("densevision")


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> dict[str, Any]:
    """Compares predicted masks with ground-truth masks; see `open_files`.

    Returns:
        metrics, protocol, counts, named and tables.
    """
    scoring = open_files(truth, predictions, on_error, config)
    report = scoring.report()
    if not read_encoding(truth, config)[0]:
        present = np.flatnonzero(~np.isnan(scoring.metric.confusion.iou()))  # type: ignore[attr-defined]
        rows = report["tables"]["per class"]
        report["tables"] = {"per class": {str(index): rows[str(index)] for index in present}}
    return report


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: SemanticConfig | None = None
) -> Scoring:
    """Pairs predicted masks with ground-truth masks.

    Masks are single-channel index images, or as the config says: color images, or 16-bit sets of classes with
    `multilabel`. A classes.txt in or above the ground-truth folder names the classes, one per line in the order of the
    values; a line `-` stands for a value that means unknown, as 255 always does. labelIds of Cityscapes have its 19
    classes. Otherwise classes are called by their numbers.

    Predictions are encoded as the ground truth, or hold class numbers 0, 1, 2, ..., as densevision writes them: the
    latter is assumed if all values are such numbers and not all are classes in the encoding of the ground truth, or if
    they have densevision's palette. With `mode: binary` they may be 0 and 255.

    Args:
        truth: A folder with masks at any depth, or a mask.
        predictions: A folder with masks of the same names except for suffixes and `NAME_ENDINGS`, or a mask.
        on_error: See `metrics.scoring.Scoring`.
        config: Classes and encoding, instead of those of the files, as far as it has any of `SUPPORTED_OPTIONS`.

    Raises:
        DataError: There is nothing to compare, or the ground truth has 255 where it must mean foreground.
        UsageError: An option of the config has no effect on these files.
    """
    names, encoding = read_encoding(truth, config)
    mode = "multiclass" if config is None else config.mode
    classes, is_multilabel = names or tuple(map(str, range(MAX_CLASSES))), mode == "multilabel"
    if not is_multilabel and not (config is not None and (config.data.values is not None or config.data.unknown)):
        _refuse_255_as_foreground(truth, encoding)

    def make_reader(encoding: LabelEncoding) -> Callable[[Path], SemanticMap]:
        def read(path: Path) -> SemanticMap:
            labels = (encoding.read_multilabel if is_multilabel else encoding.read)(path)
            return SemanticMap(labels=labels, names=classes, multilabel=is_multilabel, size=labels.shape)

        return read

    predicted = encoding if is_multilabel else _detect_prediction_encoding(predictions, encoding, mode == "binary")
    readers = make_reader(predicted), make_reader(encoding)
    metric = MultilabelMetric if is_multilabel else SemanticMetric
    scoring = score_folders(
        truth, predictions, IMAGE_SUFFIXES, readers, lambda *_: metric(classes), on_error, NAME_ENDINGS
    )
    missing = scoring.named[MISSING_PREDICTIONS]
    scoring.named[MISSING_PREDICTIONS] = [name for name in missing if CITYSCAPES_MARK not in name]
    return scoring


def read_encoding(truth: Path, config: SemanticConfig | None = None) -> tuple[tuple[str, ...], LabelEncoding]:
    """Class names, empty where nothing states them, and classes of the pixel values of the ground truth.

    Raises:
        DataError: There is no such folder.
        UsageError: An option of the config has no effect without class names.
    """
    file_names, encoding = _read_file_encoding(truth)
    if config is None:
        return file_names, encoding
    data = config.data
    codes = data.colors if data.colors is not None else data.values
    names = config.classes or (BINARY_NAMES if config.mode == "binary" else file_names)
    names = names or tuple(map(str, range(len(codes or ()))))
    if not names:
        option = "mode" if config.mode == "multilabel" else "data.unknown"
        raise UsageError("has no effect on files without class names", field=option, hint="Set classes as well.")
    config.replace(classes=names)  # refuses another number of codes than of classes
    if codes is None and not data.unknown and names == file_names:
        return file_names, encoding
    return names, LabelEncoding(len(names), data.values, data.colors, data.unknown, data.unknown_colors)


def _read_file_encoding(truth: Path) -> tuple[tuple[str, ...], LabelEncoding]:
    """Names and encoding by the nearest classes.txt, or by the names of Cityscapes' files."""
    folder = truth.parent if truth.is_file() else truth
    if not folder.is_dir():
        raise DataError("there is no such folder", file=truth, hint="Give two folders of masks, or two masks.")
    names, unknown = read_class_list(folder)
    names, unknown = (names, unknown) if names else read_class_list(folder.parent)
    if names:
        values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
        return names, LabelEncoding(len(names), values, unknown=unknown)
    if any(f"{CITYSCAPES_MARK}labelIds." in file.name for file in _list_masks(truth)):
        return CITYSCAPES_NAMES, LabelEncoding.cityscapes()
    return (), LabelEncoding(MAX_CLASSES)


def _refuse_255_as_foreground(truth: Path, encoding: LabelEncoding) -> None:
    """Refuses masks that hold only 0 and 255 where nothing states the meaning of 255."""
    if encoding.colors is None and encoding.classes in (2, MAX_CLASSES) and _read_values(truth) == {0, UNKNOWN}:
        problem, hint = BINARY_255_PROBLEM
        raise DataError(problem, file=truth, field="data.values", hint=hint)


def _detect_prediction_encoding(predictions: Path, encoding: LabelEncoding, is_binary: bool) -> LabelEncoding:
    """Classes of the pixel values of predictions; see `open_files`."""
    numbers = LabelEncoding(encoding.classes)
    if encoding.colors is None and encoding.values in (None, tuple(range(encoding.classes))):
        is_white = is_binary and _read_values(predictions) in ({UNKNOWN}, {0, UNKNOWN})
        return replace(numbers, values=(0, UNKNOWN)) if is_white else encoding
    classes_only = replace(encoding, unknown=(), unknown_colors=(), others_unknown=False)
    are_numbers = is_ambiguous = False
    for file in _list_masks(predictions):
        numbered, coded = _read_labels(numbers, file), _read_labels(classes_only, file)
        if coded is not None and numbered is None:
            return encoding
        if numbered is not None:
            are_numbers = are_numbers or coded is None or _has_own_palette(file, encoding.classes)
            is_ambiguous = is_ambiguous or bool((numbered != UNKNOWN).all() and (numbered != coded).any())
    if are_numbers:
        log.info("predictions are read as class numbers: their values are 0 to %d", encoding.classes - 1)
        return numbers
    if is_ambiguous:
        log.warning("predictions could also be class numbers; they are read in the encoding of the ground truth")
    return encoding


def _list_masks(path: Path) -> list[Path]:
    """The masks below a folder, or the file itself."""
    return [path] if path.is_file() else [path / file for file in drop_drawings(list_images(path))]


def _read_values(path: Path) -> set[int]:
    """The values in masks, up to the first mask with others than 0 and 255; usually one mask is enough."""
    values: set[int] = set()
    for file in _list_masks(path):
        try:
            values.update(np.unique(read_index_mask(file)).tolist())
        except DataError:
            continue  # scoring reports it
        if values - {0, UNKNOWN}:
            break
    return values


def _read_labels(encoding: LabelEncoding, file: Path) -> np.ndarray | None:
    """The classes of a mask; None if a pixel has none, or the file cannot be read."""
    try:
        return encoding.read(file)
    except DataError:
        return None


def _has_own_palette(file: Path, classes: int) -> bool:
    """Whether a mask has the palette that densevision writes."""
    with open_pillow(file) as image, wrap_decoder_errors(file):
        colors = (image.getpalette() or []) if image.mode == "P" else []
    return colors[: 3 * classes] == build_palette(classes).ravel().tolist()
