"""Whole processes: from the start of Python to the end."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from densevision.datasets.scenes import CLASSES, Scenes
from densevision.io.image import write_image
from peers import OURS, Call, Row

__all__ = ["ROWS"]

PREDICT = """
import sys
from ultralytics import YOLO
YOLO("yolo11n.yaml", task="detect").predict(sys.argv[1], device="cpu", verbose=False)
"""
TRAIN = """
import sys
from ultralytics import YOLO
options = {"epochs": 3, "imgsz": 320, "batch": 16, "workers": 2, "device": "cpu", "plots": False, "verbose": False}
YOLO("yolo11n.yaml", task="detect").train(data=sys.argv[1], project=sys.argv[2], close_mosaic=0, **options)
"""
OPTIONS = {
    "arch": "yolo_n",
    "backbone.pretrained": "false",
    "data.size": 320,
    "data.workers": 2,
    "train.batch": 16,
    "train.epochs": 3,
    "augment.close_mosaic_epochs": 0,
}
IMAGES = {"train": 128, "val": 16}
SIDE = 320


def prepare_prediction(folder: Path) -> dict[str, Call]:
    """One JPEG by the command line, beside Ultralytics without the reading of weights."""
    image = folder / "image.jpg"
    write_image(image, Scenes(1, 0, (480, 640))[0].image)
    ours = ["-m", "densevision", "detection", "predict", image, "--out", folder / "out", "--quiet"]
    return {f"{OURS} auto": partial(_run, ours), "ultralytics float32": partial(_run, ["-c", PREDICT, image])}


def prepare_training(folder: Path) -> dict[str, Call]:
    """Nano detectors from random weights, with mosaics, two workers and validation.

    Ultralytics trains in float32 on the CPU.
    """
    data = _write_dataset(folder)
    runs = (folder / f"run_{number}" for number in itertools.count())
    settings = [argument for name, value in OPTIONS.items() for argument in ("--set", f"{name}={value}")]
    ours = ["-m", "densevision", "detection", "train", "--data", data.parent, "--quiet", *settings]
    calls: dict[str, Call] = {
        f"{OURS} {precision}": lambda precision=precision: _run(  # type: ignore[misc]
            [*ours, "--set", f"train.precision={precision}", "--out", next(runs)]
        )
        for precision in ("float32", "auto")
    }
    return calls | {"ultralytics float32": lambda: _run(["-c", TRAIN, data, next(runs)])}


def _write_dataset(folder: Path) -> Path:
    """Scenes as JPEGs with labels in YOLO's format; returns its data.yaml."""
    for split, count in IMAGES.items():
        images, labels = (folder / "data" / kind / split for kind in ("images", "labels"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number, scene in enumerate(Scenes(count, len(split), (SIDE, SIDE))):
            write_image(images / f"{number}.jpg", scene.image)
            boxes = scene.boxes / SIDE
            centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            rows = [[label, *center, *size] for label, center, size in zip(scene.labels, centers, sizes)]
            (labels / f"{number}.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))
    config = folder / "data" / "data.yaml"
    splits = {split: f"images/{split}" for split in IMAGES}
    config.write_text(json.dumps({"path": str(config.parent), **splits, "names": list(CLASSES)}))
    return config


def _run(arguments: list[Any]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


ROWS = {
    "cold_predict": Row(
        "one JPEG by a new process", prepare_prediction, ("ultralytics",), 1.4, warm_up=1, is_process=True
    ),
    "epochs": Row(
        f"training, 3 epochs of {IMAGES['train']} images of {SIDE} x {SIDE}",
        prepare_training,
        ("ultralytics",),
        1.25,
        warm_up=0,
        is_process=True,
    ),
}
