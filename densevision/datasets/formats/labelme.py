"""labelme: one JSON with shapes per image."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from densevision.datasets.formats.coco import is_integer
from densevision.datasets.formats.coco_objects import MIN_POLYGON_POINTS, check_polygons
from densevision.datasets.formats.orientation import find_label_orientations, orient_points
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.decode import apply_orientation
from densevision.io.image_files import MAX_INT32, ImageSelector, is_inside, list_files, measure_images
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues
from densevision.io.segmentations import SegmentationBuilder, Segmentations, covers_any_pixel
from densevision.ops.masks import compute_boxes, decode, encode, encode_polygons
from densevision.ops.view import Size

__all__ = [
    "find_image",
    "has_area",
    "is_labelme",
    "is_usable",
    "parse_mask",
    "parse_polygon",
    "read_class_names",
    "read_file",
    "read_labelme",
]

CIRCLE_POINTS = 64
"""Points of the polygon that approximates a circle."""
SHAPES_WITHOUT_AREA = ("line", "linestrip", "point", "points")


def is_labelme(file: Path) -> bool:
    """Whether a JSON is a labelme file: it has a list of shapes."""
    return read_file(file) is not None


def read_class_names(folder: Path) -> tuple[str, ...]:
    """Collects the labels of all shapes with an area in a folder, sorted.

    Raises:
        DataError: There are no such shapes.
    """
    entries = (entry for file in list_files(folder, "*.json") if (entry := read_file(file)) is not None)
    names = sorted({str(shape.get("label")) for entry in entries for shape in entry["shapes"] if has_area(shape)})
    if not names:
        raise DataError("no file has a shape with an area", file=folder, hint="Label at least one object.")
    return tuple(names)


def read_labelme(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    issues: LabelIssues,
    max_pixels: int = MAX_INT32,
    select: ImageSelector | None = None,
    root: str | os.PathLike[str] | None = None,
) -> tuple[BoxTable, Segmentations]:
    """Reads a folder of labelme files: polygons, rectangles, circles and masks; shapes of one group are one object.

    Lines and points are skipped with a warning. JSON files without shapes are ignored with a warning.

    Args:
        folder: The folder of the files; `imagePath` is relative to it.
        names: Class names; labels are indices into them.
        issues: Reports problems.
        max_pixels: Larger images count as broken.
        select: Selects a part of the images; all by default.
        root: The folder that contains all images, and that the names of the table are relative to; `folder` by default.

    Raises:
        DataError: Something is wrong and the policy is `fail`.
    """
    folder = Path(folder)
    root = folder if root is None else Path(root)
    entries = list(_read_entries(folder, issues))
    files = StringArray.of(find_image(file, entry, root) for file, entry in entries)
    selected = np.ones(len(files), bool) if select is None else np.asarray(select(files), bool)
    for row in np.flatnonzero(selected).tolist():
        if not is_inside(files[row]):
            selected[row] = issues.add(IssueKind.NAME_ESCAPES, entries[row][0], "imagePath", files[row])

    def locate_image(row: int) -> tuple[str, str]:
        return str(entries[row][0]), "imagePath"

    sizes = measure_images(files, root, selected, issues, max_pixels, locate_image)
    stated = np.array([_parse_stated_size(entry) for _, entry in entries], np.int32).reshape(-1, 2)
    orientations = find_label_orientations(files, root, stated, sizes, lambda: _list_boxes(entries), issues)
    records, builder, places = RecordBuffer(), SegmentationBuilder(), []
    for image, (file, entry) in enumerate(entries):
        if sizes[image, 0]:
            height, width = sizes[image].tolist()
            places += _add_objects(
                image, file, entry, (height, width), int(orientations[image]), names, records, builder, issues
            )
    ids = np.arange(1, len(files) + 1)
    category_ids = tuple(range(1, len(names) + 1))
    table = build_table(
        files, sizes, ids, records.array(), tuple(names), category_ids, issues, places.__getitem__, orientations
    )
    return table, builder.build().take(table.origin)


def find_image(file: Path, entry: dict[str, Any], root: Path) -> str:
    """Finds the image of a labelme file: its path relative to the root, which may not exist or be outside.

    `imagePath` is relative to the file. Backslashes are separators if no such file exists; of an absolute path only the
    name is used, for an image next to the file.
    """
    path = str(entry.get("imagePath") or f"{file.stem}.jpg")
    if not (file.parent / path).is_file() and "\0" not in path:
        windows = PureWindowsPath(path)
        if windows.anchor and (file.parent / windows.name).is_file():
            path = windows.name
        elif not windows.anchor:
            path = "/".join(windows.parts)
    if os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(os.path.relpath(file.parent, root), path))


def _read_entries(folder: Path, issues: LabelIssues) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the labelme files of a folder with their content; other JSON files are ignored with a warning."""
    for file in list_files(folder, "*.json"):
        try:
            content = json.loads(file.read_bytes())
        except ValueError as failure:
            issues.add(IssueKind.FILE_MALFORMED, file, None, str(failure))
            continue
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            yield file, content
        else:
            issues.warn(IssueKind.FILE_IGNORED, file, action=SKIPPED)


