"""A tiny loop through the whole product: train, predict, export, predict again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_round_trip"]

SETTINGS = {
    "arch": "yolo_n",
    "backbone.name": "mobilenetv2_050",
    "backbone.pretrained": False,
    "data.size": 64,
    "train.epochs": 1,
    "train.batch": 4,
    "train.device": "cpu",
}
SCORE_THRESHOLD = 0.001
"""The threshold that exports are made with; a detector after one epoch finds nothing above a higher one."""
COMPARED_BOXES = 10
MAX_DIFFERENCE = 0.01
"""Difference of the strongest scores of the exported model. Boxes of equal scores may come in another order."""


def check_round_trip() -> Iterator[SystemFinding]:
    """Trains a tiny detector on synthetic scenes, predicts with it, exports it and predicts with the export."""
    from densevision import api

    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = api.train("detection", "scenes:8:0", overrides=SETTINGS, out=Path(folder) / "run", quiet=True)
        weights = run / "best.safetensors"
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        result = api.predict(
            image, "detection", weights, device="cpu", precision="float32", score_threshold=SCORE_THRESHOLD
        )
        steps = "train, predict"
        if find_spec("onnx") and find_spec("onnxscript") and find_spec("onnxruntime"):
            exported = api.export("detection", weights, out=Path(folder) / "model.onnx")
            again = api.predict(image, "detection", exported, score_threshold=SCORE_THRESHOLD)
            scores = [each.scores[:COMPARED_BOXES] for each in (result, again)]
            is_same = len(scores[0]) == len(scores[1]) > 0 and np.abs(scores[0] - scores[1]).max() < MAX_DIFFERENCE
            steps = "train, predict, export, predict with ONNX Runtime"
            if not is_same:
                message = f"the exported model's scores are {scores[1].round(3)}, not {scores[0].round(3)}"
                yield SystemFinding("round trip", "error", message, "Update onnx, onnxscript and onnxruntime.")
                return
    yield SystemFinding("round trip", "ok", f"{steps} in {time.monotonic() - start:.0f} s")
