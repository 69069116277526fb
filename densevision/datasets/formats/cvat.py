"""CVAT for images 1.1: one XML with all images.

CVAT, Datumaro and FiftyOne (`labels.xml` beside `data/`) write it; CVAT's export has `annotations.xml` beside
`images/`, and that of a project names the subset of each image. FiftyOne lists no `<label>`s under `<meta>`. Boxes may
be turned around their center (`rotation`), masks are run lengths of their window in the order of rows. Boxes have no
mask. CVAT for video 1.1 (`<track>`) is read by `cvat_video`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from densevision.datasets.formats.label_files import (
    ellipse_polygon,
    parse_numbers,
    read_head,
    rectangle_polygon,
    skip_shape_without_area,
)
from densevision.datasets.formats.labeled_objects import ImageLookup, LabeledImage, LabeledObject, MaskWindow
from densevision.errors import DataError
from densevision.io.image import MAX_PIXELS
from densevision.io.image_files import list_files
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import parse_decimals
from densevision.ops.masks import encode
from densevision.ops.view import Size

__all__ = ["find_labels", "find_xml", "parse_shape", "parse_xml", "read_class_names", "read_images"]

SHAPES_WITHOUT_AREA = ("polyline", "points", "skeleton", "cuboid")
NOT_OBJECTS = ("tag", "attribute")


def find_labels(folder: Path) -> Path | None:
    """Finds the XML of a folder: a file that begins with `<annotations>`, as CVAT writes it, and has no tracks."""
    return find_xml(folder, "image")


def find_xml(folder: Path, content: Literal["image", "track"]) -> Path | None:
    """Finds the XML of a folder whose first labels are images or tracks; one without labels has images."""
    files = [folder] if folder.is_file() else list_files(folder, "*.xml")
    return next((file for file in files if file.suffix == ".xml" and _find_content(file) == content), None)


def read_class_names(file: Path) -> tuple[str, ...] | None:
    """Returns the labels that the file lists, in its order; None if it lists none."""
    names = (element.text or "" for element in parse_xml(file).iterfind("meta//labels/label/name"))
    return tuple(dict.fromkeys(name.strip() for name in names)) or None


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the images of an XML.

    Raises:
        DataError: It is not XML, or something is wrong and the policy is `fail`.
    """
    lookup, document = ImageLookup(root), parse_xml(file)
    for number, element in enumerate(document.iterfind("image"), 1):
        name, place = element.get("name") or "", f"image {number}"
        sides = [element.get(key) or "" for key in ("height", "width")]
        height, width = (int(side) if side.isdigit() and len(side) < 9 else 0 for side in sides)
        parse = partial(_parse_objects, file, place, element)
        subset = element.get("subset")
        yield LabeledImage(lookup.find(name), file, f"{place}.name", (height, width), parse, subset=subset)


def _parse_objects(file: Path, place: str, image: ElementTree.Element, issues: LabelIssues) -> Iterator[LabeledObject]:
    for index, shape in enumerate(image, 1):
        yield from parse_shape(shape, file, f"{place}.{shape.tag} {index}", image.get("name"), issues)


def parse_shape(
    shape: ElementTree.Element, file: Path, field: str, image: str | None, issues: LabelIssues
) -> Iterator[LabeledObject]:
    """Yields the object of an element; none for lines, points and attributes, and for malformed ones.

    Args:
        shape: The element.
        file: Its file.
        field: Its place there.
        image: Name of its image.
        issues: Reports what is left out.
    """
    if shape.tag in SHAPES_WITHOUT_AREA:
        skip_shape_without_area(file, field, shape.tag, issues)
    elif shape.tag not in NOT_OBJECTS:
        item = _build_object(shape, field)
        if item is not None:
            yield item
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, field, dict(shape.attrib), image)


