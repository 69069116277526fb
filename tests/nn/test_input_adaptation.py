"""Weights of another number of channels or another image size."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from densevision.nn.input_adaptation import adapt_to_input


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_adapt_to_input__channels_as_timm_adapts_them(channels, tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("resnet10t", num_classes=0)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    overlay = {"file": str(tmp_path / "a.pth"), "num_classes": 0}
    timms = timm.create_model(
        "resnet10t", num_classes=0, in_chans=channels, pretrained=True, pretrained_cfg_overlay=overlay
    )
    model = timm.create_model("resnet10t", num_classes=0, in_chans=channels)
    adapted, changed = adapt_to_input(model, source.state_dict(), 3, channels)
    assert changed == ["conv1.0.weight"]
    model.load_state_dict(adapted)
    for name, tensor in timms.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_adapt_to_input__equal_channels_sum_to_the_same_features():
    """A gray image as one channel gives what it gave as three equal channels."""
    torch.manual_seed(0)
    source, model = nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(nn.Conv2d(1, 8, 3))
    adapted, _ = adapt_to_input(model, source.state_dict(), 3, 1)
    model.load_state_dict(adapted)
    gray = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(model(gray), source(gray.expand(-1, 3, -1, -1)))


def test_adapt_to_input__pixels_moved_to_channels():
    torch.manual_seed(0)
    source, model = nn.Sequential(nn.Conv2d(12, 8, 3)), nn.Sequential(nn.Conv2d(16, 8, 3))
    adapted, changed = adapt_to_input(model, source.state_dict(), 3, 4)
    cells = source[0].weight.unflatten(1, (4, 3))
    assert changed == ["0.weight"]
    torch.testing.assert_close(adapted["0.weight"].unflatten(1, (4, 4)), cells[:, :, [0, 1, 2, 0]] * 0.75)


def test_adapt_to_input__positions_as_timm_resamples_them():
    torch.manual_seed(0)
    options = {"num_classes": 0, "embed_dim": 48, "depth": 1, "num_heads": 3}
    source = timm.create_model("vit_tiny_patch16_224", img_size=64, **options)
    model = timm.create_model("vit_tiny_patch16_224", img_size=(96, 128), **options)
    expected = timm.models.vision_transformer.checkpoint_filter_fn(source.state_dict(), model)["pos_embed"]
    adapted, changed = adapt_to_input(nn.ModuleDict({"encoder": model}), _prefix(source.state_dict()), 3, 3)
    assert changed == ["encoder.pos_embed"]
    torch.testing.assert_close(adapted["encoder.pos_embed"], expected)


def test_adapt_to_input__other_shapes_are_left():
    source, model = nn.Linear(3, 4), nn.Linear(5, 4)
    adapted, changed = adapt_to_input(model, source.state_dict(), 3, 5)
    assert not changed and torch.equal(adapted["weight"], source.weight)


def _prefix(tensors):
    return {f"encoder.{name}": tensor for name, tensor in tensors.items()}
