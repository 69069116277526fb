"""Dense models predict in tiles what they predict for the whole image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from densevision.inference.predictor import TorchPredictor
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card

NETWORKS: dict[str, dict[str, Any]] = {
    "semantic": {
        "arch": "unet",
        "model.decoder_options": {"decoder_channels": [16, 16, 8]},
        "classes": ["one", "two", "three"],
    },
    "depth": {"arch": "depth_unet", "model.width": 8, "model.finest_stride": 4, "output": "metric"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles__equal_the_whole_image(name: str) -> None:
    settings = {"backbone.name": "test_resnet", **NETWORKS[name]}
    task = load_task(name)(load_config(name).resolve(None, settings))
    torch.manual_seed(0)
    model = task.build_model()
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (22, 128, 3), np.uint8), (1280, 224), interpolation=cv2.INTER_CUBIC)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of this image: with random ones the output would be nearly constant
    with torch.no_grad():
        model.train()(image=torch.from_numpy(image[:, :640]).movedim(-1, 0)[None].float() / 255)
    predictor = TorchPredictor(task, model.eval(), make_card(task.config, 0))
    extra = {"probabilities": True} if name == "semantic" else {}
    (whole,) = predictor.predict_batch([Sample({"image": image})], PredictOptions(precision="float32", **extra))
    tiled = predictor.predict(image, precision="float32", tile=960, overlap=0.85, **extra)
    if name == "semantic":  # probabilities are kept in half precision
        assert whole.probabilities.astype(np.float32).std(axis=(1, 2)).max() > 0.02
        np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-3)
    else:
        assert whole.depth.std() > 0.02 * whole.depth.mean()
        np.testing.assert_allclose(tiled.depth, whole.depth, rtol=1e-3)
