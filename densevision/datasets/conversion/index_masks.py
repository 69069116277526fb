"""Class maps as index masks: from objects, from Cityscapes, from palettes; and index masks as objects."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from densevision.datasets.conversion.objects import Objects, categories, image_name, lose_category_ids, lose_ids
from densevision.datasets.conversion.polygons import drawn, is_exact
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.coco_masks import BACKGROUND
from densevision.datasets.mask_layouts import SPLITS, CocoJson, MaskFolders, find_masks
from densevision.datasets.scene_splits import SceneSource
from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import write_text
from densevision.io.box_table import BoxTable, Strings
from densevision.io.image import image_size, write_image
from densevision.io.lines import read_lines
from densevision.io.masks import UNKNOWN, Coding, Color
from densevision.io.segmentations import Gathered
from densevision.ops import masks as runs

PALETTE = "A palette has a line `R G B name` for each class; a class called - means unknown."
MOST = 255
"""Classes that an index mask tells apart, besides what is unknown."""


def write_objects(splits: dict[str, Objects], out: Path, losses: ConversionReport, uncovered_unknown: bool) -> None:
    """<split>/images, <split>/masks and classes.txt; small objects lie over large ones, and all over crowds.

    Args:
        splits: Objects with masks.
        out: The folder.
        losses: What is lost.
        uncovered_unknown: Pixels of no object are 255; otherwise they are 0, the background, before the classes.
    """
    classes = categories(splits)
    names, first = tuple(classes), 0 if uncovered_unknown else 1
    values = {name: value for value, name in enumerate(names, first)}
    if len(names) + first > MOST:
        raise DataError(f"an index mask holds {MOST} classes", value=len(names) + first, hint="Join classes.")
    for split, objects in splits.items():
        if objects.masks is None:
            raise DataError("boxes have no pixels", file=objects.folder, hint="Give a dataset with masks or polygons.")
        taken: dict[str, str] = {}
        for image in range(len(objects.boxes)):
            name = image_name(objects, image, taken)
            labels = _drawn(objects, image, values, UNKNOWN if uncovered_unknown else 0, losses)
            _write_pair(objects.folder / objects.boxes.files[image], labels, out / split, name)
        losses.add("which pixels belong to which object", len(objects.boxes.labels))
        losses.add("marks of crowds", int(objects.boxes.crowd.sum()))
        lose_ids(objects, losses)
    lose_category_ids(classes.values(), first, losses)
    _write_classes(out, (names if uncovered_unknown else (BACKGROUND, *names)))


def _drawn(
    objects: Objects, image: int, values: dict[str, int], uncovered: int, losses: ConversionReport
) -> np.ndarray:
    rows = list(objects.rows(image))
    masks = {row: objects.masks.mask(row, objects.size(image)) for row in rows}
    sizes = dict(zip(rows, runs.areas(list(masks.values())).tolist()))
    labels = np.full(objects.size(image), uncovered, np.uint8)
    covered = np.zeros(labels.shape, bool)
    for row in sorted(rows, key=lambda row: (not objects.boxes.crowd[row], -sizes[row])):
        pixels = runs.decode(masks[row])
        losses.add("pixels that two objects share", int((covered & pixels).sum()))
        covered |= pixels
        labels[pixels] = values[objects.name(row)]
    return labels


def read_masks(path: str, palette: Path | None, losses: ConversionReport) -> dict[str, MaskFolders]:
    """The folders of masks of a dataset, split by split; one without splits is one, "train".

    Args:
        path: Cityscapes, Pascal VOC, or folders of images and masks.
        palette: What the colors of masks mean.
        losses: Where it is said what was left aside.

    Raises:
        DataError: Nothing is recognized, or the classes are not known.
    """
    found = find_masks(path)
    if any(isinstance(source, SceneSource | CocoJson) for source in found.values()):
        raise UsageError("are no folders of masks", field="source", value=path)
    sources = _as_it_lies(Path(path), dict(found))  # type: ignore[arg-type]
    losses.add("test splits", int(_has_test(Path(path), sources)))
    if palette is not None:
        names, coding = read_palette(palette)
        return {split: _with(source, names, coding) for split, source in sources.items()}
    for source in sources.values():
        if source.names is None:
            hint = "Write them into classes.txt, one a line in the order of the values; or give --palette."
            raise DataError("the class names are not known", file=source.root, hint=hint)
    return sources


def _as_it_lies(root: Path, sources: dict[str, MaskFolders]) -> dict[str, MaskFolders]:
    """The splits without the tenth that training holds out where nothing is named as a validation split."""
    near = (path for pattern in ("*", "*/*", "*/*/*") for path in root.glob(pattern) if path.stem in SPLITS["val"])
    if len(sources) == 1 or any(path.is_dir() or path.suffix == ".txt" for path in near):
        return sources
    train, val = sources["train"], sources["val"]
    return {"train": replace(train, pairs=tuple(sorted((*train.pairs, *val.pairs))))}


def _has_test(root: Path, sources: dict[str, MaskFolders]) -> bool:
    """Whether there is a folder of test images that validates nothing."""
    tests = [folder for folder in (root / "test", *root.glob("*/test")) if folder.is_dir()]
    taken = {root / image for source in sources.values() for image, _ in source.pairs}
    return bool(tests) and not any(folder in image.parents for folder in tests for image in taken)


def read_palette(file: Path) -> tuple[tuple[str, ...], Coding]:
    """Class names, and what colors mean, of a file of lines `R G B name`; a class called `-` means unknown.

    Raises:
        DataError: A line is of another form.
    """
    names: list[str] = []
    colors: list[Color] = []
    unknown: list[Color] = []
    for number, line in enumerate(read_lines(file), 1):
        words = line.split(maxsplit=3)
        if not words:
            continue
        if len(words) != 4 or not all(word.isdigit() and int(word) < 256 for word in words[:3]):
            raise DataError("no line of a palette", file=file, field=f"line {number}", value=line, hint=PALETTE)
        color = (int(words[0]), int(words[1]), int(words[2]))
        if words[3].strip() == "-":
            unknown.append(color)
        else:
            names.append(words[3].strip())
            colors.append(color)
    if not names:
        raise DataError("names no class", file=file, hint=PALETTE)
    return tuple(names), Coding(len(names), colors=tuple(colors), unknown_colors=tuple(unknown))


def write_masks(splits: dict[str, MaskFolders], out: Path, losses: ConversionReport) -> None:
    """Masks of any coding as index masks: <split>/images, <split>/masks and classes.txt."""
    names: tuple[str, ...] = ()
    for split, source in splits.items():
        names = source.names or names
        for image, mask, labels in _labels(source, losses):
            if source.coding is not None and source.coding.others_unknown:
                losses.add("pixels of values that are no class, unknown now", int((labels == UNKNOWN).sum()))
            _write_pair(source.root / image, labels, out / split, _short(image, split))
            losses.add("masks with a palette or colors, numbers now", int(source.coding.colors is not None))
            del mask
    _write_classes(out, names)


def objects_of(splits: dict[str, MaskFolders], losses: ConversionReport) -> dict[str, Objects]:
    """Each connected part of a class as an object; the class "background" is none, and unknown pixels are lost."""
    return {split: _objects(split, source, losses) for split, source in splits.items()}


def _objects(split: str, source: MaskFolders, losses: ConversionReport) -> Objects:
    names, gathered = source.names or (), Gathered()
    classes = [index for index, name in enumerate(names) if name != BACKGROUND]
    position = {index: place for place, index in enumerate(classes)}
    files, sizes, counts, boxes, labels, areas = [], [], [], [], [], []
    for image, _, found in _labels(source, losses):
        losses.add("pixels that are unknown", int((found == UNKNOWN).sum()))
        parts = [(index, part) for index in classes for part in _parts(found == index)]
        for index, part in parts:
            outlines = drawn(part)
            if is_exact(outlines, part):
                gathered.add_outlines([outline.ravel().tolist() for outline in outlines])
            else:
                gathered.add_runs(part)
            boxes.append(runs.boxes([part])[0])
            labels.append(position[index])
            areas.append(runs.areas([part])[0])
        files.append(image)
        sizes.append(found.shape)
        counts.append(len(parts))
    table = BoxTable(
        files=Strings.of(files),
        sizes=np.array(sizes, np.int32).reshape(-1, 2),
        image_ids=np.arange(1, len(files) + 1),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int32),
        crowd=np.zeros(len(labels), bool),
        areas=np.array(areas, np.float64),
        origin=np.arange(len(labels), dtype=np.int32),
        names=tuple(names[index] for index in classes),
        ids=tuple(place + 1 for place in range(len(classes))),
    )
    short = tuple(_short(image, split) for image in files)
    return Objects(table, gathered.packed(), source.root, short, np.array(areas, np.float64))


def _labels(source: MaskFolders, losses: ConversionReport) -> Iterator[tuple[str, str, np.ndarray]]:
    """Image, mask and class map of each pair."""
    assert source.coding is not None
    for image, mask in source.pairs:
        if mask is None:
            losses.add("images without a mask")
            continue
        labels = source.coding.read(source.root / mask)
        if labels.shape != image_size(source.root / image):
            problem = "the mask is of another size than its image"
            raise DataError(problem, file=source.root / mask, value=labels.shape, hint="Make it anew from this image.")
        yield image, mask, labels
    losses.add("masks without an image", len(source.strays))


def _parts(mask: np.ndarray) -> list[runs.RLE]:
    """The connected parts of a mask; pixels whose corners alone touch are apart, as an outline has them."""
    if not mask.any():
        return []
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    found = []
    for number in range(1, count):
        left, top, width, height = stats[number, :4].tolist()
        window = numbers[top : top + height, left : left + width] == number
        found.append(runs.encode_window(window.T, (left, top), mask.shape))
    return found


def _with(source: MaskFolders, names: tuple[str, ...], coding: Coding) -> MaskFolders:
    return replace(source, names=names, coding=coding)


def _short(image: str, split: str) -> str:
    """An image's name without the folders that a layout puts before it."""
    plain = {"images", "image", "imgs", "img", "JPEGImages", "leftImg8bit", split}
    *folders, name = image.split(os.sep)
    return os.path.join(*(folder for folder in folders if folder not in plain), name)


def _write_pair(image: Path, labels: np.ndarray, folder: Path, name: str) -> None:
    target = folder / "images" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(image, target)
    write_image(folder / "masks" / f"{os.path.splitext(name)[0]}.png", labels)


def _write_classes(out: Path, names: tuple[str, ...]) -> None:
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in names))
