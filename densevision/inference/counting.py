"""Counts of objects that cross lines, and of those inside zones, by class; geometry by the package `supervision`."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from densevision.draw.canvas import blend_color, compute_font_size, compute_line_width, copy_canvas
from densevision.draw.colors import choose_text_color
from densevision.draw.text import compute_line_height, draw_text, measure_text_width
from densevision.errors import UsageError
from densevision.io.atomic_write import atomic_write
from densevision.optional_packages import import_optional
from densevision.results import Detections

__all__ = ["CountWriter", "ObjectCounter"]

ZONE_OPACITY = 0.2
REGION_COLOR = (255, 255, 255)
"""White, which no identity has."""


class ObjectCounter:
    """Counts objects frame by frame; where the center of an object's box is decides.

    Args:
        lines: x1, y1, x2, y2 in pixels of each line. Who crosses it to the left of the direction from the first point
            to the second comes in, who crosses it to the right goes out. Crossings need identities (`track`).
        zones: x1, y1, x2, y2, x3, y3, ... of each zone: the corners of a polygon.

    Attributes:
        names: Names of the regions in the order of the counts: "line 1", ..., "zone 1", ...

    Raises:
        UsageError: A region has too few numbers, or an odd number of them; or supervision is not installed.

    Example:
        >>> counter = ObjectCounter(lines=[(0, 240, 640, 240)])  # doctest: +SKIP
        >>> for result in densevision.predict("a.mp4", "detection", track="bytetrack"):  # doctest: +SKIP
        ...     counter.update(result)
        >>> counter.get_counts()  # doctest: +SKIP
        [{'region': 'line 1', 'class': 'car', 'in': 12, 'out': 3, 'inside': None}]
    """

    def __init__(self, lines: Sequence[Sequence[float]] = (), zones: Sequence[Sequence[float]] = ()):
        self.lines = [_to_points("line", line) for line in lines]
        self.zones = [_to_points("zone", zone) for zone in zones]
        self.names = [
            *(f"line {number}" for number in range(1, len(lines) + 1)),
            *(f"zone {number}" for number in range(1, len(zones) + 1)),
        ]
        self._supervision = supervision = import_optional("supervision", "counting", "track")
        center = (supervision.Position.CENTER,)
        self._lines = [
            supervision.LineZone(*(supervision.Point(*point) for point in line.tolist()), triggering_anchors=center)
            for line in self.lines
        ]
        self._zones = [supervision.PolygonZone(np.rint(zone).astype(int), center) for zone in self.zones]
        self._inside: list[dict[str, int]] = [{} for _ in self.zones]
        self._classes: tuple[str, ...] = ()

    def update(self, result: Detections) -> None:
        """Counts the objects of the next frame.

        Raises:
            UsageError: There are lines, and the objects have no identities.
        """
        if self.lines and result.track_ids is None:
            hint = "Predict with track, such as track=bytetrack."
            raise UsageError("crossings need the identities of objects", field="line", hint=hint)
        self._classes = result.names
        ids = None if result.track_ids is None else result.track_ids.astype(int)
        objects = self._supervision.Detections(result.boxes, class_id=result.labels.astype(int), tracker_id=ids)
        for line in self._lines:
            line.trigger(objects)
        for number, zone in enumerate(self._zones):
            labels = result.labels[zone.trigger(objects)]
            counts = np.bincount(labels, minlength=len(self._classes))
            seen = dict.fromkeys(self._inside[number], 0)
            self._inside[number] = seen | {self._classes[label]: int(counts[label]) for label in np.flatnonzero(counts)}

    def get_counts(self) -> list[dict[str, Any]]:
        """The counts until now, one row per region and class that was seen there.

        Each has `region`, `class`, and `in` and `out` of a line since the start, or `inside`, the objects of the last
        frame in a zone; the others are None.
        """
        rows: list[dict[str, Any]] = []
        for name, line in zip(self.names, self._lines):
            for label in sorted({*line.in_count_per_class, *line.out_count_per_class}):
                count_in, count_out = (
                    int(counts.get(label, 0)) for counts in (line.in_count_per_class, line.out_count_per_class)
                )
                row = {"region": name, "class": self._classes[label], "in": count_in, "out": count_out, "inside": None}
                rows.append(row)
        for name, inside in zip(self.names[len(self.lines) :], self._inside):
            rows += [{"region": name, "class": key, "in": None, "out": None, "inside": n} for key, n in inside.items()]
        return rows

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Draws the regions with their counts over all classes: (H, W, 3) uint8 RGB."""
        canvas = copy_canvas(image)
        width = compute_line_width(canvas.shape[:2])
        for number, region in enumerate([*self.lines, *self.zones]):
            points = np.rint(region).astype(np.int32)
            is_zone = number >= len(self.lines)
            if is_zone:
                mask: np.ndarray = cv2.fillPoly(np.zeros(canvas.shape[:2], np.uint8), [points], 1)
                blend_color(canvas, REGION_COLOR, ZONE_OPACITY, mask.astype(bool))
            cv2.polylines(canvas, [points], is_zone, REGION_COLOR, width, cv2.LINE_AA)
            _draw_label(canvas, f"{self.names[number]}: {self._describe(number)}", region.mean(0))
        return canvas

    def _describe(self, number: int) -> str:
        if number < len(self.lines):
            line = self._lines[number]
            return f"in {line.in_count}, out {line.out_count}"
        return str(sum(self._inside[number - len(self.lines)].values()))


