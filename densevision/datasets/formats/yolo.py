"""YOLO txt: a data.yaml with classes and splits; label files in `labels` folders that mirror `images` folders.

Ultralytics and Roboflow write a data.yaml, Roboflow with a superfluous `../` in its paths and polygons for masks; CVAT
writes one whose lists name images as `data/images/...`, or for YOLO 1.1 `obj.names` with `train.txt` and labels beside
the images in `obj_train_data`; FiftyOne writes `dataset.yaml`, or `obj.names` with `images.txt` and `data`; Label
Studio writes images, labels, `classes.txt` and a `notes.json` that is not needed; LabelImg writes labels and
`classes.txt` beside the images; Roboflow's Darknet export has `_darknet.labels`. Lines hold a box, a polygon, or the
four corners of a turned box, which is read as a polygon.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError, UsageError
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import (
    MAX_INT32,
    ImageSelector,
    is_inside,
    is_system_file,
    list_images,
    measure_images,
)
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import parse_decimals, read_lines
from densevision.io.progress import track_progress
from densevision.yaml_files import read_yaml

__all__ = [
    "NAME_LISTS",
    "NON_LABEL_FILES",
    "SPLIT_KEYS",
    "YoloDataset",
    "get_label_path",
    "read_data_yaml",
    "read_name_list",
    "read_yolo",
]

log = logging.getLogger(__name__)

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Split -> its possible keys in a data.yaml."""
TEXT_KEYS = ("names", "path", *(key for keys in SPLIT_KEYS.values() for key in keys))
"""Keys of a data.yaml whose values are text, even if they look like numbers."""
NAMES_HINT = "Write the class names as `names: [cat, dog]` or `names: {0: cat, 1: dog}`."
NAME_LISTS = ("obj.names", "classes.txt", "*.names", "_darknet.labels")
"""Lists of class names in datasets without a data.yaml, as glob patterns."""
CVAT_PREFIX = "data/"
"""What CVAT puts before the paths in its lists of images."""
NON_LABEL_FILES = ("classes.txt", "labels.txt", "readme.txt", "readme.dataset.txt", "readme.roboflow.txt")
"""Text files in label folders that are not label files."""


