"""YOLO txt: a data.yaml names classes and splits; beside each image's `images` folder, `labels` holds its lines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError, UsageError
from densevision.io.box_table import BoxTable, Records, Strings, build_table
from densevision.io.image_files import LARGEST, Choose, is_inside, list_images, measure_images
from densevision.io.label_issues import Findings, Kind
from densevision.io.lines import read_lines
from densevision.io.progress import monitored
from densevision.yaml_files import read_yaml

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Split -> the keys under which a data.yaml may name it."""
NAMES = "Write the class names as `names: [cat, dog]` or `names: {0: cat, 1: dog}`."
NOT_LABELS = ("classes.txt", "labels.txt", "readme.txt")
"""Text files that may lie among labels without belonging to an image."""


@dataclass(frozen=True)
class YoloDataset:
    """What a data.yaml says, or a folder without one.

    Attributes:
        file: The yaml or list of names.
        root: Folder from which everything else is given.
        names: Class names.
        ids: Class numbers as they stand in label files, one per name.
        splits: Name -> folders of images, and txt lists of images.
        keypoints: Numbers that follow each box in a line, `kpt_shape`'s joints times numbers of each; 0 where a line
            that is longer than a box is an outline.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    ids: tuple[int, ...]
    splits: dict[str, tuple[str, ...]]
    keypoints: int = 0


def read_data_yaml(file: str | os.PathLike[str]) -> YoloDataset:
    """Reads a data.yaml. `path` is relative to the yaml's folder, and is that folder when not given.

    Raises:
        DataError: It is no YAML, or names neither classes nor splits.
    """
    file = Path(file)
    try:
        values = read_yaml(file)
    except UsageError as failure:
        raise DataError(failure.problem, file=file, field=failure.field, hint=failure.hint) from None
    path = values.get("path") or "."
    root = file.parent / str(path)
    if not root.is_dir():
        hint = "Correct it, or leave it out: then it is the folder of this file."
        raise DataError("there is no such folder", file=file, field="path", value=path, hint=hint)
    splits = {}
    for split, keys in SPLITS.items():
        key = next((key for key in keys if values.get(key)), split)
        entries = values.get(key)
        entries = [entries] if isinstance(entries, str) else entries or []
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            hint = "Give a folder of images, a txt list of images, or a list of such."
            raise DataError("is no path", file=file, field=key, value=entries, hint=hint)
        if entries:
            splits[split] = tuple(entries)
    return YoloDataset(file, root, *_names(values, file), splits, _keypoints(values.get("kpt_shape"), file))


def read_yolo(
    dataset: YoloDataset,
    entries: Sequence[str],
    findings: Findings,
    max_pixels: int = LARGEST,
    choose: Choose | None = None,
) -> BoxTable:
    """Reads images and their labels into arrays.

    A line is `class center-x center-y width height` in parts of the image, or `class x1 y1 x2 y2 ...`, a polygon,
    of which the box is taken; where the data.yaml has a `kpt_shape`, it is a box and its keypoints, which are left
    aside. An image without a label file is an image without objects; it is mentioned.

    Args:
        dataset: Classes and root.
        entries: Folders and txt lists of images.
        findings: Decides about what is wrong.
        max_pixels: Limit of an image.
        choose: Takes some of the images; all when not given.

    Raises:
        DataError: There is no image or no label at all, or something is wrong and the policy is `fail`.
    """
    files = Strings.of(_listed_images(dataset, entries, findings))
    if not len(files):
        raise DataError("no image in this split", file=dataset.file, value=list(entries))
    chosen = choose(files) if choose is not None else np.ones(len(files), bool)

    def listed(row: int) -> tuple[str, str]:
        return str(dataset.file), files[row]

    sizes = measure_images(files, dataset.root, chosen, findings, max_pixels, listed)
    records = Records()
    found = 0
    for row in monitored(np.flatnonzero(sizes[:, 0]).tolist(), "reading labels"):
        label = dataset.root / label_path(files[row])
        if label.is_file():
            found += 1
            _read_labels(label, row, sizes[row].tolist(), dataset, records, findings)
        else:
            findings.mention(Kind.LABELS_MISSING, dataset.root / files[row])
    if not found:
        example = label_path(files[0])
        hint = f"The labels of {files[0]} are looked for in {example}."
        raise DataError(f"no label file for any of {len(files)} images", file=dataset.root, hint=hint)

    array = records.array()

    def where(row: int) -> tuple[str, str, str]:
        label = dataset.root / label_path(files[int(array["image"][row])])
        line = int(array["origin"][row])
        return str(label), f"line {line}", read_lines(label)[line - 1]

    ids = np.arange(1, len(files) + 1)
    return build_table(files, sizes, ids, array, dataset.names, dataset.ids, findings, where)


def read_name_list(file: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names from a text file, one a line."""
    return tuple(line.strip() for line in read_lines(file) if line.strip())


