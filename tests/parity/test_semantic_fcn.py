"""torchvision's published segmentation networks, converted, give torchvision's logits and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import WeightsError
from densevision.inference.predictor import load_torch
from densevision.tasks.semantic.weights import PUBLISHED, convert

pytestmark = pytest.mark.parity

TORCHVISION = {weights.name: weights for weights in PUBLISHED if weights.name.startswith("torchvision/")}
SLOW = ("torchvision/fcn_resnet101", "torchvision/deeplabv3_resnet101")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        pytest.param(name, 5 if "101" in name else 21, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in TORCHVISION
    ],
)
def test_convert__gives_torchvisions_logits(name: str, classes: int, tmp_path: Path) -> None:
    from torchvision.models import segmentation

    torch.manual_seed(0)
    options = {} if "lraspp" in name else {"aux_loss": True}
    build = getattr(segmentation, name.removeprefix("torchvision/"))
    reference = build(weights=None, weights_backbone=None, num_classes=classes, **options).eval()
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "torchvision.pth")
    convert(TORCHVISION[name], tmp_path / "torchvision.pth", tmp_path / "out.safetensors")
    model = load_torch(tmp_path / "out.safetensors", "semantic")

    # In double precision: over fifty layers the rounding of single precision adds up to 2e-4 of logits beyond 100.
    network = model.model.double()
    reference.double()
    image = np.random.default_rng(0).integers(0, 256, (75, 101, 3), np.uint8)
    x = torch.from_numpy(image).movedim(-1, 0)[None].double() / 255
    mean, std = (network.encoder.get_buffer(buffer) for buffer in ("mean", "std"))
    with torch.inference_mode():
        expected, outputs = reference((x - mean) / std), network(image=x)
    torch.testing.assert_close(outputs["logits"], expected["out"], rtol=1e-9, atol=1e-9)
    if options:
        torch.testing.assert_close(outputs["auxiliary"], expected["aux"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mean.flatten(), torch.tensor([0.485, 0.456, 0.406]).double(), rtol=0, atol=1e-7)
    network.float()
    labels = model.predict(image, precision="float32").labels
    assert (labels == expected["out"].argmax(1)[0].numpy()).mean() > 0.999


@pytest.mark.parametrize("weights", PUBLISHED, ids=lambda weights: weights.name)
def test_convert__refuses_other_files(weights, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not hold"):
        convert(weights, tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
