"""The architectures by name: outputs on any encoder, gradients, modes, auxiliary heads and refused options."""

from __future__ import annotations

import pytest
import torch
from small_models import DECODERS as SMALL_DECODERS

from densevision.errors import UsageError
from densevision.nn.model import Model
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.models import MODELS
from densevision.tasks.semantic.models.fcn import ClassicFCN
from densevision.tasks.semantic.models.smp_decoders import DECODERS
from densevision.tasks.semantic.task import Semantic

SMALL = {**SMALL_DECODERS, "unet": {"decoder_channels": [16, 8, 8]}}
STAGES_OF_4 = "test_convnext"
"""An encoder whose first level has stride 4."""


def build(name: str, encoder: str = "test_resnet", **options) -> Model:
    torch.manual_seed(0)
    small = {"decoder_options": SMALL[name]} if name in SMALL else {"width": 16} if name[-1] == "s" else {}
    return MODELS[name].build({"num_classes": 3, "encoder": encoder}, {**small, **options})


@pytest.mark.parametrize("name", [*DECODERS, "fcn", "fcn8s", "fcn16s", "fcn32s"])
def test_forward_and_backward__on_an_encoder_of_stride_2(name: str) -> None:
    model = build(name).train()
    size = model.input_spec["image"].view((33, 64)).size
    outputs = model(image=torch.rand(2, 3, *size))
    assert set(outputs) == {"logits"} and outputs["logits"].shape == (2, 3, *size)
    losses = model.loss(outputs, {"labels": torch.randint(0, 3, (2, *size))})
    sum(losses.values()).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert list(losses) == ["cross_entropy"] and not without


@pytest.mark.parametrize("name", DECODERS)
def test_forward__on_an_encoder_that_begins_with_stride_4(name: str) -> None:
    if DECODERS[name].needs_stride_2:
        with pytest.raises(UsageError, match="stride 2"):
            build(name, STAGES_OF_4)
        return
    model = build(name, STAGES_OF_4).eval()
    size = model.input_spec["image"].view((64, 64)).size
    assert model(image=torch.rand(1, 3, *size))["logits"].shape == (1, 3, *size)


@pytest.mark.parametrize("name", ["fcn", "fcn16s", "unet", "deeplabv3_torchvision"])
def test_auxiliary__in_training_and_evaluation(name: str) -> None:
    model = build(name, auxiliary=True)
    for mode in (True, False):
        outputs = model.train(mode)(image=torch.rand(2, 3, 64, 64))
        shapes = {output: tuple(logits.shape) for output, logits in outputs.items()}
        assert shapes == {"logits": (2, 3, 64, 64), "auxiliary": (2, 3, 64, 64)}


@pytest.mark.parametrize("name", ["fcn32s", "unet", "lraspp"])
def test_binary__is_one_logit(name: str) -> None:
    encoder = "mobilenetv3_large_100" if name == "lraspp" else "test_resnet"
    model = build(name, encoder, num_classes=2, mode="binary").eval()
    logits = model(image=torch.rand(1, 3, 64, 64))["logits"]
    assert logits.shape == (1, 2, 64, 64) and (logits[:, 0] == 0).all()
    torch.testing.assert_close(model.postprocess({"logits": logits})["probabilities"][:, 1], logits[:, 1].sigmoid())
    with pytest.raises(UsageError, match="binary"):
        build(name, encoder, num_classes=3, mode="binary")


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_ideal_outputs__are_decoded_to_the_targets(mode: str) -> None:
    model = build("fcn32s", num_classes=2, mode=mode)
    if mode == "multilabel":
        labels = torch.tensor([[[0, 1, 2, 3, 65535]]], dtype=torch.int32)
        expected = torch.tensor([[0.0, 1, 0, 1, 0.5, 0.5], [0, 0, 1, 1, 0.5, 0.5]])
    else:
        labels = torch.tensor([[[0, 1, 1, 0, 255]]])
        expected = torch.tensor([[1.0, 0, 0, 1, 0.5, 0.5], [0, 1, 1, 0, 0.5, 0.5]])
    outputs = model.ideal_outputs({"labels": labels}, (1, 6))
    torch.testing.assert_close(model.postprocess(outputs)["probabilities"][0, :, 0], expected)


