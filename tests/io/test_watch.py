"""Opening a large dataset can be watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.datasets.formats.yolo import read_data_yaml, read_yolo
from densevision.io import progress as monitor
from densevision.io.image import write_image
from densevision.io.label_issues import LabelIssues
from densevision.io.progress import track_progress, progress_context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    for number in range(5):
        write_image(tmp_path / "images" / f"{number}.png", np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    return tmp_path


@pytest.mark.parametrize(("many", "titles"), [(5, ["looking at images", "reading labels"]), (6, [])])
def test_watching__bars_where_there_is_much(folder: Path, many: int, titles: list[str], monkeypatch) -> None:
    monkeypatch.setattr(monitor, "MIN_ITEMS", many)
    seen = []

    def bar(things, title):
        seen.append(title)
        yield from things

    with progress_context(bar):
        table = read_yolo(read_data_yaml(folder / "data.yaml"), ("images",), LabelIssues("fail"))
    assert seen == titles and len(table) == 5
    assert list(track_progress(range(9), "nobody looks")) == list(range(9)) and seen == titles