def _add_objects(
    image: int,
    file: Path,
    entry: dict[str, Any],
    size: Size,
    orientation: int,
    names: Sequence[str],
    records: RecordBuffer,
    builder: SegmentationBuilder,
    issues: LabelIssues,
) -> list[tuple[str, str, Any]]:
    """Adds the objects of one file and returns the place of each. The origin of a box is the row of its mask."""
    places = []
    for index, label, shapes in _group_shapes(file, entry, issues):
        field = f"shapes[{index}]"
        if label not in names:
            issues.add(IssueKind.CLASS_ABSENT, file, f"{field}.label", label)
            continue
        box = _add_object(shapes, size, orientation, f"{field}.points", file, builder, issues)
        if box is not None:
            records.add(image, names.index(label), box, len(builder.kinds) - 1)
            places.append((str(file), f"{field}.points", box))
    return places


def _add_object(
    shapes: list[dict[str, Any]],
    size: Size,
    orientation: int,
    field: str,
    file: Path,
    builder: SegmentationBuilder,
    issues: LabelIssues,
) -> list[float] | None:
    """Adds the mask of an object, turned by an EXIF orientation, and returns its box; None if it is skipped."""
    label_size = size[::-1] if orientation >= 5 else size
    parts = [polygon for shape in shapes if (polygon := parse_polygon(shape)) is not None]
    parts = [orient_points(np.reshape(part, (-1, 2)), orientation, size).ravel().tolist() for part in parts]
    masks = [
        apply_orientation(mask, orientation) for shape in shapes if (mask := parse_mask(shape, label_size)) is not None
    ]
    polygons = check_polygons(parts, size, field, file, issues) if parts else []
    if polygons is None:
        return None
    if not masks:
        builder.add_polygons(polygons)
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in polygons])
        return [*points.min(0).tolist(), *points.max(0).tolist()]
    if polygons:
        masks.append(decode(encode_polygons([np.reshape(part, (-1, 2)) for part in polygons], size)))
    pixels = np.logical_or.reduce(masks)
    if not pixels.any():
        issues.add(IssueKind.MASK_EMPTY, file, field, None)
        return None
    union = encode(pixels)
    builder.add_rle(union)
    return compute_boxes([union])[0].tolist()


def _parse_stated_size(entry: dict[str, Any]) -> Size:
    """Returns the stated (height, width); 0, 0 if it is missing."""
    height, width = entry.get("imageHeight", 0), entry.get("imageWidth", 0)
    return (height, width) if is_integer(height, MAX_INT32) and is_integer(width, MAX_INT32) else (0, 0)


