"""torchvision's FCN, converted, gives torchvision's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import WeightsError
from densevision.inference.predictor import load_torch
from densevision.tasks.semantic.weights import PUBLISHED, convert

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("weights", "classes"),
    [(PUBLISHED[0], 21), pytest.param(PUBLISHED[1], 5, marks=pytest.mark.slow)],
    ids=lambda value: getattr(value, "name", value),
)
def test_convert__gives_torchvisions_logits(weights, classes: int, tmp_path: Path) -> None:
    from torchvision.models import segmentation

    torch.manual_seed(0)
    build = getattr(segmentation, weights.name.removeprefix("torchvision/"))
    theirs = build(weights=None, weights_backbone=None, aux_loss=True, num_classes=classes).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: no statistic is what it starts as
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    convert(weights, tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    model = load_torch(tmp_path / "ours.safetensors", "semantic")

    # In double precision: over fifty layers the rounding of single precision adds up to 2e-4 of logits beyond 100.
    theirs, net = theirs.double(), model.net.double()
    image = np.random.default_rng(0).integers(0, 256, (75, 101, 3), np.uint8)
    x = torch.from_numpy(image).movedim(-1, 0)[None].double() / 255
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        wanted, found = theirs((x - mean) / std), net(image=x)
    torch.testing.assert_close(found["logits"], wanted["out"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["auxiliary"], wanted["aux"], rtol=1e-9, atol=1e-9)
    net.float()
    labels = model.predict(image, precision="float32").labels
    assert (labels == wanted["out"].argmax(1)[0].numpy()).mean() > 0.9999


def test_convert__refuses_other_files(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not a state dict"):
        convert(PUBLISHED[0], tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
