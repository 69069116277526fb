"""Whole processes: from the start of Python to the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from densevision.datasets.scenes import Scenes
from densevision.io.image import write_image
from peers import OURS, Call, Row

__all__ = ["ROWS"]

PEER = """
import sys
from ultralytics import YOLO
YOLO("yolo11n.yaml", task="detect").predict(sys.argv[1], device="cpu", verbose=False)
"""


def prepare(folder: Path) -> dict[str, Call]:
    """One JPEG by the command line, beside Ultralytics without the reading of weights."""
    image = folder / "image.jpg"
    write_image(image, Scenes(1, 0, (480, 640))[0].image)
    command = [sys.executable, "-m", "densevision", "detection", "predict", image, "--out", folder / "out", "--quiet"]
    return {
        f"{OURS} auto": lambda: subprocess.run(command, check=True, capture_output=True),
        "ultralytics float32": lambda: subprocess.run(
            [sys.executable, "-c", PEER, image], check=True, capture_output=True
        ),
    }


ROWS = {"cold_predict": Row("one JPEG by a new process", prepare, ("ultralytics",), 1.4)}
