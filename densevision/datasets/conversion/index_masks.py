"""Index masks from objects, Cityscapes and color masks; and objects from index masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from densevision.datasets.conversion.objects import (
    ObjectSplit,
    claim_image_name,
    collect_categories,
    count_category_ids,
    count_image_ids,
)
from densevision.datasets.conversion.polygons import is_exact, trace_polygons
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.coco_masks import BACKGROUND
from densevision.datasets.mask_layouts import CocoMaskSource, MaskFolderSource, detect_mask_format
from densevision.datasets.splits import SPLIT_NAMES, SceneSource
from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import write_text
from densevision.io.box_table import BoxTable, StringArray
from densevision.io.image import read_image_size, write_image
from densevision.io.lines import read_lines
from densevision.io.masks import UNKNOWN, Color, LabelEncoding
from densevision.io.placeholders import copy_file
from densevision.io.segmentations import SegmentationBuilder
from densevision.ops import masks as rle

__all__ = ["build_objects", "read_masks", "read_palette", "write_masks", "write_objects"]

PALETTE_HINT = "A palette has a line `R G B name` for each class; the name - means unknown."
MAX_CLASSES = 255
"""Classes of an index mask, besides the value for unknown."""


def write_objects(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport, uncovered_unknown: bool) -> None:
    """Writes <split>/images, <split>/masks and classes.txt; small objects cover large ones, and all cover crowds.

    Args:
        splits: Objects with masks.
        out: The folder.
        report: Counts lost information.
        uncovered_unknown: Pixels without an object are 255; otherwise they are 0, the background class.
    """
    categories = collect_categories(splits)
    names, first = tuple(categories), 0 if uncovered_unknown else 1
    values = {name: value for value, name in enumerate(names, first)}
    if len(names) + first > MAX_CLASSES:
        raise DataError(f"an index mask holds {MAX_CLASSES} classes", value=len(names) + first, hint="Merge classes.")
    for split, objects in splits.items():
        if objects.masks is None:
            raise DataError(
                "boxes cannot be converted to masks", file=objects.folder, hint="Give a dataset with masks or polygons."
            )
        claimed: dict[str, str] = {}
        for image in range(len(objects.boxes)):
            name = claim_image_name(objects, image, claimed)
            labels = _rasterize(objects, image, values, UNKNOWN if uncovered_unknown else 0, report)
            _write_pair(objects.folder / objects.boxes.files[image], labels, out / split, name)
        report.add("object identities of pixels", len(objects.boxes.labels))
        report.add("crowd flags", int(objects.boxes.crowd.sum()))
        count_image_ids(objects, report)
    count_category_ids(categories.values(), first, report)
    _write_classes(out, (names if uncovered_unknown else (BACKGROUND, *names)))


def _rasterize(
    objects: ObjectSplit, image: int, values: dict[str, int], uncovered: int, report: ConversionReport
) -> np.ndarray:
    assert objects.masks is not None
    rows = list(objects.rows(image))
    masks = {row: objects.masks.mask(row, objects.size(image)) for row in rows}
    areas = dict(zip(rows, rle.compute_areas(list(masks.values())).tolist()))
    labels = np.full(objects.size(image), uncovered, np.uint8)
    covered = np.zeros(labels.shape, bool)
    for row in sorted(rows, key=lambda row: (not objects.boxes.crowd[row], -areas[row])):
        pixels = rle.decode(masks[row])
        report.add("overlapping pixels", int((covered & pixels).sum()))
        covered |= pixels
        labels[pixels] = values[objects.name(row)]
    return labels


def read_masks(path: str, palette: Path | None, report: ConversionReport) -> dict[str, MaskFolderSource]:
    """Reads the mask folders of a dataset, split by split; a dataset without splits becomes one split, "train".

    Args:
        path: Cityscapes, Pascal VOC, or folders of images and masks.
        palette: Classes of the colors.
        report: Counts test splits.

    Raises:
        DataError: The format is unknown, or there are no class names.
    """
    splits = detect_mask_format(path)
    if any(isinstance(source, SceneSource | CocoMaskSource) for source in splits.values()):
        raise UsageError("is not a dataset of mask folders", field="source", value=path)
    sources = _undo_hold_out(Path(path), dict(splits))  # type: ignore[arg-type]
    report.add("test splits", int(_has_test_split(Path(path), sources)))
    if palette is not None:
        names, encoding = read_palette(palette)
        return {split: replace(source, names=names, encoding=encoding) for split, source in sources.items()}
    for source in sources.values():
        if source.names is None:
            hint = "Write them into classes.txt, one per line in the order of the values; or give a palette."
            raise DataError("there are no class names", file=source.root, hint=hint)
    return sources


def _undo_hold_out(root: Path, sources: dict[str, MaskFolderSource]) -> dict[str, MaskFolderSource]:
    """Returns the splits on disk: the held-out tenth is merged back if there is no validation split."""
    paths = (
        path for pattern in ("*", "*/*", "*/*/*") for path in root.glob(pattern) if path.stem in SPLIT_NAMES["val"]
    )
    if len(sources) == 1 or any(path.is_dir() or path.suffix == ".txt" for path in paths):
        return sources
    train, val = sources["train"], sources["val"]
    return {"train": replace(train, pairs=tuple(sorted((*train.pairs, *val.pairs))))}


def _has_test_split(root: Path, sources: dict[str, MaskFolderSource]) -> bool:
    """Whether there is a test folder that is not used for validation."""
    folders = [folder for folder in (root / "test", *root.glob("*/test")) if folder.is_dir()]
    images = {root / image for source in sources.values() for image, _ in source.pairs}
    return bool(folders) and not any(folder in image.parents for folder in folders for image in images)


def read_palette(file: Path) -> tuple[tuple[str, ...], LabelEncoding]:
    """Reads class names and colors from a file of lines `R G B name`; the name `-` means unknown.

    Raises:
        DataError: A line has another format.
    """
    names: list[str] = []
    colors: list[Color] = []
    unknown: list[Color] = []
    for number, line in enumerate(read_lines(file), 1):
        words = line.split(maxsplit=3)
        if not words:
            continue
        if len(words) != 4 or not all(word.isdigit() and int(word) < 256 for word in words[:3]):
            raise DataError(
                "is not a line of a palette", file=file, field=f"line {number}", value=line, hint=PALETTE_HINT
            )
        color = (int(words[0]), int(words[1]), int(words[2]))
        if words[3].strip() == "-":
            unknown.append(color)
        else:
            names.append(words[3].strip())
            colors.append(color)
    if not names:
        raise DataError("has no class", file=file, hint=PALETTE_HINT)
    return tuple(names), LabelEncoding(len(names), colors=tuple(colors), unknown_colors=tuple(unknown))


def write_masks(splits: dict[str, MaskFolderSource], out: Path, report: ConversionReport) -> None:
    """Masks of any coding as index masks: <split>/images, <split>/masks and classes.txt."""
    names: tuple[str, ...] = ()
    for split, source in splits.items():
        names = source.names or names
        assert source.encoding is not None
        for image, labels in _read_labels(source, report):
            if source.encoding.others_unknown:
                report.add("pixels without a class, set to unknown", int((labels == UNKNOWN).sum()))
            _write_pair(source.root / image, labels, out / split, _shorten_name(image, split))
            report.add("color masks, converted to indices", int(source.encoding.colors is not None))
    _write_classes(out, names)


def build_objects(
    splits: dict[str, MaskFolderSource], report: ConversionReport, per_class: bool = False
) -> dict[str, ObjectSplit]:
    """Converts masks to objects; background and unknown pixels are skipped.

    Args:
        splits: The masks.
        report: Counts lost information.
        per_class: All pixels of a class are one object, as run lengths; otherwise each connected component is one, as
            a polygon where that is exact.
    """
    return {split: _build_split(split, source, report, per_class) for split, source in splits.items()}


def _build_split(split: str, source: MaskFolderSource, report: ConversionReport, per_class: bool) -> ObjectSplit:
    names, builder = source.names or (), SegmentationBuilder()
    classes = [index for index, name in enumerate(names) if name != BACKGROUND]
    position = {index: rank for rank, index in enumerate(classes)}
    files, sizes, counts, boxes, labels, areas = [], [], [], [], [], []
    for image, class_map in _read_labels(source, report):
        report.add("unknown pixels", int((class_map == UNKNOWN).sum()))
        divide = _take_whole if per_class else _find_components
        components = [(index, mask) for index in classes for mask in divide(class_map == index)]
        for index, mask in components:
            polygons = [] if per_class else trace_polygons(mask)
            if polygons and is_exact(polygons, mask):
                builder.add_polygons([polygon.ravel().tolist() for polygon in polygons])
            else:
                builder.add_rle(mask)
            boxes.append(rle.compute_boxes([mask])[0])
            labels.append(position[index])
            areas.append(rle.compute_areas([mask])[0])
        files.append(image)
        sizes.append(class_map.shape)
        counts.append(len(components))
    table = BoxTable(
        files=StringArray.of(files),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        image_ids=np.arange(1, len(files) + 1),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.zeros(len(labels), bool),
        areas=np.array(areas, np.float64),
        origin=np.arange(len(labels), dtype=np.int32),
        names=tuple(names[index] for index in classes),
        ids=tuple(range(1, len(classes) + 1)),
    )
    short_names = tuple(_shorten_name(image, split) for image in files)
    return ObjectSplit(table, builder.build(), source.root, short_names, np.array(areas, np.float64))


def _read_labels(source: MaskFolderSource, report: ConversionReport) -> Iterator[tuple[str, np.ndarray]]:
    """Yields image and class map of each pair."""
    assert source.encoding is not None
    for image, mask in source.pairs:
        if mask is None:
            report.add("images without a mask")
            continue
        labels = source.encoding.read(source.root / mask)
        if labels.shape != read_image_size(source.root / image):
            problem, hint = "the mask's size differs from its image", "Export the mask again."
            raise DataError(problem, file=source.root / mask, value=labels.shape, hint=hint)
        yield image, labels
    report.add("masks without an image", len(source.unmatched_masks))


def _take_whole(mask: np.ndarray) -> list[rle.RLE]:
    return [rle.encode(mask)] if mask.any() else []


def _find_components(mask: np.ndarray) -> list[rle.RLE]:
    """Finds the connected components of a mask with 4-connectivity, as polygons have it."""
    if not mask.any():
        return []
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    components = []
    for number in range(1, count):
        left, top, width, height = stats[number, :4].tolist()
        window = numbers[top : top + height, left : left + width] == number
        components.append(rle.encode_window(window.T, (left, top), mask.shape))
    return components


def _shorten_name(image: str, split: str) -> str:
    """Removes the folders that a layout prepends to the name of an image."""
    layout_folders = {"images", "image", "imgs", "img", "JPEGImages", "leftImg8bit", split}
    *folders, name = image.split(os.sep)
    return os.path.join(*(folder for folder in folders if folder not in layout_folders), name)


def _write_pair(image: Path, labels: np.ndarray, folder: Path, name: str) -> None:
    target = folder / "images" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(image, target)
    write_image(folder / "masks" / f"{os.path.splitext(name)[0]}.png", labels)


def _write_classes(out: Path, names: tuple[str, ...]) -> None:
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in names))
