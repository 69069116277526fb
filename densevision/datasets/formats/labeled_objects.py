"""Objects as annotation programs write them, image by image, and the tables that all tasks read them from.

A reader of a format yields `LabeledImage`s; what every format needs is done here once: images are found and measured,
EXIF orientations applied, boxes and masks validated and counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from densevision.datasets.formats.coco_objects import check_polygons
from densevision.datasets.formats.orientation import find_label_orientations, orient_boxes, orient_points
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.decode import apply_orientation
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import MAX_INT32, ImageSelector, is_inside, list_images, measure_images
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.segmentations import SegmentationBuilder, Segmentations
from densevision.ops.masks import RLE, compute_boxes, decode, encode, encode_polygons
from densevision.ops.view import Size

__all__ = [
    "ImageLookup",
    "LabeledImage",
    "LabeledObject",
    "MaskWindow",
    "ObjectTable",
    "build_objects",
    "place_window",
]


class MaskWindow(NamedTuple):
    """A mask of a part of an image: run lengths of the window, and the x, y of its first pixel."""

    pixels: RLE
    left: int
    top: int


@dataclass(frozen=True)
class LabeledObject:
    """One object.

    Attributes:
        label: Name of its class.
        field: Its place in the label file.
        box: xyxy, if the file states it; by default that of the polygons or masks.
        polygons: Parts of its mask, x y x y ... each.
        holes: Polygons that are cut out of `polygons`.
        windows: Parts of its mask that are given as pixels.
        crowd: Whether evaluation ignores it.
    """

    label: str
    field: str
    box: tuple[float, float, float, float] | None = None
    polygons: Sequence[Sequence[float]] = ()
    holes: Sequence[Sequence[float]] = ()
    windows: Sequence[MaskWindow] = ()
    crowd: bool = False


ParseObjects = Callable[[LabelIssues], Iterable[LabeledObject]]


def _parse_nothing(issues: LabelIssues) -> Iterable[LabeledObject]:
    return ()


@dataclass(frozen=True)
class LabeledImage:
    """One image and its objects.

    Attributes:
        name: The image, relative to the dataset.
        file: Its label file.
        field: The place in the file that names the image.
        size: Stated (height, width); 0, 0 if it is missing.
        parse: Yields its objects; called only for images that are used, so that only their problems are reported.
        is_relative: Coordinates are fractions of the image instead of pixels.
        subset: The split that the file states for it.
    """

    name: str
    file: Path
    field: str = "image"
    size: Size = (0, 0)
    parse: ParseObjects = _parse_nothing
    is_relative: bool = False
    subset: str | None = None


@dataclass(frozen=True, eq=False)
class ObjectTable:
    """The objects of a dataset.

    Attributes:
        boxes: The boxes; `origin` counts the objects of the files.
        masks: The masks of those objects that have one.
        mask_rows: (objects,) row in `masks` of each object of the files; -1 if it has none.
        places: File and field of each object of the files.
    """

    boxes: BoxTable
    masks: Segmentations
    mask_rows: np.ndarray
    places: list[tuple[str, str]]

    def select_masks(self, boxes: BoxTable, issues: LabelIssues) -> tuple[Segmentations, np.ndarray]:
        """Returns the masks of boxes of this table, and (M,) bool, which of them have one; others are reported."""
        keep = np.ones(len(boxes.labels), bool)
        for row in np.flatnonzero(self.mask_rows[boxes.origin] < 0).tolist():
            file, place = self.places[boxes.origin[row]]
            keep[row] = issues.add(IssueKind.MASK_ABSENT, file, place, "a box only")
        return self.masks.take(self.mask_rows[boxes.origin[keep]]), keep

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask."""
        return len(self.masks) > 0


