"""CVAT for video 1.1: one XML with the tracks of a video, beside `images/` with its frames.

A shape of a track belongs to a frame, and `outside` says that the object left. CVAT writes the shapes of all frames;
other programs only keyframes: boxes and ellipses between them are interpolated linearly, and polygons that have as many
points at both ends; other shapes stay as they were at the keyframe before. The last shape stays to the end of the video
unless it is outside. (The rules are those of CVAT, except that CVAT also matches polygons of different lengths.)

Frames are named `frame_000012.png` by their number in the video; where images were labeled as a video and have names of
their own, the sorted names are the frames, counted from `start_frame` in steps of `frame_filter`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from densevision.datasets.formats.cvat import find_xml, parse_shape, parse_xml, read_class_names
from densevision.datasets.formats.labeled_objects import LabeledImage, LabeledObject
from densevision.errors import DataError
from densevision.io.image_files import MAX_INT32, list_images
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.lines import parse_decimals

__all__ = ["find_labels", "read_class_names", "read_images"]

LINEAR = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
"""Shapes -> their attributes that are interpolated, besides the rotation."""
_FRAME_NAME = re.compile(r"frame_(\d{6,9})")
_STEP = re.compile(r"step\s*=\s*(\d{1,6})")

Shapes = list[tuple[int, ElementTree.Element, str]]
"""Frame, element and place in the file of each shape of a track, in the order of frames."""


def find_labels(folder: Path) -> Path | None:
    """Finds the XML of a folder whose labels are tracks."""
    return find_xml(folder, "track")


def read_images(file: Path, root: Path, issues: LabelIssues) -> Iterator[LabeledImage]:
    """Reads the frames of a video; those without objects are images without objects.

    Raises:
        DataError: It is not XML or holds several videos, there are no frames, or something is wrong and the policy is
            `fail`.
    """
    document = parse_xml(file)
    if len({track.get("task_id") for track in document.iterfind("track")}) > 1:
        hint = "Export each task by itself: their frames have the same numbers."
        raise DataError("holds the tracks of several videos", file=file, field="track.task_id", hint=hint)
    frames = _list_frames(document, file, root)
    shapes: dict[int, list[tuple[ElementTree.Element, str]]] = {}
    for number, track in enumerate(document.iterfind("track"), 1):
        keyframes = list(_read_shapes(track, f"track {number}", file, issues))
        for frame, element, place in _fill_frames(keyframes, sorted(frames)):
            element.set("label", track.get("label", ""))
            shapes.setdefault(frame, []).append((element, place))
    for frame in sorted(frames.keys() | shapes.keys()):
        name = frames.get(frame, f"images/frame_{frame:06d}.png")
        parse = partial(_parse_frame, file, name, shapes.get(frame, []))
        yield LabeledImage(name, file, f"frame {frame}", parse=parse)


def _parse_frame(
    file: Path, name: str, shapes: list[tuple[ElementTree.Element, str]], issues: LabelIssues
) -> Iterator[LabeledObject]:
    for shape, place in shapes:
        yield from parse_shape(shape, file, place, name, issues)


def _list_frames(document: ElementTree.Element, file: Path, root: Path) -> dict[int, str]:
    """Returns the image of each frame, relative to the dataset."""
    folder = file.parent / "images" if (file.parent / "images").is_dir() else file.parent
    names = list_images(folder)
    if not names:
        hint = (
            "Export it with images, or write the frames of the video: ffmpeg -i VIDEO -start_number 0 "
            "images/frame_%06d.png"
        )
        raise DataError("labels a video, but there are no images of its frames", file=file, value=folder, hint=hint)
    paths = [str((folder / name).relative_to(root)) for name in names]
    numbers = [_FRAME_NAME.fullmatch(Path(name).stem) for name in names]
    if all(numbers):
        return {int(number[1]): path for number, path in zip(numbers, paths) if number}
    start = document.findtext("meta//start_frame") or "0"
    step = _STEP.search(document.findtext("meta//frame_filter") or "")
    first = int(start) if start.isdigit() and len(start) < 10 else 0
    return {first + index * (int(step[1]) if step else 1): path for index, path in enumerate(paths)}


def _read_shapes(
    track: ElementTree.Element, place: str, file: Path, issues: LabelIssues
) -> Iterator[tuple[int, ElementTree.Element, str]]:
    for index, shape in enumerate(track, 1):
        frame, field = shape.get("frame") or "", f"{place}.{shape.tag} {index}"
        if shape.tag == "attribute":
            continue
        if frame.isdigit() and int(frame) < MAX_INT32 and len(frame) < 11:
            yield int(frame), shape, field
        else:
            issues.add(IssueKind.ENTRY_MALFORMED, file, f"{field}.frame", shape.get("frame"))


def _fill_frames(shapes: Shapes, frames: Sequence[int]) -> Iterator[tuple[int, ElementTree.Element, str]]:
    """Yields the shapes of a track that are visible, and one for each frame between and behind them."""
    shapes = sorted(shapes, key=lambda shape: shape[0])
    for (frame, shape, place), (next_frame, next_shape, _) in pairwise(shapes):
        if frame == next_frame or shape.get("outside") == "1":
            continue
        yield frame, shape, place
        for between in frames[bisect_right(frames, frame) : bisect_left(frames, next_frame)]:
            yield between, _interpolate(shape, next_shape, (between - frame) / (next_frame - frame)), place
    for frame, shape, place in shapes[-1:]:
        if shape.get("outside") != "1":
            yield frame, shape, place
            yield from ((later, _copy(shape), place) for later in frames[bisect_right(frames, frame) :])


def _interpolate(shape: ElementTree.Element, other: ElementTree.Element, fraction: float) -> ElementTree.Element:
    """Returns the shape at a fraction of the way to another one, the shape itself where they differ in kind."""
    between = _copy(shape)
    if shape.tag != other.tag:
        return between
    try:
        for key in LINEAR.get(shape.tag, ()):
            start, end = parse_decimals([shape.get(key) or "", other.get(key) or ""])
            between.set(key, repr(start + (end - start) * fraction))
        if shape.get("rotation") or other.get("rotation"):
            start, end = parse_decimals([shape.get("rotation") or "0", other.get("rotation") or "0"])
            turn = (end - start + 180) % 360 - 180  # the shorter way around
            between.set("rotation", repr(start + turn * fraction))
        if shape.tag == "polygon":
            between.set("points", _interpolate_points(shape, other, fraction))
    except ValueError:  # a malformed shape, which is reported where it stands
        return between
    return between


def _interpolate_points(shape: ElementTree.Element, other: ElementTree.Element, fraction: float) -> str:
    start, end = (parse_decimals((each.get("points") or "").replace(";", ",").split(",")) for each in (shape, other))
    if len(start) != len(end) or len(start) % 2:
        return shape.get("points") or ""
    values = [repr(first + (last - first) * fraction) for first, last in zip(start, end)]
    return ";".join(",".join(pair) for pair in zip(values[::2], values[1::2]))


def _copy(shape: ElementTree.Element) -> ElementTree.Element:
    return ElementTree.Element(shape.tag, dict(shape.attrib))
