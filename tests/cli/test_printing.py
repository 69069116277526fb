"""Printed reports, and numbers that are not finite."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from densevision import api
from densevision.cli.main import run
from densevision.cli.printing import configure_logging
from densevision.io.depth import write_depth
from densevision.io.flow import write_flow
from densevision.io.image import write_image
from densevision.tasks import TASKS


def write_truth_and_prediction(task: str, root: Path) -> tuple[Path, Path]:
    """Ground truth of two images, and a prediction that equals it."""
    if task in ("detection", "instance"):
        images = [{"id": n, "width": 40, "height": 30, "file_name": f"{n}.png"} for n in (1, 2)]
        box = {"category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
        annotations = [{"id": n, "image_id": n, "iscrowd": 0, **box} for n in (1, 2)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
        (root / "truth.json").write_text(json.dumps(content))
        (root / "prediction.json").write_text(json.dumps([{"image_id": n, "score": 0.9, **box} for n in (1, 2)]))
        return root / "truth.json", root / "prediction.json"
    if task == "joint":
        (root / "all").mkdir()
        for part in ("semantic", "depth"):
            write_truth_and_prediction(part, root / part)[0].rename(root / "all" / part)
        return root / "all", root / "all"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        if task == "depth":
            write_depth(root / "truth" / f"{name}.pfm", rng.uniform(1, 9, (24, 32)).astype(np.float32))
        elif task == "flow":
            write_flow(root / "truth" / f"{name}.flo", rng.normal(0, 9, (2, 24, 32)).astype(np.float32))
        else:
            image = rng.integers(0, 3, (24, 32, 1 if task == "semantic" else 3)).astype(np.uint8)
            write_image(root / "truth" / f"{name}.png", image)
    return root / "truth", root / "truth"


@pytest.mark.parametrize("task", TASKS)
def test_score__truth_against_itself(task: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth, prediction = write_truth_and_prediction(task, tmp_path)
    run([task, "score", "--truth", str(truth), "--predictions", str(prediction)])
    printed = capsys.readouterr().out
    assert "protocol: " in printed and (" inf " in printed) == (task in ("superres", "translation"))


def test_quiet__bundled_weights_are_not_announced(capsys: pytest.CaptureFixture) -> None:
    configure_logging(False)
    api.load(task="superres")
    assert "weights for superres" in capsys.readouterr().err
    configure_logging(True)
    api.load(task="superres")
    configure_logging(False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("value", "text"), [(math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "-"), (0, "0")])
def test_format_number__not_finite(value: float, text: str) -> None:
    from densevision.cli.printing import _format_number

    assert _format_number(value) == text


@pytest.mark.parametrize(("columns", "is_complete"), [(60, False), (80, False), (200, True)])
def test_tables__lose_columns_but_neither_digits_nor_names(
    columns: int, is_complete: bool, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich draws for a terminal of so many columns."""
    truth, predictions = write_truth_and_prediction("detection", tmp_path)
    name = "a class with a long name"
    truth.write_text(truth.read_text().replace('"name": "a"', f'"name": "{name}"'))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    run(["detection", "score", "--truth", str(truth), "--predictions", str(predictions)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    (row,) = (line for line in lines if name in line)
    assert "…" not in row
    values = row.replace(name, "").split()
    header = next(line for line in lines[lines.index(row) - 2 :: -1] if "AP50" in line).split()
    assert len(values) == len(header)
    assert (len(header) == 12) == is_complete
    assert all(value == "-" or len(value) >= 6 for value in values)


def test_tables__of_a_pipe_are_plain_and_complete(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth, predictions = write_truth_and_prediction("detection", tmp_path)
    run(["detection", "score", "--truth", str(truth), "--predictions", str(predictions)])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.isascii() or "─" not in text
    (header,) = (line for line in text.splitlines() if line.split()[:3] == ["AP", "AP50", "AP75"])
    assert len(header.split()) == 12