def _find_content(file: Path) -> str | None:
    """Returns the name of the first element with labels, "image" without any; None if the file is not CVAT's."""
    if "<annotations" not in read_head(file):
        return None
    try:
        for _, element in ElementTree.iterparse(file, ("start",)):
            if element.tag in ("image", "track"):
                return element.tag
    except (ElementTree.ParseError, ValueError, LookupError):
        return "image"  # reading it as such reports the damage
    return "image"


def parse_xml(file: Path) -> ElementTree.Element:
    """Parses an XML.

    Raises:
        DataError: It is not XML.
    """
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as failure:
        raise DataError(f"is not XML: {failure}", file=file, hint="Export it again.") from None


def _build_object(shape: ElementTree.Element, field: str) -> LabeledObject | None:
    """Parses a box, polygon, ellipse or mask; None if it is malformed."""
    label = shape.get("label")
    if label is None:
        return None
    if shape.tag == "box":
        corners = _read_numbers(shape, "xtl", "ytl", "xbr", "ybr")
        angle = _read_angle(shape)
        if corners is None or angle is None:
            return None
        x1, y1, x2, y2 = corners
        if angle % 360 == 0:
            return LabeledObject(label, field, box=(x1, y1, x2, y2))
        return LabeledObject(label, field, polygons=[_turn_box(x1, y1, x2, y2, angle)])
    if shape.tag == "polygon":
        points = _parse_points(shape.get("points") or "")
        return None if points is None else LabeledObject(label, field, polygons=[points])
    if shape.tag == "ellipse":
        numbers = _read_numbers(shape, "cx", "cy", "rx", "ry")
        angle = _read_angle(shape)
        if numbers is None or angle is None:
            return None
        x, y, radius_x, radius_y = numbers
        return LabeledObject(label, field, polygons=[ellipse_polygon(x, y, radius_x, radius_y, angle)])
    window = _parse_mask(shape) if shape.tag == "mask" else None
    return None if window is None else LabeledObject(label, field, windows=[window])


def _turn_box(x1: float, y1: float, x2: float, y2: float, degrees: float) -> list[float]:
    """Returns the corners of a box that is turned clockwise around its center."""
    width, height = x2 - x1, y2 - y1
    corners = np.reshape(rectangle_polygon(0, 0, width, height, degrees), (-1, 2))
    center = np.array([x1 + x2, y1 + y2]) / 2
    return (corners - corners.mean(0) + center).ravel().tolist()


def _parse_points(text: str) -> list[float] | None:
    """Parses points `x,y;x,y;...`."""
    pairs = [pair.split(",") for pair in text.split(";")]
    if any(len(pair) != 2 for pair in pairs):
        return None
    return _to_numbers([value for pair in pairs for value in pair])


def _parse_mask(shape: ElementTree.Element) -> MaskWindow | None:
    """Parses the run lengths of a window: background first, row by row."""
    place = _read_numbers(shape, "left", "top", "width", "height")
    runs = _to_numbers((shape.get("rle") or "").split(","))
    if place is None or runs is None or not all(number.is_integer() for number in (*place, *runs)):
        return None
    left, top, width, height = map(int, place)
    size: Size = (height, width)
    if min(size) < 1 or height * width > MAX_PIXELS or min(runs) < 0 or sum(runs) != height * width:
        return None
    values = np.arange(len(runs)) % 2 == 1
    return MaskWindow(encode(np.repeat(values, np.array(runs, np.int64)).reshape(size)), left, top)


def _read_numbers(shape: ElementTree.Element, *keys: str) -> list[float] | None:
    return _to_numbers([shape.get(key) or "" for key in keys])


def _read_angle(shape: ElementTree.Element) -> float | None:
    """Degrees, 0 where none is stated; None if it is malformed."""
    angle = _read_numbers(shape, "rotation") if shape.get("rotation") else [0.0]
    return None if angle is None else angle[0]


def _to_numbers(texts: list[str]) -> list[float] | None:
    try:
        return parse_numbers(parse_decimals(texts))
    except ValueError:
        return None
