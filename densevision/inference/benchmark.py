"""Speed and memory of prediction."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from densevision.inference.device import pick_device, pick_precision
from densevision.inference.memory import measure_peak_megabytes
from densevision.inference.predict import predict
from densevision.inference.predictor import Predictor

__all__ = ["measure_speed"]

WARMUP_RUNS = 3


def measure_speed(predictor: Predictor, count: int, size: int, **options: Any) -> dict[str, Any]:
    """Times predictions on noise images one by one, with preprocessing and decoding.

    Args:
        predictor: The model.
        count: Number of timed images.
        size: Side of the square images in pixels.
        **options: Fields of `PredictOptions`.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, size, size, 3), np.uint8)
    input_count = sum(spec.kind == "image" for spec in predictor.task.input_spec.values())

    def make_source(number: int) -> Any:
        source = tuple(images[(number + shift) % len(images)] for shift in range(input_count))
        return source if input_count > 1 else source[0]

    for number in range(WARMUP_RUNS):
        predict(predictor, make_source(number), **options)
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        predict(predictor, make_source(number), **options)
        seconds.append(time.perf_counter() - start)
    device = pick_device(options.get("device") or "auto")
    return {
        "task": predictor.task.name,
        "images_per_second": round(count / sum(seconds), 3),
        "median_ms": round(1000 * float(np.median(seconds)), 2),
        "peak_memory_mb": round(measure_peak_megabytes(device), 1),
        "size": size,
        "device": str(device),
        "precision": pick_precision(options.get("precision") or "auto", device),
    }
