"""Opening a large dataset can be watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.io import watch
from densevision.io.findings import Findings
from densevision.io.image import write_image
from densevision.io.watch import watched, watching
from densevision.io.yolo import read_data_yaml, read_yolo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    for number in range(5):
        write_image(tmp_path / "images" / f"{number}.png", np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    return tmp_path


@pytest.mark.parametrize(("many", "titles"), [(5, ["looking at pictures", "reading labels"]), (6, [])])
def test_watching__bars_where_there_is_much(folder: Path, many: int, titles: list[str], monkeypatch) -> None:
    monkeypatch.setattr(watch, "MANY", many)
    seen = []

    def bar(things, title):
        seen.append(title)
        yield from things

    with watching(bar):
        table = read_yolo(read_data_yaml(folder / "data.yaml"), ("images",), Findings("fail"))
    assert seen == titles and len(table) == 5
    assert list(watched(range(9), "nobody looks")) == list(range(9)) and seen == titles
