"""What the readers of annotation programs share: the head of a file, its JSON, numbers, and shapes as polygons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.coco_objects import MAX_COORDINATE
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues

__all__ = [
    "ellipse_polygon",
    "parse_numbers",
    "read_head",
    "read_json",
    "rectangle_polygon",
    "skip_shape_without_area",
]

HEAD_BYTES = 1 << 16
"""Bytes of a label file by which its format is told."""
CURVE_POINTS = 64
"""Points of the polygon that approximates a circle or an ellipse."""


def parse_numbers(values: Any, count: int | None = None) -> list[float] | None:
    """Returns a list of finite numbers; None if it is not one, or not of this length."""
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        return None
    is_valid = all(type(value) in (int, float) and abs(value) < MAX_COORDINATE for value in values)
    return [float(value) for value in values] if is_valid else None


def rectangle_polygon(x: float, y: float, width: float, height: float, degrees: float = 0) -> list[float]:
    """Returns the corners of a rectangle that is turned clockwise around its first corner.

    >>> rectangle_polygon(0, 0, 4, 2)
    [0.0, 0.0, 4.0, 0.0, 4.0, 2.0, 0.0, 2.0]
    """
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]])
    return (turned + [x, y]).ravel().tolist()


def ellipse_polygon(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> list[float]:
    """Returns points of an ellipse around x, y that is turned clockwise."""
    angles = np.linspace(0, 2 * np.pi, CURVE_POINTS, endpoint=False)
    points = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], 1)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (points @ np.array([[cosine, sine], [-sine, cosine]]) + [x, y]).ravel().tolist()


def read_head(file: Path) -> str:
    """Reads the first characters of a text file, by which formats are told apart; empty if it cannot be read."""
    try:
        with open(file, "rb") as stream:
            return stream.read(HEAD_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def read_json(file: Path, issues: LabelIssues) -> Any:
    """Reads a JSON file; None if it is malformed, which is reported."""
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as failure:
        issues.add(IssueKind.FILE_MALFORMED, file, None, str(failure))
        return None


def skip_shape_without_area(file: Path, place: str, kind: str, issues: LabelIssues) -> None:
    """Counts a line or a point, which is no object."""
    issues.warn(IssueKind.SHAPE_WITHOUT_AREA, file, place, kind, f"{file.name} ({kind})", action=SKIPPED)
