"""What is looked for in a dataset of class maps. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densevision.checks import table
from densevision.checks.box_edits import CocoPicturesEdit, rewrite_list
from densevision.checks.boxes import judge_classes
from densevision.checks.pictures import Album, Facts
from densevision.checks.repair import Repair
from densevision.checks.survey import Survey
from densevision.checks.table import Check, of_kind
from densevision.data.mask_layouts import CocoJson, MaskFolders, PictureNames, find_masks
from densevision.data.scene_splits import SceneSource
from densevision.errors import DataError
from densevision.io.coco_masks import CocoMasks
from densevision.io.findings import Kind
from densevision.io.image import read_image, read_index, to_rgb, write_image
from densevision.io.masks import UNKNOWN, Coding
from densevision.tasks.semantic.config import SemanticConfig

UNLABELLED_SHARE = 0.5
"""Of all pixels of a split; more is worth a look."""
SHOWN = 5
"""Values or colours of no class that are named."""

MASK_BROKEN = Check(
    "mask-broken",
    "error",
    "a mask that cannot be read, was compressed with loss, or has colours where numbers are expected",
    "Save masks as PNG of one channel; for masks in colour set data.colours.",
    "left out with its picture",
)
COLOUR = Check(
    "mask-colour",
    "error",
    "a mask with colours that are not in the palette",
    "Add them to data.colours or data.unknown_colours. Mixtures of two colours come from resizing or JPEG.",
    "those pixels in the first of data.unknown_colours, where there is one",
)
VALUE = of_kind(Kind.MASK_VALUE)
SIZE, UNKNOWN_MASK, NO_MASK, NO_PICTURE = map(
    of_kind, (Kind.MASK_SIZE, Kind.MASK_UNKNOWN, Kind.LABELS_MISSING, Kind.PICTURE_ABSENT)
)
UNLABELLED = Check(
    "unlabelled",
    "warning",
    f"a split in which more than {UNLABELLED_SHARE:.0%} of the pixels are unknown",
    "Look whether data.unknown, or the classes that are listed, say too little.",
)

CHECKS = (
    *(*table.SHARED, table.UNUSED, table.ABSENT, table.IMBALANCE),
    *(MASK_BROKEN, VALUE, COLOUR, SIZE, UNKNOWN_MASK, NO_MASK, NO_PICTURE, UNLABELLED),
)
"""All that `check` may find."""


@dataclass(frozen=True)
class Reading:
    """What one mask tells.

    Attributes:
        pixels: (classes + 1,) pixels of each class, and of none at last.
        size: (height, width).
        fault: The check that it fails, if any.
        words: What was found.
    """

    pixels: np.ndarray
    size: tuple[int, int] = (0, 0)
    fault: Check | None = None
    words: str = ""


@dataclass
class ListEdit:
    """Lists of names without those of pictures, named from the root, that were left out."""

    root: Path
    pictures: list[str] = field(default_factory=list)

    def apply(self, repair: Repair) -> None:
        """Rewrites the lists."""
        names = PictureNames(self.pictures)

        def stays(line: str) -> bool:
            found = names.find(line)
            return len(found) != 1 or not repair.is_left_out(self.root / found[0])

        for file in sorted(self.root.rglob("*.txt")):
            rewrite_list(file, stays, repair)


def check(config: SemanticConfig, survey: Survey) -> None:
    """Looks at every picture and every pixel of its mask.

    Raises:
        DataError: The dataset is not recognised, or its classes are not known.
    """
    album, counts, names = Album(survey), {}, ()
    for split, source in find_masks(config.data.path or "", config.data.train, config.data.val).items():
        if isinstance(source, SceneSource):
            survey.counted(split, scenes=source.count)
        elif isinstance(source, CocoJson):
            names, counts[split] = _check_coco(config, survey, album, split, source)
        else:
            names, counts[split] = _check_folders(config, survey, album, split, source)
    album.judge()
    root = Path(config.data.path or "")
    for split, pixels in counts.items():
        share = pixels[-1] / max(pixels.sum(), 1)
        if share > UNLABELLED_SHARE:
            survey.add(UNLABELLED, root, split, f"{share:.0%}")
    if counts:
        judge_classes(survey, names, {split: pixels[:-1] for split, pixels in counts.items()}, root, "pixels")


def _check_folders(
    config: SemanticConfig, survey: Survey, album: Album, split: str, source: MaskFolders
) -> tuple[tuple[str, ...], np.ndarray]:
    from densevision.tasks.semantic.data import class_names, coding_of, own_names

    names = config.classes or class_names(config)
    coding, root, repair = coding_of(config, source, names), source.root, survey.repair
    names = own_names(config, source, names)
    for stray in source.strays:
        survey.add(NO_PICTURE, root / stray)
        repair.leave_out(root / stray, NO_PICTURE.name)
    for picture, mask in source.pairs:
        if mask is None:
            survey.add(NO_MASK, root / picture)
            repair.leave_out(root / picture, NO_MASK.name)
    pairs = [(root / picture, root / mask) for picture, mask in source.pairs if mask is not None]
    for picture, mask in pairs:
        repair.follow(picture, mask)
    repair.edit(root, lambda: ListEdit(root)).pictures += [picture for picture, _ in source.pairs]
    facts = album.look(split, [picture for picture, _ in pairs])
    multilabel = config.mode == "multilabel"

    def read(pair: tuple[Path, Path]) -> Reading:
        return read_mask(pair[1], coding, config.data.max_pixels, multilabel)

    total = np.zeros(len(names) + 1, np.int64)
    readings = survey.spread(read, pairs, f"{split}: masks")
    for (picture, mask), of_picture, reading in zip(pairs, facts, readings):
        total += reading.pixels
        if not _judge(survey, mask, of_picture, reading):
            continue
        if reading.fault in (VALUE, COLOUR):
            _mend(repair, mask, coding, reading.fault)
        elif reading.fault is not None or of_picture.fault is not None or reading.size != of_picture.size:
            why = (reading.fault or SIZE).name if of_picture.fault is None else of_picture.fault
            repair.leave_out(picture, why)
            repair.leave_out(mask, why)
    return names, total


def read_mask(path: Path, coding: Coding, max_pixels: int, multilabel: bool = False) -> Reading:
    """Looks at every pixel of a mask; never raises for what is wrong with it."""
    nothing = np.zeros(coding.classes + 1, np.int64)
    try:
        if multilabel:
            return _read_sets(path, coding.classes, max_pixels)
        if coding.colours is not None:
            pixels = to_rgb(read_image(path, max_pixels))
            labels = coding.tolerant().decode_colours(pixels, path)
        else:
            pixels = read_index(path, max_pixels)
            labels = coding.tolerant().decode(pixels, path)
    except DataError as failure:
        words = failure.problem if path.is_file() else "no such file"
        return Reading(nothing, fault=MASK_BROKEN, words=words)
    seen = np.bincount(labels.ravel(), minlength=UNKNOWN + 1)
    counts = np.append(seen[: coding.classes], seen[UNKNOWN])
    fault, words = _strangers(pixels, labels, coding)
    return Reading(counts, labels.shape, fault, words)


def _strangers(pixels: np.ndarray, labels: np.ndarray, coding: Coding) -> tuple[Check | None, str]:
    """The values or colours that are no class and do not mean unknown."""
    if coding.others_unknown or not (lost := labels == UNKNOWN).any():
        return None, ""
    rows = pixels[lost]
    known = coding.unknown_colours if coding.colours is not None else (*coding.unknown, UNKNOWN)
    if coding.colours is None:
        found, many = np.unique(rows, return_counts=True)
        strange = ~np.isin(found, known)
    else:
        found, many = np.unique(rows.reshape(-1, 3), axis=0, return_counts=True)
        strange = np.array([tuple(colour) not in known for colour in found.tolist()])
    if not strange.any():
        return None, ""
    order = np.argsort(-many[strange])[:SHOWN]
    listed = ", ".join(str(value) for value in found[strange][order].tolist())
    more = ", ..." if strange.sum() > SHOWN else ""
    words = f"{int(many[strange].sum())} pixels: {listed}{more}"
    return (VALUE if coding.colours is None else COLOUR), words


def _read_sets(path: Path, classes: int, max_pixels: int) -> Reading:
    """Masks whose pixels are sets of classes, one bit each; 65535 is unknown."""
    pixels = read_index(path, max_pixels).astype(np.uint16)
    known = pixels != 65535
    counts = [int(((pixels >> np.uint16(one)) & 1)[known].sum()) for one in range(classes)]
    stray = known & (pixels >> np.uint16(classes) > 0)
    words = f"{int(stray.sum())} pixels: {int(pixels[stray][0])}" if stray.any() else ""
    return Reading(np.array([*counts, int((~known).sum())]), pixels.shape, VALUE if words else None, words)


def _judge(survey: Survey, mask: Path, picture: Facts, reading: Reading) -> bool:
    """Reports what is wrong with a mask; whether anything is."""
    if reading.fault is not None:
        survey.add(reading.fault, mask, None, reading.words)
        if reading.fault is MASK_BROKEN:
            return True
    elif reading.pixels.any() and reading.pixels[-1] == reading.pixels.sum():
        survey.add(UNKNOWN_MASK, mask, severity="warning")
    if picture.fault is None and reading.size != picture.size:
        (height, width), (tall, wide) = reading.size, picture.size
        survey.add(SIZE, mask, None, f"{height} x {width}, the picture {tall} x {wide}")
    return reading.fault is not None or picture.fault is not None or reading.size != picture.size


def _mend(repair: Repair, mask: Path, coding: Coding, fault: Check) -> None:
    """Pixels of no class become unknown."""
    if fault is COLOUR and not coding.unknown_colours:
        return

    def write(target: Path) -> None:
        if fault is COLOUR:
            pixels = to_rgb(read_image(mask))
            lost = coding.tolerant().decode_colours(pixels, mask) == UNKNOWN
            pixels[lost] = coding.unknown_colours[0]
            write_image(target, pixels)
        else:
            pixels = read_index(mask)
            pixels[coding.tolerant().decode(pixels, mask) == UNKNOWN] = UNKNOWN
            write_image(target, pixels)

    repair.rewrite(mask, write, "written anew with pixels of no class as unknown")


def _check_coco(
    config: SemanticConfig, survey: Survey, album: Album, split: str, source: CocoJson
) -> tuple[tuple[str, ...], np.ndarray]:
    """A json of segments or objects: its pictures, and the class maps that are drawn of it."""
    masks = source.read()
    facts = album.look(split, [source.pictures / name for name in masks.pictures])
    survey.repair.edit(source.file, lambda: CocoPicturesEdit(source.file, source.pictures))
    total = np.zeros(UNKNOWN + 1, np.int64)
    rows = [row for row, of_picture in enumerate(facts) if of_picture.fault is None]
    for row, found in zip(rows, survey.spread(_drawer(masks, facts), rows, f"{split}: masks")):
        if isinstance(found, str):
            survey.add(MASK_BROKEN, source.file, masks.pictures[row], found)
            survey.repair.leave_out(facts[row].file, MASK_BROKEN.name)
        else:
            total += found
    return masks.names, np.append(total[: len(masks.names)], total[UNKNOWN])


def _drawer(masks: CocoMasks, facts: list[Facts]) -> Callable[[int], Any]:
    def draw(row: int) -> np.ndarray | str:
        try:
            labels = masks.read(row, facts[row].size)
        except DataError as failure:
            return failure.problem
        if labels.shape != facts[row].size:
            return f"{labels.shape}, the picture {facts[row].size}"
        return np.bincount(labels.ravel(), minlength=UNKNOWN + 1)

    return draw
