"""Lines and zones: analytic paths, whose crossings and times inside are known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from densevision.errors import UsageError
from densevision.inference.counting import CountWriter, ObjectCounter
from densevision.results import Detections

pytest.importorskip("supervision")
NAMES = ("car", "bus")


def make_frame(*objects: tuple[float, float, int, int]) -> Detections:
    """Objects by center x, center y, class and identity; boxes of 10 x 6."""
    table = np.array(objects, float).reshape(-1, 4)
    boxes = np.concatenate([table[:, :2] - (5, 3), table[:, :2] + (5, 3)], 1)
    ids = table[:, 3].astype(np.int64)
    return Detections.from_arrays(boxes, table[:, 2].astype(int), NAMES, (100, 200), track_ids=ids)


def test_line__direction_by_the_order_of_its_points() -> None:
    """A line from north to south: east is to the left of someone who walks it, and who goes there comes in."""
    counter = ObjectCounter(lines=[(100, 0, 100, 100)])
    for step in range(20):
        counter.update(make_frame((50.5 + 5 * step, 40, 0, 1), (150.5 - 5 * step, 60, 1, 2), (20, 20, 0, 3)))
    rows = [{"region": "line 1", "class": "car", "in": 1, "out": 0, "inside": None}]
    rows += [{"region": "line 1", "class": "bus", "in": 0, "out": 1, "inside": None}]
    assert counter.get_counts() == rows
    reverse = ObjectCounter(lines=[(100, 100, 100, 0)])
    for step in range(20):
        reverse.update(make_frame((50.5 + 5 * step, 40, 0, 1)))
    assert reverse.get_counts() == [{"region": "line 1", "class": "car", "in": 0, "out": 1, "inside": None}]


def test_line__to_and_fro_and_past_its_end() -> None:
    counter = ObjectCounter(lines=[(100, 0, 100, 50)])
    for step in range(30):
        x = 100.5 + 40 * np.cos(2 * np.pi * step / 20)  # begins on the right; 20 steps are one round
        counter.update(make_frame((x, 20, 0, 1), (x, 80, 0, 2)))  # the second passes below the end of the line
    assert counter.get_counts() == [{"region": "line 1", "class": "car", "in": 1, "out": 2, "inside": None}]


def test_line__objects_without_identity_do_not_count() -> None:
    counter = ObjectCounter(lines=[(100, 0, 100, 100)])
    for x in (80, 90, 110, 120):
        counter.update(make_frame((x, 40, 0, -1)))
    assert counter.get_counts() == []
    frame = make_frame((80, 40, 0, 1))
    with pytest.raises(UsageError, match="identities"):
        counter.update(Detections.from_arrays(frame.boxes, frame.labels, NAMES, frame.size))


def test_zone__counts_the_centers_inside(tmp_path: Path) -> None:
    """A triangle: below the diagonal of the left half. One car drives along y = 50 at 10 pixels a frame."""
    counter = ObjectCounter(zones=[(0, 0, 0, 100, 100, 100)])
    with CountWriter(tmp_path / "counts.csv", counter) as writer:
        for step in range(12):
            writer.update(make_frame((5.2 + 10 * step, 50, 0, 1), (20, 90, 1, 2)))
    with open(tmp_path / "counts.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    inside = [int(row["inside"]) for row in rows if row["class"] == "car"]
    assert inside == [1] * 5 + [0] * 7  # x = 5.2, ..., 45.2 are left of the diagonal at y = 50
    assert [int(row["inside"]) for row in rows if row["class"] == "bus"] == [1] * 12
    assert {row["region"] for row in rows} == {"zone 1"} and [row["frame"] for row in rows[-2:]] == ["12", "12"]


def test_zone__needs_no_identities() -> None:
    counter = ObjectCounter(zones=[(0, 0, 0, 100, 100, 100)])
    frame = make_frame((20, 90, 1, 2))
    counter.update(Detections.from_arrays(frame.boxes, frame.labels, NAMES, frame.size))
    assert counter.get_counts() == [{"region": "zone 1", "class": "bus", "in": None, "out": None, "inside": 1}]


def test_draw__regions_and_nothing_else() -> None:
    counter = ObjectCounter(lines=[(150, 0, 150, 100)], zones=[(10, 10, 10, 90, 60, 90, 60, 10)])
    drawn = counter.draw(np.zeros((100, 200, 3), np.uint8))
    assert drawn[80, 30].any() and drawn[20, 150].any() and not drawn[80, 100].any() and not drawn[95, 30].any()


@pytest.mark.parametrize(
    "regions",
    [
        {"lines": [(0, 0, 5)]},
        {"lines": [(0, 0, 5, 5, 9, 9)]},
        {"lines": [(3, 3, 3, 3)]},
        {"zones": [(0, 0, 5, 5)]},
        {"zones": [(0, 0, 5, 5, 9)]},
        {"zones": [(0, 0, 5, float("nan"), 9, 9)]},
    ],
)
def test_regions__that_are_none(regions: dict[str, list[tuple[float, ...]]]) -> None:
    with pytest.raises(UsageError, match=r"line|zone"):
        ObjectCounter(**regions)
