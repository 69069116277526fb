"""Class names of mask folders: classes.txt, class lists of labeling tools, Pascal VOC, or numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from densevision.errors import DataError
from densevision.io.file_cache import read_state
from densevision.io.image import read_index_mask
from densevision.io.lines import read_lines
from densevision.io.masks import UNKNOWN, Color, LabelEncoding

__all__ = ["MaskClasses", "find_voc_classes", "read_class_list"]

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PASCAL_STEM = r"20\d\d_\d{6}"
"""Names of Pascal VOC's images."""
IGNORED_CLASS = "__ignore__"
"""A line of labelme's list of labels that has no value in masks."""
BORDER_COLOR = (224, 224, 192)
"""Color of unknown pixels in masks of Pascal VOC."""
UNKNOWN_CLASS = "-"
"""A line of classes.txt whose value means unknown."""


class MaskClasses(NamedTuple):
    """Class names, the values or colors of the classes, and choices that were made."""

    names: tuple[str, ...]
    encoding: LabelEncoding
    notes: tuple[str, ...] = ()


def read_class_list(root: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Reads classes.txt: names, one per line in the order of the values from 0; and the values of lines `-`."""
    file = root / "classes.txt"
    lines = [line.strip() for line in read_lines(file)] if file.is_file() else []
    while lines and not lines[-1]:
        lines.pop()
    names = tuple(line for line in lines if line != UNKNOWN_CLASS)
    return names, tuple(value for value, line in enumerate(lines) if line == UNKNOWN_CLASS)


def find_voc_classes(root: Path, images: Sequence[str], masks: Sequence[str]) -> MaskClasses | None:
    """Finds the classes of a VOC layout: those that the dataset lists, Pascal's for Pascal's images, or numbers.

    Args:
        root: The dataset.
        images: Names of the images.
        masks: Masks relative to the root.

    Returns:
        The classes; None if the masks are not index masks and the dataset does not list classes.

    Raises:
        DataError: The list of classes is invalid.
    """
    for list_file in (root / "class_names.txt", root / "labels.txt"):
        if list_file.is_file():
            lines = [line.strip() for line in read_lines(list_file)]
            names = tuple(line for line in lines if line and line != IGNORED_CLASS)
            return MaskClasses(names, LabelEncoding(len(names)))
    if (root / "labelmap.txt").is_file():
        names, encoding = _read_label_map(root / "labelmap.txt")
        return MaskClasses(names, encoding)
    if all(re.fullmatch(PASCAL_STEM, Path(image).stem) for image in images):
        return MaskClasses(VOC_NAMES, LabelEncoding(len(VOC_NAMES)))
    files = tuple(root / mask for mask in masks)
    count = _count_classes(files, tuple(map(read_state, files)))
    if not count:
        return None
    names = tuple(f"class_{value}" for value in range(count))
    note = "the dataset has no class names, so classes are numbered: write the names into classes.txt, one per line"
    return MaskClasses(names, LabelEncoding(count), (note,))


def _read_label_map(file: Path) -> tuple[tuple[str, ...], LabelEncoding]:
    """Reads the classes and colors of CVAT's labelmap.txt: lines `name:r,g,b:parts:actions`.

    Raises:
        DataError: A line has another format.
    """
    names: list[str] = []
    colors: list[Color] = []
    for row, line in enumerate(read_lines(file), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if len(numbers) != 3 or not all(number.strip().isdigit() and int(number) < 256 for number in numbers):
            hint = "Write name:red,green,blue:: for each class."
            raise DataError("is not a line of a label map", file=file, field=f"line {row}", value=line, hint=hint)
        names.append(name.strip())
        colors.append((int(numbers[0]), int(numbers[1]), int(numbers[2])))
    if not names:
        raise DataError("has no class", file=file, hint="Write name:red,green,blue:: for each class.")
    unknown = () if BORDER_COLOR in colors else (BORDER_COLOR,)
    return tuple(names), LabelEncoding(len(names), colors=tuple(colors), unknown_colors=unknown)


@lru_cache(maxsize=16)
def _count_classes(masks: tuple[Path, ...], states: tuple[Any, ...]) -> int:
    """Returns the number of classes in masks, one more than the largest value; 0 if they are not index masks.

    The states tell the cache which masks have changed.
    """
    count = 0
    try:
        for mask in masks:
            values = read_index_mask(mask)
            values = values[values != UNKNOWN]
            count = max(count, int(values.max()) + 1 if values.size else 0)
    except DataError:
        return 0
    return count
