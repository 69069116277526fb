"""How fast a model predicts, and with how much memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from densevision.engine.device import pick_device, pick_precision
from densevision.engine.memory import peak_megabytes
from densevision.engine.model import Model
from densevision.engine.predict import predict

WARM_UP = 3


def measure(model: Model, count: int, size: int, **options: Any) -> dict[str, Any]:
    """Times predictions on noise pictures, one after another, preparation and decoding included.

    Args:
        model: What answers.
        count: Pictures that are timed.
        size: Side of the square pictures.
        **options: Fields of `PredictOptions`.
    """
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, size, size, 3), np.uint8)
    names = [name for name, spec in model.task.inputs.items() if spec.kind == "image"]

    def source(number: int) -> Any:
        picked = tuple(pictures[(number + shift) % len(pictures)] for shift in range(len(names)))
        return picked if len(names) > 1 else picked[0]

    for number in range(WARM_UP):
        predict(model, source(number), **options)
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        predict(model, source(number), **options)
        seconds.append(time.perf_counter() - start)
    device = pick_device(options.get("device", "auto"))
    return {
        "task": model.task.name,
        "images_per_second": round(count / sum(seconds), 3),
        "median_ms": round(1000 * float(np.median(seconds)), 2),
        "peak_memory_mb": round(peak_megabytes(device), 1),
        "size": size,
        "device": str(device),
        "precision": pick_precision(options.get("precision", "auto"), device),
    }