@dataclass(frozen=True)
class YoloDataset:
    """The content of a data.yaml, or of a folder without one.

    Attributes:
        file: The YAML or list of names.
        root: The folder that all paths are relative to.
        names: Class names.
        ids: Class numbers in label files, one per name.
        splits: Split -> image folders, and txt lists of images.
        keypoints: Count of numbers that follow each box in a line, the product of `kpt_shape`; 0 if longer lines are
            polygons.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    ids: tuple[int, ...]
    splits: dict[str, tuple[str, ...]]
    keypoints: int = 0


def read_data_yaml(file: str | os.PathLike[str], boundary: Path | None = None) -> YoloDataset:
    """Reads a data.yaml. `path` is relative to the folder of the YAML, which is the default.

    Args:
        file: The YAML.
        boundary: The folder that all paths must be inside, for a YAML that was found there; None allows any folder, for
            a YAML that the user named.

    Raises:
        DataError: The file is not YAML, classes or paths are invalid, or a path is outside `boundary`.
    """
    file = Path(file)
    try:
        values = read_yaml(file, TEXT_KEYS)
    except UsageError as failure:
        raise DataError(failure.problem, file=file, field=failure.field, hint=failure.hint) from None
    path = values.get("path") or "."
    root = file.parent / str(path)
    if not os.path.isdir(root):
        hint = "Correct it, or remove it to use the folder of this file."
        raise DataError("there is no such folder", file=file, field="path", value=path, hint=hint)
    splits = {}
    for split, keys in SPLIT_KEYS.items():
        key = next((key for key in keys if values.get(key)), split)
        entries = values.get(key)
        entries = [entries] if isinstance(entries, str) else entries or []
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            hint = "Give a folder of images, a txt list of images, or a list of them."
            raise DataError("is not a path", file=file, field=key, value=entries, hint=hint)
        if entries:
            splits[split] = tuple(entries)
    if boundary is not None:
        _check_boundary(boundary, file, root, splits)
    return YoloDataset(
        file, root, *_parse_names(values, file), splits, _parse_keypoint_shape(values.get("kpt_shape"), file)
    )


def _check_boundary(boundary: Path, file: Path, root: Path, splits: dict[str, tuple[str, ...]]) -> None:
    """Refuses a YAML whose paths lead out of a folder."""
    hint = f"Give {file} as data.path to allow this."
    if not _is_below(root, boundary):
        raise DataError("leads out of the folder", file=file, field="path", value=str(root), hint=hint)
    for split, entries in splits.items():
        for entry in entries:
            path = next((root / text for text in _list_variants(entry) if os.path.exists(root / text)), None)
            # An absolute path is refused even if it does not exist, to reveal nothing about other folders.
            if (path is None and os.path.isabs(entry)) or (path is not None and not _is_below(path, boundary)):
                raise DataError("leads out of the folder", file=file, field=split, value=entry, hint=hint)


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def read_yolo(
    dataset: YoloDataset,
    entries: Sequence[str],
    issues: LabelIssues,
    max_pixels: int = MAX_INT32,
    select: ImageSelector | None = None,
) -> BoxTable:
    """Reads images and their labels into arrays.

    A line is `class center-x center-y width height` as fractions of the image, or a polygon `class x1 y1 x2 y2 ...`,
    whose bounding box is taken; if the data.yaml has a `kpt_shape`, it is a box followed by keypoints, which are
    ignored. An image without a label file has no objects; a warning is counted.

    Args:
        dataset: Classes and root.
        entries: Folders and txt lists of images.
        issues: Reports problems.
        max_pixels: Larger images count as broken.
        select: Selects a part of the images; all by default.

    Raises:
        DataError: There is no image or no label at all, or something is wrong and the policy is `fail`.
    """
    files = StringArray.of(_list_images(dataset, entries, issues))
    if not len(files):
        raise DataError("no image in this split", file=dataset.file, value=list(entries))
    selected = select(files) if select is not None else np.ones(len(files), bool)

    def locate_image(row: int) -> tuple[str, str]:
        return str(dataset.file), files[row]

    sizes = measure_images(files, dataset.root, selected, issues, max_pixels, locate_image)
    records = RecordBuffer()
    label_count = 0
    for row in track_progress(np.flatnonzero(sizes[:, 0]).tolist(), "reading labels"):
        label = dataset.root / get_label_path(files[row])
        if os.path.isfile(label):
            label_count += 1
            _read_labels(label, row, sizes[row].tolist(), dataset, records, issues)
        else:
            issues.warn(IssueKind.LABELS_MISSING, dataset.root / files[row])
    # A held-out part may consist of images without objects; the dataset as a whole must have labels.
    if not label_count and not any(os.path.isfile(dataset.root / get_label_path(name)) for name in files):
        example = get_label_path(files[0])
        hint = f"The label file of {files[0]} would be {example}."
        raise DataError(f"no label file for any of {len(files)} images", file=dataset.root, hint=hint)

    array = records.array()

    def locate(row: int) -> tuple[str, str, str]:
        label = dataset.root / get_label_path(files[int(array["image"][row])])
        line = int(array["origin"][row])
        return str(label), f"line {line}", read_lines(label)[line - 1]

    ids = np.arange(1, len(files) + 1)
    return build_table(files, sizes, ids, array, dataset.names, dataset.ids, issues, locate)


def read_name_list(file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Reads class names from a text file, one per line."""
    return tuple(line.strip() for line in read_lines(file) if line.strip())


def get_label_path(image: str) -> str:
    """Returns the label file of an image: its last folder `images` becomes `labels`, its suffix .txt.

    >>> get_label_path("images/train/a.jpg"), get_label_path("a.jpg")
    ('labels/train/a.txt', 'a.txt')
    """
    *folders, name = image.split(os.sep)
    return os.path.join(*_to_label_folders(folders), os.path.splitext(name)[0] + ".txt")


def _to_label_folders(folders: list[str]) -> list[str]:
    if "images" not in folders:
        return folders
    last = len(folders) - 1 - folders[::-1].index("images")
    return [*folders[:last], "labels", *folders[last + 1 :]]


def _parse_names(values: dict[str, Any], file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, count = values.get("names"), values.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict):
        names = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in names.items()}
    if not isinstance(names, dict) or not names or not all(type(number) is int for number in names):
        raise DataError(
            "the class names are missing or not a list", file=file, field="names", value=names, hint=NAMES_HINT
        )
    if count is not None and count != len(names):
        hint = f"There are {len(names)} names."
        raise DataError("differs from the number of names", file=file, field="nc", value=count, hint=hint)
    numbers: dict[str, int] = {}
    for number, name in sorted(names.items()):
        field = f"names[{number}]"
        if not isinstance(name, str):
            raise DataError("a class name is not text", file=file, field=field, value=name, hint=NAMES_HINT)
        if name in numbers:
            hint = f"names[{numbers[name]}] is the same: give each class a unique name."
            raise DataError("a class name given twice", file=file, field=field, value=name, hint=hint)
        numbers[name] = number
    return tuple(numbers), tuple(numbers.values())


