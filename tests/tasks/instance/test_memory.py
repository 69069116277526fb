"""Hundreds of objects on a large image take the memory of a few of them."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import torch

from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.task import Instance

LARGE = (4000, 6000)
COUNT = 300


def blurred(rng: np.random.Generator, count: int) -> np.ndarray:
    """Masks (N, 28, 28) of a few blobs each."""
    noise = (cv2.GaussianBlur(rng.random((28, 28), np.float32), (0, 0), 3) for _ in range(count))
    return np.stack([(one - one.min()) / np.ptp(one) for one in noise])


def test_results__of_hundreds_on_a_large_image_stay_small():
    settings = {"classes": ["a"], "data.size": 800}
    task = Instance(InstanceConfig.resolve(None, settings))
    rng = np.random.default_rng(0)
    view = task.input_spec["image"].view(LARGE)
    corner = rng.random((COUNT, 2)) * (1000, 600)
    boxes = np.concatenate([corner, corner + 20 + rng.random((COUNT, 2)) * 150], 1)
    boxes[:2] = (0, 0, 1199, 799)  # the whole image
    answers = {
        "boxes": torch.tensor(boxes[None], dtype=torch.float32),
        "scores": torch.ones(1, COUNT),
        "labels": torch.zeros(1, COUNT, dtype=torch.long),
        "valid": torch.ones(1, COUNT, dtype=torch.bool),
        "masks": torch.tensor(blurred(rng, COUNT))[None],
    }
    tracemalloc.start()
    try:
        (found,) = task.to_results(answers, [view], task.evaluation_options())
        content = found.to_coco()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content) == COUNT and all(entry["segmentation"]["size"] == list(LARGE) for entry in content)
    assert found.areas[0] > 0.3 * LARGE[0] * LARGE[1]
    assert peak < 500 * 2**20, f"{peak / 2**20:.0f} MB"
