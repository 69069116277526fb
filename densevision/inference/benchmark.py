"""How fast a model predicts, and with how much memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from densevision.inference.device import pick_device, pick_precision
from densevision.inference.memory import peak_megabytes
from densevision.inference.predict import predict
from densevision.inference.predictor import Model

WARM_UP = 3


def measure(model: Model, count: int, size: int, **options: Any) -> dict[str, Any]:
    """Times predictions on noise images, one after another, preparation and decoding included.

    Args:
        model: What answers.
        count: Images that are timed.
        size: Side of the square images.
        **options: Fields of `PredictOptions`.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, size, size, 3), np.uint8)
    names = [name for name, spec in model.task.inputs.items() if spec.kind == "image"]

    def source(number: int) -> Any:
        picked = tuple(images[(number + shift) % len(images)] for shift in range(len(names)))
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
