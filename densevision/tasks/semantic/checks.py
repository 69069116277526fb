"""What is looked for in a dataset of class maps. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.box_edits import CocoImagesEdit, rewrite_list
from densevision.datasets.checks.boxes import judge_classes
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.fixes import Repair
from densevision.datasets.checks.image_scanner import ImageInfo, ImageScanner
from densevision.datasets.formats.coco_masks import CocoMasks
from densevision.datasets.mask_layouts import CocoJson, ImageNames, MaskFolders, find_masks
from densevision.datasets.scene_splits import SceneSource
from densevision.errors import DataError
from densevision.io.image import read_image, read_index, to_rgb, write_image
from densevision.io.label_issues import Kind
from densevision.io.masks import UNKNOWN, Coding
from densevision.tasks.semantic.config import SemanticConfig

UNLABELED_SHARE = 0.5
"""Of all pixels of a split; more is worth a look."""
SHOWN = 5
"""Values or colors of no class that are named."""

MASK_BROKEN = Check(
    "mask-broken",
    "error",
    "a mask that cannot be read, was compressed with loss, or has colors where numbers are expected",
    "Save masks as PNG of one channel; for masks in color set data.colors.",
    "left out with its image",
)
COLOR = Check(
    "mask-color",
    "error",
    "a mask with colors that are not in the palette",
    "Add them to data.colors or data.unknown_colors. Mixtures of two colors come from resizing or JPEG.",
    "those pixels in the first of data.unknown_colors, where there is one",
)
VALUE = of_kind(Kind.MASK_VALUE)
SIZE, UNKNOWN_MASK, NO_MASK, NO_IMAGE = map(
    of_kind, (Kind.MASK_SIZE, Kind.MASK_UNKNOWN, Kind.LABELS_MISSING, Kind.IMAGE_ABSENT)
)
UNLABELED = Check(
    "unlabeled",
    "warning",
    f"a split in which more than {UNLABELED_SHARE:.0%} of the pixels are unknown",
    "Look whether data.unknown, or the classes that are listed, say too little.",
)

CHECKS = (
    *(*table.SHARED, table.UNUSED, table.ABSENT, table.IMBALANCE),
    *(MASK_BROKEN, VALUE, COLOR, SIZE, UNKNOWN_MASK, NO_MASK, NO_IMAGE, UNLABELED),
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
    """Lists of names without those of images, named from the root, that were left out."""

    root: Path
    images: list[str] = field(default_factory=list)

    def apply(self, repair: Repair) -> None:
        """Rewrites the lists."""
        names = ImageNames(self.images)

        def stays(line: str) -> bool:
            found = names.find(line)
            return len(found) != 1 or not repair.is_left_out(self.root / found[0])

        for file in sorted(self.root.rglob("*.txt")):
            rewrite_list(file, stays, repair)


def check(config: SemanticConfig, context: CheckContext) -> None:
    """Looks at every image and every pixel of its mask.

    Raises:
        DataError: The dataset is not recognized, or its classes are not known.
    """
    scanner, counts, names = ImageScanner(context), {}, ()
    for split, source in find_masks(config.data.path or "", config.data.train, config.data.val).items():
        if isinstance(source, SceneSource):
            context.counted(split, scenes=source.count)
        elif isinstance(source, CocoJson):
            names, counts[split] = _check_coco(config, context, scanner, split, source)
        else:
            names, counts[split] = _check_folders(config, context, scanner, split, source)
    scanner.judge()
    root = Path(config.data.path or "")
    for split, pixels in counts.items():
        share = pixels[-1] / max(pixels.sum(), 1)
        if share > UNLABELED_SHARE:
            context.add(UNLABELED, root, split, f"{share:.0%}")
    if counts:
        judge_classes(context, names, {split: pixels[:-1] for split, pixels in counts.items()}, root, "pixels")


def _check_folders(
    config: SemanticConfig, context: CheckContext, scanner: ImageScanner, split: str, source: MaskFolders
) -> tuple[tuple[str, ...], np.ndarray]:
    from densevision.tasks.semantic.dataset import class_names, coding_of, own_names

    names = config.classes or class_names(config)
    coding, root, repair = coding_of(config, source, names), source.root, context.repair
    names = own_names(config, source, names)
    for stray in source.strays:
        context.add(NO_IMAGE, root / stray)
        repair.leave_out(root / stray, NO_IMAGE.name)
    for image, mask in source.pairs:
        if mask is None:
            context.add(NO_MASK, root / image)
            repair.leave_out(root / image, NO_MASK.name)
    pairs = [(root / image, root / mask) for image, mask in source.pairs if mask is not None]
    for image, mask in pairs:
        repair.follow(image, mask)
    repair.edit(root, lambda: ListEdit(root)).images += [image for image, _ in source.pairs]
    facts = scanner.look(split, [image for image, _ in pairs])
    multilabel = config.mode == "multilabel"

    def read(pair: tuple[Path, Path]) -> Reading:
        return read_mask(pair[1], coding, config.data.max_pixels, multilabel)

    total = np.zeros(len(names) + 1, np.int64)
    readings = context.spread(read, pairs, f"{split}: masks")
    for (image, mask), of_image, reading in zip(pairs, facts, readings):
        total += reading.pixels
        if not _judge(context, mask, of_image, reading):
            continue
        if reading.fault in (VALUE, COLOR):
            _hint(repair, mask, coding, reading.fault)
        elif reading.fault is not None or of_image.fault is not None or reading.size != of_image.size:
            why = (reading.fault or SIZE).name if of_image.fault is None else of_image.fault
            repair.leave_out(image, why)
            repair.leave_out(mask, why)
    return names, total


def read_mask(path: Path, coding: Coding, max_pixels: int, multilabel: bool = False) -> Reading:
    """Looks at every pixel of a mask; never raises for what is wrong with it."""
    nothing = np.zeros(coding.classes + 1, np.int64)
    try:
        if multilabel:
            return _read_sets(path, coding.classes, max_pixels)
        if coding.colors is not None:
            pixels = to_rgb(read_image(path, max_pixels))
            labels = coding.tolerant().decode_colors(pixels, path)
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
    """The values or colors that are no class and do not mean unknown."""
    if coding.others_unknown or not (lost := labels == UNKNOWN).any():
        return None, ""
    rows = pixels[lost]
    known = coding.unknown_colors if coding.colors is not None else (*coding.unknown, UNKNOWN)
    if coding.colors is None:
        found, many = np.unique(rows, return_counts=True)
        strange = ~np.isin(found, known)
    else:
        found, many = np.unique(rows.reshape(-1, 3), axis=0, return_counts=True)
        strange = np.array([tuple(color) not in known for color in found.tolist()])
    if not strange.any():
        return None, ""
    order = np.argsort(-many[strange])[:SHOWN]
    listed = ", ".join(str(value) for value in found[strange][order].tolist())
    more = ", ..." if strange.sum() > SHOWN else ""
    words = f"{int(many[strange].sum())} pixels: {listed}{more}"
    return (VALUE if coding.colors is None else COLOR), words


def _read_sets(path: Path, classes: int, max_pixels: int) -> Reading:
    """Masks whose pixels are sets of classes, one bit each; 65535 is unknown."""
    pixels = read_index(path, max_pixels).astype(np.uint16)
    known = pixels != 65535
    counts = [int(((pixels >> np.uint16(one)) & 1)[known].sum()) for one in range(classes)]
    stray = known & (pixels >> np.uint16(classes) > 0)
    words = f"{int(stray.sum())} pixels: {int(pixels[stray][0])}" if stray.any() else ""
    return Reading(np.array([*counts, int((~known).sum())]), pixels.shape, VALUE if words else None, words)


def _judge(context: CheckContext, mask: Path, image: ImageInfo, reading: Reading) -> bool:
    """Reports what is wrong with a mask; whether anything is."""
    if reading.fault is not None:
        context.add(reading.fault, mask, None, reading.words)
        if reading.fault is MASK_BROKEN:
            return True
    elif reading.pixels.any() and reading.pixels[-1] == reading.pixels.sum():
        context.add(UNKNOWN_MASK, mask, severity="warning")
    if image.fault is None and reading.size != image.size:
        (height, width), (tall, wide) = reading.size, image.size
        context.add(SIZE, mask, None, f"{height} x {width}, the image {tall} x {wide}")
    return reading.fault is not None or image.fault is not None or reading.size != image.size


def _hint(repair: Repair, mask: Path, coding: Coding, fault: Check) -> None:
    """Pixels of no class become unknown."""
    if fault is COLOR and not coding.unknown_colors:
        return

    def write(target: Path) -> None:
        if fault is COLOR:
            pixels = to_rgb(read_image(mask))
            lost = coding.tolerant().decode_colors(pixels, mask) == UNKNOWN
            pixels[lost] = coding.unknown_colors[0]
            write_image(target, pixels)
        else:
            pixels = read_index(mask)
            pixels[coding.tolerant().decode(pixels, mask) == UNKNOWN] = UNKNOWN
            write_image(target, pixels)

    repair.rewrite(mask, write, "written anew with pixels of no class as unknown")


def _check_coco(
    config: SemanticConfig, context: CheckContext, scanner: ImageScanner, split: str, source: CocoJson
) -> tuple[tuple[str, ...], np.ndarray]:
    """A json of segments or objects: its images, and the class maps that are drawn of it."""
    masks = source.read()
    facts = scanner.look(split, [source.images / name for name in masks.images])
    context.repair.edit(source.file, lambda: CocoImagesEdit(source.file, source.images))
    total = np.zeros(UNKNOWN + 1, np.int64)
    rows = [row for row, of_image in enumerate(facts) if of_image.fault is None]
    for row, found in zip(rows, context.spread(_drawer(masks, facts), rows, f"{split}: masks")):
        if isinstance(found, str):
            context.add(MASK_BROKEN, source.file, masks.images[row], found)
            context.repair.leave_out(facts[row].file, MASK_BROKEN.name)
        else:
            total += found
    return masks.names, np.append(total[: len(masks.names)], total[UNKNOWN])


def _drawer(masks: CocoMasks, facts: list[ImageInfo]) -> Callable[[int], Any]:
    def draw(row: int) -> np.ndarray | str:
        try:
            labels = masks.read(row, facts[row].size)
        except DataError as failure:
            return failure.problem
        if labels.shape != facts[row].size:
            return f"{labels.shape}, the image {facts[row].size}"
        return np.bincount(labels.ravel(), minlength=UNKNOWN + 1)

    return draw
