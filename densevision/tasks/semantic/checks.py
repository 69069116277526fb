"""Checks of a semantic dataset. No torch before a dataset is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import CocoImagesEdit, get_box_edit, rewrite_list
from densevision.datasets.checks.boxes import check_classes
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.context import CheckContext, SplitIssues
from densevision.datasets.checks.fixes import FixPlan
from densevision.datasets.checks.image_scanner import ImageInfo, ImageScanner
from densevision.datasets.formats.coco_masks import CocoMasks
from densevision.datasets.mask_layouts import CocoMaskSource, ImageNameIndex, MaskFolderSource
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource
from densevision.errors import DataError
from densevision.io.image import read_image, read_index_mask, to_rgb, write_image
from densevision.io.label_issues import IssueKind
from densevision.io.masks import UNKNOWN, UNKNOWN_MULTILABEL, LabelEncoding
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.object_masks import ObjectMasks, ObjectMaskSource

__all__ = ["CHECKS", "check"]

UNLABELED_SHARE = 0.5
"""Share of unknown pixels in a split above which it is reported."""
MAX_SHOWN = 5
"""Invalid values or colors that a message lists."""

MASK_BROKEN = Check(
    "mask-broken",
    "error",
    "a mask that cannot be read, was compressed with loss, or has colors instead of class numbers",
    "Save masks as single-channel PNG; for color masks set data.colors.",
    "left out with its image",
)
COLOR = Check(
    "mask-color",
    "error",
    "a mask with colors that are not in the palette",
    "Add them to data.colors or data.unknown_colors. Mixtures of two colors come from resizing or JPEG.",
    "such pixels get the first of data.unknown_colors, if there is one",
)
VALUE = make_check(IssueKind.MASK_VALUE)
SIZE, UNKNOWN_MASK, NO_MASK, NO_IMAGE = map(
    make_check, (IssueKind.MASK_SIZE, IssueKind.MASK_UNKNOWN, IssueKind.LABELS_MISSING, IssueKind.IMAGE_ABSENT)
)
UNLABELED = Check(
    "unlabeled",
    "warning",
    f"a split in which more than {UNLABELED_SHARE:.0%} of the pixels are unknown",
    "Check data.unknown, and whether classes lists all classes.",
)

CHECKS = (
    *(*catalog.FILE_CHECKS, catalog.CLASS_UNUSED, catalog.CLASS_IN_ONE_SPLIT, catalog.CLASS_IMBALANCE),
    *(MASK_BROKEN, VALUE, COLOR, SIZE, UNKNOWN_MASK, NO_MASK, NO_IMAGE, UNLABELED),
)
"""All checks that `check` runs."""


@dataclass(frozen=True)
class MaskInfo:
    """The content of one mask.

    Attributes:
        pixels: (classes + 1,) pixels of each class, and of unknown ones at last.
        size: (height, width).
        fault: The check that it fails, if any.
        detail: What is wrong with it.
    """

    pixels: np.ndarray
    size: tuple[int, int] = (0, 0)
    fault: Check | None = None
    detail: str = ""


@dataclass
class ListEdit:
    """Removes from lists of names the images, named from the root, that were left out."""

    root: Path
    images: list[str] = field(default_factory=list)

    def apply(self, plan: FixPlan) -> None:
        """Rewrites the lists."""
        names = ImageNameIndex(self.images)

        def stays(line: str) -> bool:
            images = names.find(line)
            return len(images) != 1 or not plan.is_excluded(self.root / images[0])

        for file in sorted(self.root.rglob("*.txt")):
            rewrite_list(file, stays, plan)


def check(config: SemanticConfig, context: CheckContext) -> None:
    """Checks every image and every pixel of its mask.

    Raises:
        DataError: The format of the dataset is unknown, or its classes are.
    """
    from densevision.tasks.semantic.dataset import find_sources

    scanner = ImageScanner(context)
    counts: dict[str, np.ndarray] = {}
    names: tuple[str, ...] = ()
    issues = SplitIssues()
    for split, source in find_sources(config).items():
        if isinstance(source, SceneSource):
            context.set_counts(split, scenes=source.count)
        elif isinstance(source, CocoMaskSource):
            context.fix_plan.get_edit(source.file, partial(CocoImagesEdit, source.file, source.images))
            masks = source.read(issues)
            names, counts[split] = _check_drawn(context, scanner, split, masks, source.images)
        elif isinstance(source, ObjectMaskSource):
            objects = source.read(issues, config.data.max_pixels)
            _plan_edits(context.fix_plan, source, objects)
            names, counts[split] = _check_drawn(context, scanner, split, objects, objects.folder)
        else:
            names, counts[split] = _check_folders(config, context, scanner, split, source)
    context.add_issues(issues)
    scanner.check_images()
    root = Path(locate_dataset(config.data))
    for split, pixels in counts.items():
        share = pixels[-1] / max(pixels.sum(), 1)
        if share > UNLABELED_SHARE:
            context.add(UNLABELED, root, split, f"{share:.0%}")
    if counts:
        check_classes(context, names, {split: pixels[:-1] for split, pixels in counts.items()}, root, "pixels")


def _plan_edits(plan: FixPlan, source: ObjectMaskSource, objects: ObjectMasks) -> None:
    """Prepares the label files for images and objects that a fixed copy leaves out."""
    get_box_edit(plan, source.source).add_table(objects.table.boxes)


def _check_folders(
    config: SemanticConfig, context: CheckContext, scanner: ImageScanner, split: str, source: MaskFolderSource
) -> tuple[tuple[str, ...], np.ndarray]:
    from densevision.tasks.semantic.dataset import choose_encoding, name_mask_classes, read_class_names

    names = config.classes or read_class_names(config)
    encoding, root, plan = choose_encoding(config, source, names), source.root, context.fix_plan
    names = name_mask_classes(config, source, names)
    for unmatched in source.unmatched_masks:
        context.add(NO_IMAGE, root / unmatched)
        plan.exclude(root / unmatched, NO_IMAGE.name)
    for image, mask in source.pairs:
        if mask is None:
            context.add(NO_MASK, root / image)
            plan.exclude(root / image, NO_MASK.name)
    pairs = [(root / image, root / mask) for image, mask in source.pairs if mask is not None]
    for pair in pairs:
        plan.exclude_together(*pair)
    plan.get_edit(root, lambda: ListEdit(root)).images += [image for image, _ in source.pairs]
    image_infos = scanner.scan(split, [image for image, _ in pairs])
    is_multilabel = config.mode == "multilabel"

    def read(pair: tuple[Path, Path]) -> MaskInfo:
        return read_mask(pair[1], encoding, config.data.max_pixels, is_multilabel)

    total = np.zeros(len(names) + 1, np.int64)
    mask_infos = context.map_parallel(read, pairs, f"{split}: masks")
    for (image_file, mask_file), image_info, mask_info in zip(pairs, image_infos, mask_infos):
        total += mask_info.pixels
        if not _report(context, mask_file, image_info, mask_info):
            continue
        if mask_info.fault in (VALUE, COLOR):
            _repair_pixels(plan, mask_file, encoding, mask_info.fault)
        elif mask_info.fault is not None or image_info.fault is not None or mask_info.size != image_info.size:
            reason = (mask_info.fault or SIZE).name if image_info.fault is None else image_info.fault
            plan.exclude(image_file, reason)
            plan.exclude(mask_file, reason)
    return names, total


def read_mask(path: Path, encoding: LabelEncoding, max_pixels: int, multilabel: bool = False) -> MaskInfo:
    """Reads every pixel of a mask; what is wrong with it is returned, never raised."""
    try:
        if multilabel:
            return _read_multilabel(path, encoding.classes, max_pixels)
        if encoding.colors is not None:
            pixels = to_rgb(read_image(path, max_pixels))
            labels = encoding.tolerant().decode_colors(pixels, path)
        else:
            pixels = read_index_mask(path, max_pixels)
            labels = encoding.tolerant().decode(pixels, path)
    except DataError as error:
        detail = error.problem if path.is_file() else "no such file"
        return MaskInfo(np.zeros(encoding.classes + 1, np.int64), fault=MASK_BROKEN, detail=detail)
    histogram = np.bincount(labels.ravel(), minlength=UNKNOWN + 1)
    counts = np.append(histogram[: encoding.classes], histogram[UNKNOWN])
    fault, detail = _find_invalid_pixels(pixels, labels, encoding)
    return MaskInfo(counts, labels.shape, fault, detail)


def _find_invalid_pixels(pixels: np.ndarray, labels: np.ndarray, encoding: LabelEncoding) -> tuple[Check | None, str]:
    """The values or colors that belong to no class and do not mean unknown."""
    is_unknown = labels == UNKNOWN
    if encoding.others_unknown or not is_unknown.any():
        return None, ""
    rows = pixels[is_unknown]
    if encoding.colors is None:
        values, counts = np.unique(rows, return_counts=True)
        is_invalid = ~np.isin(values, (*encoding.unknown, UNKNOWN))
    else:
        values, counts = np.unique(rows.reshape(-1, 3), axis=0, return_counts=True)
        is_invalid = np.array([tuple(color) not in encoding.unknown_colors for color in values.tolist()])
    if not is_invalid.any():
        return None, ""
    order = np.argsort(-counts[is_invalid])[:MAX_SHOWN]
    listed = ", ".join(str(value) for value in values[is_invalid][order].tolist())
    more = ", ..." if is_invalid.sum() > MAX_SHOWN else ""
    detail = f"{int(counts[is_invalid].sum())} pixels: {listed}{more}"
    return (VALUE if encoding.colors is None else COLOR), detail


def _read_multilabel(path: Path, classes: int, max_pixels: int) -> MaskInfo:
    """Reads a mask whose pixels are sets of classes, one bit each; 65535 is unknown."""
    pixels = read_index_mask(path, max_pixels).astype(np.uint16)
    known = pixels != UNKNOWN_MULTILABEL
    counts = [int(((pixels >> np.uint16(index)) & 1)[known].sum()) for index in range(classes)]
    is_invalid = known & (pixels >> np.uint16(classes) > 0)
    detail = f"{int(is_invalid.sum())} pixels: {int(pixels[is_invalid][0])}" if is_invalid.any() else ""
    return MaskInfo(np.array([*counts, int((~known).sum())]), pixels.shape, VALUE if detail else None, detail)


def _report(context: CheckContext, mask: Path, image: ImageInfo, mask_info: MaskInfo) -> bool:
    """Reports what is wrong with a mask; returns whether it or its image is faulty."""
    if mask_info.fault is not None:
        context.add(mask_info.fault, mask, None, mask_info.detail)
        if mask_info.fault is MASK_BROKEN:
            return True
    elif mask_info.pixels.any() and mask_info.pixels[-1] == mask_info.pixels.sum():
        context.add(UNKNOWN_MASK, mask, severity="warning")
    if image.fault is None and mask_info.size != image.size:
        (height, width), (image_height, image_width) = mask_info.size, image.size
        context.add(SIZE, mask, None, f"{height} x {width}, the image {image_height} x {image_width}")
    return mask_info.fault is not None or image.fault is not None or mask_info.size != image.size


def _repair_pixels(plan: FixPlan, mask: Path, encoding: LabelEncoding, fault: Check) -> None:
    """Makes pixels of no class unknown."""
    if fault is COLOR and not encoding.unknown_colors:
        return

    def write(target: Path) -> None:
        if fault is COLOR:
            pixels = to_rgb(read_image(mask))
            is_unknown = encoding.tolerant().decode_colors(pixels, mask) == UNKNOWN
            pixels[is_unknown] = encoding.unknown_colors[0]
        else:
            pixels = read_index_mask(mask)
            pixels[encoding.tolerant().decode(pixels, mask) == UNKNOWN] = UNKNOWN
        write_image(target, pixels)

    plan.rewrite(mask, write, "rewritten with pixels of no class as unknown")


def _check_drawn(
    context: CheckContext, scanner: ImageScanner, split: str, masks: CocoMasks | ObjectMasks, folder: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """Checks the images of a split, and the class maps that are drawn from its segments or objects."""
    image_infos = scanner.scan(split, [folder / name for name in masks.images])
    total = np.zeros(UNKNOWN + 1, np.int64)
    rows = [row for row, info in enumerate(image_infos) if info.fault is None]

    def draw(row: int) -> np.ndarray | str:
        try:
            labels = masks.read(row, image_infos[row].size)
        except DataError as error:
            return error.problem
        if labels.shape != image_infos[row].size:
            return f"{labels.shape}, the image {image_infos[row].size}"
        return np.bincount(labels.ravel(), minlength=UNKNOWN + 1)

    for row, counts in zip(rows, context.map_parallel(draw, rows, f"{split}: masks")):
        if isinstance(counts, str):
            context.add(MASK_BROKEN, masks.file, masks.images[row], counts)
            context.fix_plan.exclude(image_infos[row].file, MASK_BROKEN.name)
        else:
            total += counts
    return masks.names, np.append(total[: len(masks.names)], total[UNKNOWN])
