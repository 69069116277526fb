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
MAX_DIFFERENCE = 1.0
"""Pixels by which the strongest box of an exported model may differ."""


def check_round_trip() -> Iterator[SystemFinding]:
    """Trains a tiny detector on synthetic scenes, predicts with it, exports it and predicts with the export."""
    from densevision import api

    start = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = api.train("detection", "scenes:8:0", overrides=SETTINGS, out=Path(folder) / "run", quiet=True)
        weights = run / "best.safetensors"
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        boxes = api.predict(image, "detection", weights, device="cpu", score_threshold=SCORE_THRESHOLD).boxes
        steps = "train, predict"
        if find_spec("onnx") and find_spec("onnxscript") and find_spec("onnxruntime"):
            exported = api.export("detection", weights, out=Path(folder) / "model.onnx")
            again = api.predict(image, "detection", exported, score_threshold=SCORE_THRESHOLD).boxes
            difference = float(np.abs(boxes[:1] - again[:1]).max(initial=0))
            steps = "train, predict, export, predict with ONNX Runtime"
            if len(boxes) == 0 or len(again) == 0 or difference > MAX_DIFFERENCE:
                message = f"the exported model's boxes differ by {difference:.1f} pixels"
                yield SystemFinding("round trip", "error", message, "Update onnx, onnxscript and onnxruntime.")
                return
    yield SystemFinding("round trip", "ok", f"{steps} in {time.monotonic() - start:.0f} s")