def _list_boxes(entries: Sequence[tuple[Path, dict[str, Any]]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes (M, 4) of all polygons as in the files, and the rows of their images."""
    boxes, images = [np.zeros((0, 4))], []
    for image, (_, entry) in enumerate(entries):
        for polygon in map(parse_polygon, entry["shapes"]):
            if polygon:
                points = np.reshape(polygon, (-1, 2))
                boxes.append(np.concatenate([points.min(0), points.max(0)])[None])
                images.append(image)
    return np.concatenate(boxes), np.array(images, np.int64)


def _group_shapes(
    file: Path, entry: dict[str, Any], issues: LabelIssues
) -> list[tuple[int, str, list[dict[str, Any]]]]:
    """Returns the index of the first shape, the label and the shapes of each object."""
    objects: dict[Any, tuple[int, str, list[dict[str, Any]]]] = {}
    for index, shape in enumerate(entry["shapes"]):
        field = f"shapes[{index}]"
        if isinstance(shape, dict) and shape.get("shape_type") in SHAPES_WITHOUT_AREA:
            kind = shape["shape_type"]
            issues.warn(IssueKind.SHAPE_WITHOUT_AREA, file, field, kind, f"{file.name} ({kind})", action=SKIPPED)
        elif not has_area(shape):
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, shape)
        else:
            label, group = str(shape.get("label")), shape.get("group_id")
            key = index if group is None else (label, group)
            objects.setdefault(key, (index, label, []))[2].append(shape)
    return list(objects.values())


def has_area(shape: Any) -> bool:
    """Whether a shape is a polygon, rectangle, circle or mask that can be read."""
    return parse_polygon(shape) is not None or _decode_mask(shape) is not None


def is_usable(shape: Any, size: Size) -> bool:
    """Whether a shape is read without an issue: it covers a pixel, or is a line or point, which are skipped."""
    if isinstance(shape, dict) and shape.get("shape_type") in SHAPES_WITHOUT_AREA:
        return True
    polygon, mask = parse_polygon(shape), parse_mask(shape, size)
    if mask is not None:
        return bool(mask.any())
    return polygon is not None and len(polygon) >= 2 * MIN_POLYGON_POINTS and covers_any_pixel([polygon], size)


def parse_polygon(shape: Any) -> list[float] | None:
    """Converts a shape to a polygon x y x y ...; None for masks, shapes without area and malformed ones."""
    try:
        points = np.asarray(shape["points"], np.float64).reshape(-1, 2)
        kind = shape.get("shape_type", "polygon")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if kind == "polygon" or (kind in ("rectangle", "rotation") and len(points) > MIN_POLYGON_POINTS):
        return points.ravel().tolist()
    if kind == "rectangle" and len(points) == 2:
        (left, top), (right, bottom) = points.tolist()
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle" and len(points) == 2:
        radius, angles = np.linalg.norm(points[1] - points[0]), np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
        return (points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)).ravel().tolist()
    return None


def parse_mask(shape: Any, size: Size) -> np.ndarray | None:
    """Converts a mask shape to (H, W) bool: a PNG in base64 at the first of its points; None for other shapes."""
    window = _decode_mask(shape)
    if window is None:
        return None
    pixels, (left, top) = window
    mask = np.zeros(size, bool)
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + pixels.shape[1], size[1]), min(top + pixels.shape[0], size[0])
    if x1 < x2 and y1 < y2:
        mask[y1:y2, x1:x2] = pixels[y1 - top : y2 - top, x1 - left : x2 - left]
    return mask


def _decode_mask(shape: Any) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Decodes the pixels of a mask shape, (h, w) bool, and the x, y of its first pixel."""
    if not isinstance(shape, dict) or shape.get("shape_type") != "mask" or not isinstance(shape.get("mask"), str):
        return None
    try:
        corner = np.rint(np.asarray(shape["points"], np.float64).reshape(-1, 2)[0]).astype(int)
        with Image.open(BytesIO(base64.b64decode(shape["mask"]))) as image:
            pixels = np.asarray(image.convert("L")) > 0
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error, OSError, SyntaxError):
        return None
    return pixels, (int(corner[0]), int(corner[1]))


def read_file(file: Path) -> dict[str, Any] | None:
    """Reads a labelme file; None if it is not one."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    is_valid = isinstance(content, dict) and isinstance(content.get("shapes"), list)
    return content if is_valid else None
