"""Calls of bulk prediction that are refused before a cluster is needed, and its options on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import densevision
from densevision.cli.main import root
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image

pytest.importorskip("pyarrow")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "images" / "a.png", np.zeros((8, 8, 3), np.uint8))
    return tmp_path / "images" / "a.png"


@pytest.mark.parametrize(
    ("task", "options", "field"),
    [
        ("superres", {"out": None}, "out"),
        ("superres", {"stream": True}, "stream"),
        ("superres", {"source": np.zeros((8, 8, 3), np.uint8)}, "source"),
        ("superres", {"save": "mp4"}, "save"),
        ("superres", {"save": ["coco"]}, "save"),
        ("superres", {"workers": 0}, "workers"),
        ("superres", {"rows_per_file": 0.5}, "rows_per_file"),
        ("superres", {"timeout": 0.0}, "timeout"),
        ("superres", {"gpus_per_worker": -1.0}, "gpus_per_worker"),
        ("superres", {"score_threshold": 0.5}, "score_threshold"),
        ("superres", {"no_such_option": 1}, "no_such_option"),
        ("flow", {}, "engine"),
    ],
)
def test_predict__refused(task: str, options: dict[str, Any], field: str, image: Path, tmp_path: Path) -> None:
    given = {"source": image, "out": tmp_path / "out", "weights": None if task == "flow" else "bicubic"} | options
    with pytest.raises(UsageError) as caught:
        densevision.predict(given.pop("source"), task, given.pop("weights"), engine="ray", quiet=True, **given)
    assert caught.value.field == field
    assert not (tmp_path / "out").exists()


def test_predict__source_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        densevision.predict(tmp_path / "none", "superres", "bicubic", engine="ray", out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_predict__two_drawings_of_one_name(image: Path, tmp_path: Path) -> None:
    image.with_suffix(".jpg").write_bytes(image.read_bytes())
    with pytest.raises(UsageError) as caught:
        densevision.predict(
            image.parent, "superres", "bicubic", engine="ray", out=tmp_path / "out", save="png", quiet=True
        )
    assert caught.value.field == "save"


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "a.png", "--workers", "2"],
        ["predict", "a.png", "--rows-per-file", "2", "--engine", "torch"],
        ["predict", "a.png", "--engine", "ray", "--json"],
        ["evaluate", "--data", "scenes:2", "--gpus-per-worker", "1"],
    ],
)
def test_command_line__options_without_effect(arguments: list[str]) -> None:
    assert CliRunner().invoke(root, ["superres", *arguments]).exit_code == 2


def test_import__neither_ray_nor_pyarrow_unless_asked() -> None:
    program = (
        "import sys, densevision.bulk, densevision.cli.main, densevision.api, densevision.evaluation.score\n"
        "print(sorted({'ray', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