class ImageLookup:
    """Finds the images that label files of other computers name.

    Args:
        root: The dataset.
    """

    def __init__(self, root: Path):
        self.root = root
        self._by_name: dict[str, list[str]] | None = None

    def find(self, name: str, folder: Path | None = None) -> str:
        """Returns the path of an image relative to the dataset, which may not exist or be outside.

        The name is relative to `folder` or to the dataset; otherwise the image below the dataset is taken whose path
        ends like the name, if there is one.
        """
        for base in (folder, self.root):
            if base is not None and "\0" not in name:
                relative = os.path.normpath(os.path.join(os.path.relpath(base, self.root), localize_name(name, base)))
                if is_inside(relative) and os.path.isfile(self.root / relative):
                    return relative
        parts = [part for part in PureWindowsPath(name).parts if part not in ("/", "\\")]
        paths = self._list_images().get(parts[-1] if parts else "", [])
        scores = [_count_common_end(Path(path).parts, parts) for path in paths]
        best = [path for path, score in zip(paths, scores) if score == max(scores)]
        return best[0] if len(best) == 1 else name

    def _list_images(self) -> dict[str, list[str]]:
        if self._by_name is None:
            self._by_name = {}
            for path in list_images(self.root):
                self._by_name.setdefault(os.path.basename(path), []).append(path)
        return self._by_name