class CountWriter:
    """Context manager that writes the counts after every frame as CSV, atomically: frame and `get_counts`' columns.

    Args:
        path: The file.
        counter: What counts.
    """

    def __init__(self, path: str | os.PathLike[str], counter: ObjectCounter):
        self.path, self.counter, self.frames = path, counter, 0
        self._stack = ExitStack()

    def __enter__(self) -> CountWriter:
        temporary = self._stack.enter_context(atomic_write(self.path))
        stream = self._stack.enter_context(open(temporary, "w", encoding="utf-8", newline=""))
        self._writer = csv.DictWriter(stream, ("frame", "region", "class", "in", "out", "inside"))
        self._writer.writeheader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def update(self, result: Detections) -> None:
        """Counts the objects of the next frame and writes the counts; see `ObjectCounter.update`."""
        self.counter.update(result)
        self.frames += 1
        self._writer.writerows({"frame": self.frames, **row} for row in self.counter.get_counts())


def _to_points(kind: str, numbers: Sequence[float]) -> np.ndarray:
    """(points, 2) float64.

    Raises:
        UsageError: The numbers form no line or polygon.
    """
    values = np.asarray(numbers, np.float64)
    is_valid = values.ndim == 1 and len(values) % 2 == 0 and np.isfinite(values).all()
    if not is_valid or (len(values) != 4 if kind == "line" else len(values) < 6):
        hint = "Give x1,y1,x2,y2." if kind == "line" else "Give x1,y1,x2,y2,x3,y3 or more corners."
        raise UsageError("is not a list of points", field=kind, value=numbers, hint=hint)
    points = values.reshape(-1, 2)
    if kind == "line" and (points[0] == points[1]).all():
        raise UsageError("begins and ends in one point", field=kind, value=numbers)
    return points


def _draw_label(canvas: np.ndarray, text: str, center: np.ndarray) -> None:
    """Draws text on a background around a point, moved into the image."""
    size = compute_font_size(canvas.shape[:2])
    extent = np.array([measure_text_width(text, size) + size // 2, compute_line_height(size)])
    limit = np.maximum(0, np.array(canvas.shape[1::-1]) - extent)
    x, y = np.rint(center - extent / 2).clip(0, limit).astype(int).tolist()
    canvas[y : y + int(extent[1]), x : x + int(extent[0])] = REGION_COLOR
    draw_text(canvas, text, (x + size // 4, y), size, choose_text_color(REGION_COLOR))
