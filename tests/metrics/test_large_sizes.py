"""Sizes that come from data: many classes, many objects in an image, a huge canvas: little memory, or a named error."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from densevision.datasets.checks.boxes import BLOCK, flag_duplicates
from densevision.errors import DataError, UsageError
from densevision.metrics import box_confusion
from densevision.metrics.box_confusion import BoxConfusion
from densevision.metrics.confusion import Confusion
from densevision.run_config import MAX_CANVAS_PIXELS, PredictOptions
from densevision.tasks import TASKS, load_config

MANY = 65_535


@contextmanager
def memory_below(megabytes: float) -> Iterator[None]:
    """Fails where NumPy's and Python's own memory has a higher peak."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < megabytes


def drawn(count: int, seed: int, side: float = 1000, longest: float = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, longest, (count, 2))], 1)


def objects(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None = None) -> Any:
    crowd = np.zeros(len(boxes), bool)
    return SimpleNamespace(boxes=boxes, labels=labels, scores=scores, crowd=crowd)


# Boxes in one image


@pytest.mark.parametrize("count", [0, 1, 2, 300, 4 * BLOCK, 8 * BLOCK + 7])
def test_overlap_earlier__as_the_whole_table_says(count: int) -> None:
    boxes = drawn(count, seed=count, side=60)
    copies = boxes[: count // 3] + np.random.default_rng(1).uniform(-0.6, 0.6, (count // 3, 4))
    boxes = np.random.default_rng(2).permutation(np.concatenate([boxes, copies, boxes[:2]]))
    table = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    expected = (np.tril(table, -1) > 0.9).any(1)
    np.testing.assert_array_equal(flag_duplicates(boxes, 0.9), expected)
    assert count < 300 or 0 < expected.sum() < len(boxes)


def test_overlap_earlier__boxes_without_area() -> None:
    boxes = np.array([[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 4, 4], [0, 0, 4, 4]])
    assert flag_duplicates(boxes, 0.9).tolist() == [False, False, False, True]


@pytest.mark.parametrize("alike", [False, True])
def test_overlap_earlier__a_hundred_thousand(alike: bool) -> None:
    boxes = np.tile(drawn(1, 3), (100_000, 1)) if alike else drawn(100_000, 3, side=4000)
    with memory_below(300):
        flags = flag_duplicates(boxes, 0.9)
    assert flags.sum() == 99_999 if alike else flags.sum() < 5000


# Confusion of boxes


def test_box_confusion__many_classes() -> None:
    boxes, labels = drawn(500, 5, side=20_000), np.random.default_rng(6).integers(0, MANY, 500)
    with memory_below(100):
        confusion = BoxConfusion([str(number) for number in range(MANY)])
        confusion.update(objects(boxes, labels, np.full(500, 0.9)), objects(boxes, labels))
        other = BoxConfusion(confusion.names)
        other.update(objects(boxes[:1], (labels[:1] + 1) % MANY, np.full(1, 0.9)), objects(boxes[:1], labels[:1]))
        confusion.merge(other)
        table, rows = confusion.select_most_confused(10)
    assert table.shape == (11, 11) and rows[-1] == MANY
    confused = sorted([int(labels[0]), int(labels[0] + 1) % MANY])
    assert set(confused) <= set(rows)
    assert table[rows.index(labels[0]), rows.index((labels[0] + 1) % MANY)] == 1
    with pytest.raises(DataError):
        confusion.matrix


def test_box_confusion__blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    boxes, labels = drawn(300, 8, side=150), rng.integers(0, 4, 300)
    moved = boxes + rng.uniform(-3, 3, boxes.shape)
    answer = objects(moved, rng.integers(0, 4, 300), rng.uniform(0, 1, 300))
    tables = []
    for pairs in (1 << 22, 1000):
        monkeypatch.setattr(box_confusion, "MAX_PAIRS", pairs)
        confusion = BoxConfusion("abcd")
        confusion.update(answer, objects(boxes, labels))
        tables.append(confusion.matrix)
    np.testing.assert_array_equal(*tables)
    np.testing.assert_array_equal(confusion.select_most_confused(10)[0], tables[0])


def test_box_confusion__many_objects() -> None:
    boxes = drawn(4000, 9, side=8000)
    confusion = BoxConfusion(["a"])
    with memory_below(600):
        confusion.update(objects(boxes, np.zeros(4000, int), np.full(4000, 0.9)), objects(boxes, np.zeros(4000, int)))
    assert confusion.matrix[0, 0] == 4000


# Named limits


def test_confusion__more_classes_than_bytes_have() -> None:
    Confusion(255)
    with memory_below(10), pytest.raises(DataError, match="65535"):
        Confusion(MANY)


@pytest.mark.parametrize("task", TASKS)
def test_config__a_canvas_that_no_memory_holds(task: str) -> None:
    config = load_config(task)
    names = [name for name in ("size", "canvas", "crop") if name in config.model_fields["data"].annotation.model_fields]
    assert names
    for name in names:
        huge = [[1_000_000] * 2, 1_000_000]
        for value in huge:
            with pytest.raises(UsageError, match=f"data.{name}|{MAX_CANVAS_PIXELS:,}|data"):
                config.resolve(None, {f"data.{name}": value})


def test_predict__a_tile_that_no_memory_holds() -> None:
    with pytest.raises(UsageError, match="tile"):
        PredictOptions.resolve(None, {"tile": 1_000_000})