def test_classic_fcn__starts_as_fcn32s() -> None:
    """Zero scores of shallow levels and bilinear kernels: FCN-8s starts as an upsampled FCN-32s."""
    torch.manual_seed(0)
    fine, coarse = (ClassicFCN(stride, 3, "resnet18", width=16).eval() for stride in (8, 32))
    coarse.load_state_dict(fine.state_dict(), strict=False)
    image = torch.rand(2, 3, 256, 256)
    inside = (..., slice(64, -64), slice(64, -64))
    with torch.no_grad():
        logits, expected = fine(image)["logits"][inside], coarse(image)["logits"][inside]
    assert torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1] > 0.99


def test_model__trains_without_a_config() -> None:
    torch.manual_seed(0)
    model = MODELS["unet"].build({}, {"num_classes": 2, "encoder": "mobilenetv2_050", "decoder_options": SMALL["unet"]})
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, :, 32:], labels[1, 32:] = 1, 1
    image = 0.2 + 0.6 * labels[:, None].expand(-1, 3, -1, -1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    history = []
    for _ in range(15):
        loss = sum(model.compute_losses({"image": image}, {"labels": labels}).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("unet", {"decoder_options": {"decoder_chanels": [1]}}, "decoder_chanels"),
        ("unet", {"decoder_options": {"encoder_channels": [1]}}, "encoder_channels"),
        ("unet", {"decoder_options": {"decoder_channels": {"a": 1}}}, "decoder_channels"),
        ("fcn8s", {"depth": 3}, r"model\.depth"),
        ("fcn", {"width": 3}, r"model\.width"),
        ("smp", {"encoder": "tu-hf-hub:someone/model"}, r"backbone\.name"),
        ("smp", {"encoder": "resnet43"}, r"backbone\.name"),
        ("smp", {"architecture": "unett"}, r"model\.architecture"),
        ("smp", {"decoder_options": {"encoder_weights": "imagenet"}}, "encoder_weights"),
    ],
)
def test_options__unknown_or_dangerous_ones_are_refused(name: str, options: dict, field: str) -> None:
    with pytest.raises(UsageError, match=field):
        MODELS[name].build({"num_classes": 3}, options)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"arch": "lraspp", "loss.auxiliary": 0.5}, r"loss\.auxiliary"),
        ({"arch": "eomt_small", "mode": "multilabel"}, "mode"),
        ({"arch": "eomt_small", "loss.dice": 1.0}, "loss"),
        ({"arch": "pspnet", "train.batch": 1}, r"train\.batch"),
        ({"arch": "fcn", "model.decoder_options": {"dropout": 0.5}}, r"model\.decoder_options"),
        ({"arch": "resnet"}, "arch"),
    ],
)
def test_config__options_without_effect_are_refused(settings: dict, field: str) -> None:
    with pytest.raises(UsageError, match=field):
        Semantic(SemanticConfig.resolve(None, {"classes": ("a", "b"), **settings})).build_model()


def test_config__sets_classes_mode_losses_and_encoder() -> None:
    config = SemanticConfig.from_dict(
        {
            "arch": "unet",
            "model": {"decoder_options": SMALL["unet"]},
            "classes": ("a", "b", "c"),
            "mode": "multilabel",
            "loss": {"dice": 0.5, "auxiliary": 0.3},
            "backbone": {"name": "mobilenetv2_050", "channels": 4},
        }
    )
    model = Semantic(config).build_model()
    outputs = model(image=torch.rand(2, 4, 32, 32))
    assert outputs["logits"].shape == (2, 3, 32, 32) and model.mode == "multilabel"
    losses = model.loss(outputs, {"labels": torch.randint(0, 8, (2, 32, 32), dtype=torch.int32)})
    assert set(losses) == {"cross_entropy", "dice", "auxiliary_cross_entropy", "auxiliary_dice"}


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("deeplabv3_torchvision", {"head_channels": 10**9}),
        ("fcn8s", {"width": 10**9}),
        ("eomt_small", {"num_queries": 10**9}),
        ("unet", {"num_classes": 10**9}),
        ("unet", {"decoder_options": {"decoder_channels": [10**9]}}),
    ],
)
def test_sizes__beyond_memory_are_refused(arch: str, options: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Semantic(SemanticConfig.from_dict({"arch": arch, "classes": ("a", "b"), "model": options})).build_model()
