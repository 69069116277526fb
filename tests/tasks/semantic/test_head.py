"""Heads: every architecture on any pyramid, FCN's first weights, and one logit for two classes."""

from __future__ import annotations

import pytest
import torch

from densevision.errors import UsageError
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.models.fcn import ClassicFCN
from densevision.tasks.semantic.models.segmentation_head import SemanticHead
from densevision.tasks.semantic.models.smp_decoders import RECIPES

CLASSES = ("a", "b", "c")
SMALL = {
    "unet": {"decoder_channels": [16, 8, 8]},
    "unetplusplus": {"decoder_channels": [16, 16, 8, 8, 8]},
    "manet": {"decoder_channels": [16, 16, 8, 8, 8], "pab_channels": 8},
    "fpn": {"pyramid_channels": 16, "segmentation_channels": 32},
    "pspnet": {"out_channels": 16},
    "deeplabv3": {"out_channels": 16, "atrous_rates": [1, 2, 3]},
    "deeplabv3plus": {"out_channels": 16, "atrous_rates": [1, 2, 3]},
    "upernet": {"decoder_channels": 16},
    "segformer": {"segmentation_channels": 16},
    "dpt": {"fusion_channels": 16, "intermediate_channels": [8, 8, 8, 8]},
}


def levels(strides: list[int], size: int = 64) -> tuple[list[int], list[torch.Tensor]]:
    channels = [3, *(8 + 4 * index for index in range(len(strides) - 1))]
    return channels, [torch.randn(2, c, size // s, size // s) for c, s in zip(channels, strides)]


def config(arch: str, **settings) -> SemanticConfig:
    return SemanticConfig.checked({"arch": arch, "classes": CLASSES, **settings})


@pytest.mark.parametrize("arch", [*RECIPES, "fcn", "fcn8s", "fcn16s", "fcn32s"])
@pytest.mark.parametrize("first", [2, 4])
def test_head__logits_of_every_pixel(arch: str, first: int) -> None:
    deepest = 8 if arch in ("deeplabv3", "fcn") else 16 if arch in ("deeplabv3plus", "pan") else 32
    strides = [1, *(min(stride, deepest) for stride in (2, 4, 8, 16, 32) if stride >= first)]
    size = 128 if arch == "pan" else 64
    channels, features = levels(strides, size)
    if first == 4 and arch in ("unetplusplus", "linknet"):
        with pytest.raises(UsageError, match="stride 2"):
            SemanticHead(config(arch), channels, strides, 3)
        return
    head = SemanticHead(config(arch, options=SMALL.get(arch, {})), channels, strides, 3)
    found = head(features)
    assert set(found) == {"logits"} and found["logits"].shape == (2, 3, size, size)
    found["logits"].square().sum().backward()
    assert all(weight.grad is not None for weight in head.parameters())


def test_head__auxiliary_in_training_and_evaluation() -> None:
    channels, features = levels([1, 2, 4, 8, 8, 8])
    head = SemanticHead(config("fcn", loss={"auxiliary": 0.5}), channels, [1, 2, 4, 8, 8, 8], 3)
    for mode in (True, False):
        assert {name: tuple(x.shape) for name, x in head.train(mode)(features).items()} == {
            "logits": (2, 3, 64, 64),
            "auxiliary": (2, 3, 64, 64),
        }


def test_head__two_classes_by_one_logit() -> None:
    channels, features = levels([1, 2, 4, 8, 16, 32])
    two = SemanticConfig.checked({"arch": "fcn32s", "mode": "binary", "classes": ("no", "yes")})
    logits = SemanticHead(two, channels, [1, 2, 4, 8, 16, 32], 2).eval()(features)["logits"]
    assert (logits[:, 0] == 0).all()
    torch.testing.assert_close(logits.softmax(1)[:, 1], logits[:, 1].sigmoid())


def test_classic_fcn__starts_as_fcn32s() -> None:
    """Zero scores of shallow levels, bilinear kernels: it begins as a smooth enlargement of its deepest scores."""
    channels, features = levels([1, 2, 4, 8, 16, 32], 256)
    torch.manual_seed(0)
    fine = ClassicFCN(channels, [1, 2, 4, 8, 16, 32], 3, 8, width=16).eval()
    coarse = ClassicFCN(channels, [1, 2, 4, 8, 16, 32], 3, 32, width=16).eval()
    coarse.load_state_dict(fine.state_dict(), strict=False)
    inside = (..., slice(64, -64), slice(64, -64))
    one, other = fine(features)[inside], coarse(features)[inside]
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("unet", {"decoder_chanels": [1]}, "Did you mean 'decoder_channels'"),
        ("fcn8s", {"depth": 3}, "Known: width, dropout"),
        ("fcn", {"width": 3}, "no options"),
    ],
)
def test_options__unknown_ones_are_refused(arch: str, options: dict, message: str) -> None:
    channels, strides = [3, 8, 8, 8, 8, 8], [1, 2, 4, 8, 16, 32]
    with pytest.raises(UsageError, match=message):
        SemanticHead(config(arch, options=options), channels, strides, 3)