def build_objects(
    images: Iterable[LabeledImage],
    names: Sequence[str],
    root: Path,
    issues: LabelIssues,
    max_pixels: int = MAX_INT32,
    select: ImageSelector | None = None,
) -> ObjectTable:
    """Builds the table of a dataset.

    Args:
        images: The images with their objects.
        names: Class names; labels are indices into them.
        root: The folder that the images' names are relative to.
        issues: Reports problems.
        max_pixels: Larger images count as broken.
        select: Selects a part of the images; all by default.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    images = list(images)
    files = StringArray.of(image.name for image in images)
    selected = np.ones(len(files), bool) if select is None else np.asarray(select(files), bool)
    for row in np.flatnonzero(selected).tolist():
        if not is_inside(files[row]):
            selected[row] = issues.add(IssueKind.NAME_ESCAPES, images[row].file, images[row].field, files[row])

    def locate_image(row: int) -> tuple[str, str]:
        return str(images[row].file), images[row].field

    sizes = measure_images(files, root, selected, issues, max_pixels, locate_image)
    stated = np.array([image.size for image in images], np.int32).reshape(-1, 2)
    orientations = find_label_orientations(files, root, stated, sizes, lambda: _list_boxes(images), issues)
    _report_sizes(images, np.where(orientations[:, None] >= 5, stated[:, ::-1], stated), sizes, issues)
    collector = _Collector(names, issues)
    for row, image in enumerate(images):
        if sizes[row, 0]:
            height, width = sizes[row].tolist()
            collector.add_image(row, image, (height, width), int(orientations[row]))
    ids = np.arange(1, len(files) + 1)
    category_ids = tuple(range(1, len(names) + 1))
    locate = collector.locate
    array = collector.records.array()
    table = build_table(files, sizes, ids, array, tuple(names), category_ids, issues, locate, orientations)
    return ObjectTable(table, collector.masks.build(), np.array(collector.mask_rows, np.int64), collector.places)


class _Collector:
    """Collects the objects of images; `origin` of a record is the number of the object."""

    def __init__(self, names: Sequence[str], issues: LabelIssues):
        self.labels, self.issues = {name: index for index, name in enumerate(names)}, issues
        self.records, self.masks = RecordBuffer(), SegmentationBuilder()
        self.mask_rows: list[int] = []
        self.places: list[tuple[str, str]] = []

    def locate(self, row: int) -> tuple[str, str, Any]:
        """Returns the place of a record."""
        record = self.records.array()[row]
        return (*self.places[record["origin"]], [round(value, 6) for value in record["box"].tolist()])

    def add_image(self, row: int, image: LabeledImage, size: Size, orientation: int) -> None:
        """Adds the objects of an image."""
        for item in image.parse(self.issues):
            if item.label not in self.labels:
                self.issues.add(IssueKind.CLASS_ABSENT, image.file, f"{item.field}.label", item.label)
                continue
            mask_count = len(self.masks.kinds)
            box = self._add_object(image, item, size, orientation)
            if box is None:
                continue
            self.mask_rows.append(mask_count if len(self.masks.kinds) > mask_count else -1)
            self.places.append((str(image.file), item.field))
            self.records.add(row, self.labels[item.label], box, len(self.mask_rows) - 1, item.crowd)

    def _add_object(
        self, image: LabeledImage, item: LabeledObject, size: Size, orientation: int
    ) -> Sequence[float] | None:
        """Adds the mask of an object, if it has one, and returns its box; None if the object is skipped."""
        height, width = size[::-1] if orientation >= 5 else size
        scale = np.array([width, height] if image.is_relative else [1, 1])

        def orient(polygon: Sequence[float]) -> list[float]:
            return orient_points(np.reshape(polygon, (-1, 2)) * scale, orientation, size).ravel().tolist()

        box = None
        if item.box is not None:
            corners = np.asarray(item.box, np.float64)[None] * np.tile(scale, 2)
            box = orient_boxes(corners, np.array([orientation]), np.array([size]))[0].tolist()
            if not item.polygons and not item.windows:
                return box
        parts, holes = [orient(part) for part in item.polygons], [orient(hole) for hole in item.holes]
        polygons = check_polygons(parts, size, item.field, image.file, self.issues) if parts else []
        if polygons is None:
            return None
        if not item.windows and not holes:
            self.masks.add_polygons(polygons)
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in polygons])
            return box or [*points.min(0).tolist(), *points.max(0).tolist()]
        pixels = _rasterize(polygons, size) & ~_rasterize(holes, size)
        for window in item.windows:
            pixels |= apply_orientation(place_window(window, (height, width)), orientation)
        if not pixels.any():
            self.issues.add(IssueKind.MASK_EMPTY, image.file, item.field, None)
            return None
        mask = encode(pixels)
        self.masks.add_rle(mask)
        return box or compute_boxes([mask])[0].tolist()


def _count_common_end(path: Sequence[str], name: Sequence[str]) -> int:
    """Counts the last parts that two paths share."""
    shared = [first == second for first, second in zip(reversed(path), reversed(name))]
    return shared.index(False) if False in shared else len(shared)


def _report_sizes(images: list[LabeledImage], stated: np.ndarray, sizes: np.ndarray, issues: LabelIssues) -> None:
    """Reports images whose size differs from the stated one; size 0 if an image is skipped."""
    for row in np.flatnonzero((sizes > 0).all(1) & (stated > 0).all(1) & (stated != sizes).any(1)).tolist():
        (height, width), (file_height, file_width) = stated[row].tolist(), sizes[row].tolist()
        value = f"{width} x {height} stated, the file has {file_width} x {file_height}"
        if not issues.add(IssueKind.IMAGE_SIZE, images[row].file, images[row].field, value, images[row].name):
            sizes[row] = 0


def _list_boxes(images: list[LabeledImage]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (M, 4) of all objects in pixels of the label file, and the rows of their images."""
    boxes, rows = [np.zeros((0, 4))], []
    for row, image in enumerate(images):
        scale = np.array(image.size[::-1]) if image.is_relative else np.ones(2)
        for item in image.parse(LabelIssues("skip")):
            polygons = [item.box] if item.box is not None else item.polygons
            if polygons:
                points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in polygons]) * scale
                boxes.append(np.concatenate([points.min(0), points.max(0)])[None])
                rows.append(row)
    return np.concatenate(boxes), np.array(rows, np.int64)


def _rasterize(polygons: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    if not polygons:
        return np.zeros(size, bool)
    return decode(encode_polygons([np.reshape(part, (-1, 2)) for part in polygons], size)).astype(bool)


def place_window(window: MaskWindow, size: Size) -> np.ndarray:
    """Returns the (H, W) bool mask of a window, clipped to the image."""
    mask, pixels = np.zeros(size, bool), decode(window.pixels).astype(bool)
    x1, y1 = max(window.left, 0), max(window.top, 0)
    x2, y2 = min(window.left + pixels.shape[1], size[1]), min(window.top + pixels.shape[0], size[0])
    if x1 < x2 and y1 < y2:
        mask[y1:y2, x1:x2] = pixels[y1 - window.top : y2 - window.top, x1 - window.left : x2 - window.left]
    return mask