def label_path(image: str) -> str:
    """Where the labels of an image are: the last folder `images` becomes `labels`, the suffix .txt.

    >>> label_path("images/train/a.jpg"), label_path("a.jpg")
    ('labels/train/a.txt', 'a.txt')
    """
    *folders, name = image.split(os.sep)
    return os.path.join(*_label_folders(folders), os.path.splitext(name)[0] + ".txt")


def _label_folders(folders: list[str]) -> list[str]:
    if "images" not in folders:
        return folders
    last = len(folders) - 1 - folders[::-1].index("images")
    return [*folders[:last], "labels", *folders[last + 1 :]]


def _names(values: dict[str, Any], file: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, count = values.get("names"), values.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(type(id) is int for id in names):
        raise DataError("the class names are missing or no list", file=file, field="names", value=names, hint=NAMES)
    if count is not None and count != len(names):
        hint = f"There are {len(names)} names."
        raise DataError("is not the number of names", file=file, field="nc", value=count, hint=hint)
    for id, name in names.items():
        if type(name) not in (str, int):
            hint = "YAML reads yes, no, on, off, null and 1.10 as values: write such a name in quotes."
            raise DataError("a class name is no text", file=file, field=f"names[{id}]", value=name, hint=hint)
    ids = tuple(sorted(names))
    return tuple(str(names[id]) for id in ids), ids


def _keypoints(shape: Any, file: Path) -> int:
    if shape is None:
        return 0
    right = isinstance(shape, list) and len(shape) == 2 and all(type(side) is int for side in shape)
    if not right or shape[0] < 1 or shape[1] not in (2, 3):
        hint = "Write [joints, 2] where each has x and y, [joints, 3] where a visibility follows."
        raise DataError("is no shape of keypoints", file=file, field="kpt_shape", value=shape, hint=hint)
    return shape[0] * shape[1]


def _listed_images(dataset: YoloDataset, entries: Sequence[str], findings: Findings) -> list[str]:
    """The images of folders and lists, relative to the root."""
    images: dict[str, None] = {}
    for entry in entries:
        path = _existing(dataset, entry)
        if path.is_dir():
            folder = os.path.relpath(path, dataset.root)
            found = [os.path.normpath(os.path.join(folder, name)) for name in list_images(path)]
            _report_lonely_labels(dataset, folder, found, findings)
        else:
            found = list(_list_file(dataset, path, findings))
        images |= dict.fromkeys(found)
    return list(images)


def _existing(dataset: YoloDataset, entry: str) -> Path:
    """The path of an entry; a leading `../` that leads nowhere is left out, as common exports need it."""
    for text in (entry, entry.removeprefix("../")):
        if (dataset.root / text).exists():
            return dataset.root / text
    hint = f"Paths are given from {dataset.root}."
    raise DataError("there is no such folder or list of images", file=dataset.file, value=entry, hint=hint)


def _list_file(dataset: YoloDataset, path: Path, findings: Findings) -> Iterator[str]:
    """The images of a txt list: given from the root, or from the list's own folder where they begin with `./`."""
    for number, line in enumerate(read_lines(path), 1):
        name = line.strip()
        if not name:
            continue
        base = path.parent if name.startswith("./") else dataset.root
        relative = os.path.relpath(os.path.join(base, name), dataset.root)
        if is_inside(relative) or findings.add(Kind.NAME_ESCAPES, path, f"line {number}", name, name):
            yield relative


def _report_lonely_labels(dataset: YoloDataset, folder: str, images: list[str], findings: Findings) -> None:
    labels = os.path.join(*_label_folders(folder.split(os.sep)))
    expected = {label_path(image) for image in images}
    for root, _, names in os.walk(dataset.root / labels):
        for name in sorted(names):
            path = os.path.normpath(os.path.relpath(os.path.join(root, name), dataset.root))
            if name.endswith(".txt") and name.lower() not in NOT_LABELS and path not in expected:
                findings.add(Kind.IMAGE_ABSENT, dataset.root / path, None, folder)


def _read_labels(
    label: Path, image: int, size: list[int], dataset: YoloDataset, records: Records, findings: Findings
) -> None:
    numbers = {id: index for index, id in enumerate(dataset.ids)}
    height, width = size
    for number, line in enumerate(read_lines(label), 1):
        if not line.strip():
            continue
        parsed = _parse(line, dataset.keypoints)
        if parsed is None:
            findings.add(Kind.LINE_MALFORMED, label, f"line {number}", line)
        elif parsed[0] not in numbers:
            findings.add(Kind.CLASS_ABSENT, label, f"line {number}", line)
        else:
            x1, y1, x2, y2 = parsed[1]
            box = x1 * width, y1 * height, x2 * width, y2 * height
            records.add(image, numbers[parsed[0]], box, number)


def _parse(line: str, keypoints: int) -> tuple[int, tuple[float, float, float, float]] | None:
    """Class number and xyxy in parts of the image, or None where the line is malformed."""
    try:
        label, *values = map(float, line.split())
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
