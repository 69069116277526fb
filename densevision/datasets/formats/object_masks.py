"""Masks of objects as images: SegmentationObject numbers the objects, SegmentationClass states their classes.

Pascal VOC has them beside its boxes, CVAT ("Segmentation mask 1.1") and Datumaro write them without boxes and with
`labelmap.txt`. Pascal VOC stores numbers with a palette, CVAT and Datumaro the colors of that palette. Number 0 is
background and 255 the border between objects. ImageSets/Segmentation may list the images of each split. Boxes are those
of the masks, and the class of an object is that of most of its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from densevision.datasets.formats.labeled_objects import LabeledImage, LabeledObject, MaskWindow
from densevision.datasets.formats.voc import IMAGE_FOLDERS
from densevision.datasets.mask_classes import find_voc_classes
from densevision.errors import DataError
from densevision.io.image import read_image, read_image_size, read_index_mask, to_rgb
from densevision.io.image_files import IMAGE_SUFFIXES, list_files
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import read_lines
from densevision.io.masks import UNKNOWN, LabelEncoding
from densevision.ops.masks import encode

__all__ = ["find_labels", "read_class_names", "read_images"]

OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
BACKGROUND = "background"


def find_labels(folder: Path) -> Path | None:
    """Returns the folder if it holds masks of objects and of classes."""
    return folder if all(folder.joinpath(name).is_dir() for name in (OBJECTS, CLASSES)) else None


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Returns the classes that the dataset lists, or Pascal's, without the background; None if there are no masks.

    Raises:
        DataError: The list of classes is invalid, or there is none for masks of colors.
    """
    names, _ = _read_classes(folder)
    return tuple(name for name in names if name != BACKGROUND) or None


def read_images(folder: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images that have a mask of objects.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    classes = _read_classes(folder)
    subsets = _read_subsets(folder)
    images = {
        file.stem: file
        for name in reversed(IMAGE_FOLDERS)
        for file in list_files(folder / name, "*")
        if file.suffix.lower() in IMAGE_SUFFIXES
    }
    for mask in list_files(folder / OBJECTS, "*.png"):
        path = images.get(mask.stem)
        if path is None:
            issues.add(IssueKind.IMAGE_ABSENT, mask, None, mask.stem, mask.name)
            continue
        try:
            size = read_image_size(mask)
        except DataError as failure:
            issues.add(IssueKind.FILE_MALFORMED, mask, None, str(failure))
            continue
        parse = partial(_parse_objects, mask, folder / CLASSES / mask.name, *classes)
        yield LabeledImage(str(path.relative_to(root)), mask, "size", size, parse, subset=subsets.get(mask.stem))


def _read_classes(folder: Path) -> tuple[tuple[str, ...], LabelEncoding]:
    masks = [str(file.relative_to(folder)) for file in list_files(folder / CLASSES, "*.png")]
    classes = find_voc_classes(folder, masks, masks)
    if classes is None:
        hint = "Write labelmap.txt with lines name:red,green,blue::."
        raise DataError("masks of colors without a list of classes", file=folder / CLASSES, hint=hint)
    return classes.names, classes.encoding


def _read_subsets(folder: Path) -> dict[str, str]:
    """Stem of an image -> the split in whose list it is."""
    lists = [file for file in list_files(folder / "ImageSets" / "Segmentation", "*.txt") if file.stem != "trainval"]
    return {line.strip(): file.stem for file in lists for line in read_lines(file) if line.strip()}


def _parse_objects(
    file: Path, class_file: Path, names: tuple[str, ...], encoding: LabelEncoding, issues: LabelIssues
) -> Iterator[LabeledObject]:
    try:
        numbers, classes = read_object_numbers(file), encoding.read(class_file)
    except DataError as failure:
        issues.add(IssueKind.FILE_MALFORMED, file, failure.field, str(failure))
        return
    if numbers.shape != classes.shape:
        value = f"{numbers.shape[1]} x {numbers.shape[0]}, {class_file.name} of {CLASSES} differs"
        issues.add(IssueKind.MASK_SIZE, file, None, value)
        return
    for number in np.unique(numbers[(numbers > 0) & (numbers != UNKNOWN)]).tolist():
        mask, field = numbers == number, f"object {number}"
        counts = np.bincount(classes[mask], minlength=UNKNOWN + 1)[: len(names)]
        label = names[int(counts.argmax())]
        if not counts.any() or label == BACKGROUND:
            issues.add(IssueKind.CLASS_ABSENT, class_file, field, label if counts.any() else "unknown")
            continue
        yield LabeledObject(label, field, windows=[MaskWindow(encode(mask), 0, 0)])


def read_object_numbers(file: Path) -> np.ndarray:
    """Reads the number of the object of each pixel.

    Colors are those of Pascal VOC's palette: bit 3 j of the number is bit 7 - j of red, bit 3 j + 1 that of green, bit
    3 j + 2 that of blue (`VOClabelcolormap.m` of the development kit).

    Returns:
        (H, W) integers; 0 is background, 255 is the border.

    Raises:
        DataError: The mask cannot be read.
    """
    try:
        return read_index_mask(file).astype(np.int32)
    except DataError:
        pixels = to_rgb(read_image(file)).astype(np.int32)
    bits = [((pixels[..., channel] >> (7 - j)) & 1) << (3 * j + channel) for j in range(8) for channel in range(3)]
    return np.bitwise_or.reduce(bits)