def _parse_keypoint_shape(shape: Any, file: Path) -> int:
    if shape is None:
        return 0
    is_valid = isinstance(shape, list) and len(shape) == 2 and all(type(side) is int for side in shape)
    if not is_valid or shape[0] < 1 or shape[1] not in (2, 3):
        hint = "Write [keypoints, 2] for x and y, [keypoints, 3] for x, y and visibility."
        raise DataError("is not a keypoint shape", file=file, field="kpt_shape", value=shape, hint=hint)
    return shape[0] * shape[1]


def _list_images(dataset: YoloDataset, entries: Sequence[str], issues: LabelIssues) -> list[str]:
    """Lists the images of folders and image lists, relative to the root."""
    images: dict[str, None] = {}
    for entry in entries:
        path = _resolve_entry(dataset, entry)
        if os.path.isdir(path):
            folder = os.path.relpath(path, dataset.root)
            names = [os.path.normpath(os.path.join(folder, name)) for name in list_images(path, issues)]
            _report_unmatched_labels(dataset, folder, names, issues)
        else:
            names = list(_read_image_list(dataset, path, issues))
        images |= dict.fromkeys(names)
    return list(images)


def _resolve_entry(dataset: YoloDataset, entry: str) -> Path:
    """Returns the path of an entry; a leading `../` is dropped if needed, as common exports have a superfluous one."""
    for text in _list_variants(entry):
        path = dataset.root / text
        if os.path.exists(path):
            if not _is_below(path, dataset.file.parent):
                log.warning("%s leads out of its own folder: %s is read", dataset.file, os.path.abspath(path))
            return path
    hint = f"Paths are relative to {dataset.root}."
    raise DataError("there is no such folder or list of images", file=dataset.file, value=entry, hint=hint)


def _list_variants(entry: str) -> tuple[str, ...]:
    local = entry.replace("\\", "/")
    return entry, entry.removeprefix("../"), local, local.removeprefix("../")


def _read_image_list(dataset: YoloDataset, path: Path, issues: LabelIssues) -> Iterator[str]:
    """Reads a txt list of images relative to the root, or to the folder of the list if they begin with `./`."""
    for number, line in enumerate(read_lines(path), 1):
        name = line.strip()
        if not name:
            continue
        base = path.parent if name.startswith(("./", ".\\")) else dataset.root
        name = localize_name(name, base)
        if name.startswith(CVAT_PREFIX) and not os.path.isfile(base / name):
            name = name.removeprefix(CVAT_PREFIX)
        relative = os.path.relpath(os.path.join(base, name), dataset.root)
        if is_inside(relative) or issues.add(IssueKind.NAME_ESCAPES, path, f"line {number}", name, name):
            yield relative


def _report_unmatched_labels(dataset: YoloDataset, folder: str, images: list[str], issues: LabelIssues) -> None:
    labels = os.path.join(*_to_label_folders(folder.split(os.sep)))
    expected = {get_label_path(image) for image in images}
    for root, _, names in os.walk(dataset.root / labels):
        for name in sorted(names):
            path = os.path.normpath(os.path.relpath(os.path.join(root, name), dataset.root))
            if is_system_file(name) or not name.endswith(".txt") or name.lower() in NON_LABEL_FILES:
                continue
            if path not in expected:
                issues.add(IssueKind.IMAGE_ABSENT, dataset.root / path, None, folder)


def _read_labels(
    label: Path, image: int, size: list[int], dataset: YoloDataset, records: RecordBuffer, issues: LabelIssues
) -> None:
    indices = {number: index for index, number in enumerate(dataset.ids)}
    height, width = size
    for number, line in enumerate(read_lines(label), 1):
        if not line.strip():
            continue
        parsed = _parse_line(line, dataset.keypoints)
        if parsed is None:
            issues.add(IssueKind.LINE_MALFORMED, label, f"line {number}", line)
        elif parsed[0] not in indices:
            issues.add(IssueKind.CLASS_ABSENT, label, f"line {number}", line)
        else:
            x1, y1, x2, y2 = parsed[1]
            box = x1 * width, y1 * height, x2 * width, y2 * height
            records.add(image, indices[parsed[0]], box, number)


def _parse_line(line: str, keypoints: int) -> tuple[int, tuple[float, float, float, float]] | None:
    """Parses class number and xyxy as fractions of the image; None if the line is malformed."""
    try:
        label, *values = parse_decimals(line.split())
    except ValueError:
        return None
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    if not label.is_integer() or len(values) % 2 or len(values) < 4 or (keypoints and len(values) > 4):
        return None
    if len(values) > 4:
        return int(label), (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    x, y, width, height = values
    return int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
