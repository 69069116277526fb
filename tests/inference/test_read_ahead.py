"""One item ahead: order, exceptions in their place, and an orderly end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from densevision.inference.read_ahead import read_ahead


def test_items__in_order_and_one_ahead() -> None:
    computed: list[int] = []

    def compute() -> Iterator[int]:
        for number in range(5):
            computed.append(number)
            yield number

    seen = []
    for number in read_ahead(compute()):
        time.sleep(0.05)  # the thread has time to run as far ahead as it may
        assert len(computed) <= number + 2
        seen.append(number)
    assert seen == computed == list(range(5))
    assert list(read_ahead([])) == []


def test_work__overlaps() -> None:
    computed = threading.Event()

    def compute() -> Iterator[int]:
        yield 0
        computed.set()
        yield 1

    items = read_ahead(compute())
    assert next(items) == 0
    assert computed.wait(30), "the next item was not computed while the caller had this one"
    assert list(items) == [1]


def test_exception__is_raised_in_its_place() -> None:
    def compute() -> Iterator[int]:
        yield 1
        raise KeyError("second")

    items = read_ahead(compute())
    assert next(items) == 1
    with pytest.raises(KeyError, match="second"):
        next(items)


def test_stop__finishes_the_item_and_closes_the_iterator() -> None:
    state = {"closed": False, "running": 0}

    def compute() -> Iterator[int]:
        try:
            for number in range(100):
                state["running"] += 1
                time.sleep(0.02)
                state["running"] -= 1
                yield number
        finally:
            state["closed"] = True

    items = read_ahead(compute())
    assert next(items) == 0
    items.close()
    assert state == {"closed": True, "running": 0}
    assert not any(thread.name.startswith("read_ahead") for thread in threading.enumerate())
