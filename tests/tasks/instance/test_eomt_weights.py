"""Published EoMT for instances: a file in transformers' layout becomes weights that predict the same masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import densevision
from densevision.io.weights import load_card
from densevision.published_weights import convert_weights

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def test_convert__large_network_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.EomtConfig(image_size=640, patch_size=16, num_blocks=4, num_queries=200, num_labels=80)
    reference = transformers.EomtForUniversalSegmentation(config).eval()
    reference.attn_mask_probs.fill_(0.0)
    name = "tue-mps/coco_instance_eomt_large_640"
    torch.save(reference.state_dict(), tmp_path / "published.bin")
    convert_weights(name, tmp_path / "published.bin", tmp_path / "ours.safetensors")
    card = load_card(tmp_path / "ours.safetensors")
    assert card.classes is not None and len(card.classes) == 80 and card.config["category_ids"][-1] == 90
    predictor = densevision.load(tmp_path / "ours.safetensors")
    count = sum(parameter.numel() for parameter in predictor.model.parameters()) / 1e6
    assert densevision.list_weights("instance")[name].parameters == pytest.approx(count, abs=0.5)
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 640, 640), np.float32))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        outputs = predictor.model(image=image)
        expected = reference((image - mean) / std)
    torch.testing.assert_close(outputs["class_logits"], expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs["mask_logits"], expected.masks_queries_logits, atol=1e-3, rtol=1e-3)
