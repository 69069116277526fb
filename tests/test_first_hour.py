"""The first hour of a new user, by the command line: predict, train on ten images, evaluate, report, export, run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.data import astronaut

from densevision.io.image import write_image

sys.path.insert(0, str(Path(__file__).parent / "datasets" / "layouts"))

from layout_writers import NAMES, WITH_BOXES, WITH_MASKS
from test_layouts import make_photos

pytestmark = pytest.mark.slow

LAYOUTS = dict(list((WITH_BOXES | WITH_MASKS).items())[:: max(1, len(WITH_BOXES | WITH_MASKS) // 12)][:12])
"""Twelve layouts of labeling programs, of all kinds."""
SMALL = ["arch=yolo_n", "backbone.name=mobilenetv2_050", "data.size=64", "train.epochs=1", "train.batch=4"]


def densevision(folder: Path, *arguments: str) -> str:
    """Runs a command outside of the repository; returns what it prints."""
    command = [sys.executable, "-m", "densevision", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def train(folder: Path, layout: str) -> None:
    """Ten labeled images in a layout, and a run that trained on them."""
    (WITH_BOXES | WITH_MASKS)[layout](folder / "data", {"train": make_photos(7, 1), "val": make_photos(3, 2)})
    settings = [part for setting in SMALL for part in ("--set", setting)]
    printed = densevision(folder, "detection", "train", "--data", "data", "--out", "run", *settings)
    assert "predict" in printed  # what to do next


def evaluate(folder: Path, *arguments: str) -> dict[str, Any]:
    weights = ["--weights", "run/best.safetensors", "--data", "data", "--json"]
    return json.loads(densevision(folder, "detection", "evaluate", *weights, *arguments))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_hour__train_and_evaluate(layout: str, tmp_path: Path) -> None:
    train(tmp_path, layout)
    report = evaluate(tmp_path)
    counts = report["counts"]
    # Layouts without splits hold out a tenth of the images, which may show no object: then there is no AP.
    assert counts["images"] in (1, 3)
    assert 0 <= report["metrics"]["AP"] <= 1 if counts["truths"] else report["metrics"]["AP"] is None
    assert set(json.loads(densevision(tmp_path, "info", "run/best.safetensors", "--json"))["classes"]) == set(NAMES)
    assert json.loads(densevision(tmp_path, "info", "run", "--json"))["finished_epochs"] == 1


def test_first_hour__predict_on_a_photograph(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.jpg", astronaut())
    densevision(tmp_path, "detection", "predict", "photo.jpg", "--save", "png", "--save", "json")
    drawn, content = (tmp_path / "predictions" / name for name in ("photo.png", "photo.json"))
    assert drawn.stat().st_size > 10_000
    assert json.loads(content.read_text())["size"] == [512, 512]
    densevision(tmp_path, "semantic", "predict", "photo.jpg", "--save", "png", "--save", "labels.png", "--out", "maps")
    assert {file.name for file in (tmp_path / "maps").iterdir()} == {"photo.png", "photo.labels.png"}


def test_first_hour__report_and_export(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    train(tmp_path, next(iter(LAYOUTS)))
    evaluate(tmp_path, "--report", "page")
    page = (tmp_path / "page" / "index.html").read_text()
    assert "photo_2_" in page  # images are called by their files
    densevision(tmp_path, "detection", "export", "--weights", "run/best.safetensors", "--out", "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    values = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    outputs = dict(zip((each.name for each in session.get_outputs()), session.run(None, {image.name: values})))
    count = outputs["scores"].shape[1]
    assert outputs["boxes"].shape == (1, count, 4)
    assert np.isfinite(outputs["boxes"]).all()
    assert outputs["labels"].shape == (1, count)
