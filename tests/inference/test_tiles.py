"""Real networks answer in tiles as they answer whole, where a tile sees what they look at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from densevision.inference.predictor import TorchModel
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks import load_config, load_task
from densevision.training.train import card_of

NETWORKS: dict[str, dict[str, Any]] = {
    "semantic": {"arch": "unet", "options": {"decoder_channels": [16, 16, 8]}, "classes": ["one", "two", "three"]},
    "depth": {"arch": "unet", "width": 8, "finest": 4, "output": "metric"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles__equal_the_whole_image(name: str) -> None:
    task = load_task(name)(load_config(name).resolve(None, {"backbone.name": "mobilenetv2_050", **NETWORKS[name]}))
    torch.manual_seed(0)
    net = task.net()
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (22, 128, 3), np.uint8)
    image = cv2.resize(small, (1280, 224), interpolation=cv2.INTER_CUBIC)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of this image: random weights alone would answer nearly a constant
    with torch.no_grad():
        net.train()(image=torch.from_numpy(image[:, :640]).movedim(-1, 0)[None].float() / 255)
    model = TorchModel(task, net.eval(), card_of(task.config, 0))
    asked = {"probabilities": True} if name == "semantic" else {}
    options = PredictOptions(precision="float32", **asked)
    whole = model.infer([Sample({"image": image})], options)[0]
    tiled = model.predict(image, precision="float32", tile=960, overlap=0.85, **asked)
    if name == "semantic":
        # Answers keep probabilities in half precision.
        assert whole.probabilities.astype(np.float32).std(axis=(1, 2)).max() > 0.02
        np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-3)
    else:
        assert whole.depth.std() > 0.02 * whole.depth.mean()
        np.testing.assert_allclose(tiled.depth, whole.depth, rtol=1e-3)
