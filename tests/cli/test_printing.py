"""How numbers are printed, those without end among them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from densevision import api
from densevision.cli.main import run
from densevision.cli.printing import remarks
from densevision.io.depth import write_depth
from densevision.io.flow import write_flow
from densevision.io.image import write_image
from densevision.tasks import TASKS


def truth_and_answer(task: str, root: Path) -> tuple[Path, Path]:
    """Truth of two images, and the answer that is the truth itself."""
    if task in ("detection", "instance"):
        images = [{"id": n, "width": 40, "height": 30, "file_name": f"{n}.png"} for n in (1, 2)]
        box = {"category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
        ground_truths = [{"id": n, "image_id": n, "iscrowd": 0, **box} for n in (1, 2)]
        told = {"images": images, "annotations": ground_truths, "categories": [{"id": 1, "name": "a"}]}
        (root / "truth.json").write_text(json.dumps(told))
        (root / "answer.json").write_text(json.dumps([{"image_id": n, "score": 0.9, **box} for n in (1, 2)]))
        return root / "truth.json", root / "answer.json"
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
    truth, answer = truth_and_answer(task, tmp_path)
    run([task, "score", "--truth", str(truth), "--predictions", str(answer)])
    printed = capsys.readouterr().out
    assert "protocol: " in printed and (" inf " in printed) == (task in ("superres", "translation"))


def test_quiet__starter_weights_are_not_announced(capsys: pytest.CaptureFixture) -> None:
    remarks(False)
    api.load(task="superres")
    assert "starter weights for superres" in capsys.readouterr().err
    remarks(True)
    api.load(task="superres")
    remarks(False)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("value", "text"), [(math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "-"), (0, "0")])
def test_number__without_end_or_meaning(value: float, text: str) -> None:
    from densevision.cli.printing import _number

    assert _number(value) == text
