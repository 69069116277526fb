"""Progress bars of long reads."""

from __future__ import annotations

import pytest

from densevision.io import progress
from densevision.io.progress import progress_context, track_progress


@pytest.mark.parametrize(("count", "titles"), [(4, []), (5, ["reading"])])
def test_track_progress__bar_for_many_items(count: int, titles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MIN_ITEMS", 5)
    shown = []

    def bar(items, title):
        shown.append(title)
        yield from items

    with progress_context(bar):
        assert list(track_progress(range(count), "reading")) == list(range(count))
    assert shown == titles
    assert list(track_progress(range(count), "outside of the context")) == list(range(count)) and shown == titles
