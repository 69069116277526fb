"""Backbones have the channels and strides that they state, and agree with timm."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from densevision.errors import UsageError
from densevision.nn.backbone import _FAMILIES, Backbone, list_pyramid_models

STAGED = {
    "resnet18": {},
    "mobilenetv2_050": {"pad_type": "same"},
    "mobilenetv3_small_050": {},
    "mobilenetv4_conv_small_050": {},
    "efficientnet_lite0": {},
    "convnext_atto": {},
    "regnetx_002": {},
    "cs3darknet_focus_s": {},
    "hrnet_w18_small": {},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 2, 1)},
}
PLAIN = {
    "vit_tiny_patch16_224": {"depth": 4, "img_size": 64},
    "deit_tiny_distilled_patch16_224": {"depth": 2, "img_size": 64},
    "vit_small_patch14_dinov2": {"depth": 2, "img_size": 64},
    "vit_small_patch16_dinov3": {"depth": 2},
    "eva02_tiny_patch14_224": {"depth": 2, "img_size": 64},
}


def build(name: str, shallowest: int | None = None, deepest: int | None = None, seed: int = 0, **fields) -> Backbone:
    torch.manual_seed(seed)
    options = fields.pop("options", {**STAGED, **PLAIN}.get(name, {}))
    in_channels = fields.pop("channels", 3)
    return Backbone(name, in_channels, shallowest=shallowest, deepest=deepest, options=options, **fields)


@pytest.fixture(scope="module", params=[*STAGED, *PLAIN])
def family(request) -> tuple[str, Backbone]:
    return request.param, build(request.param)


def test_levels__have_the_size_of_the_image_divided_by_the_stride(family) -> None:
    _, backbone = family
    backbone.eval()
    assert backbone.strides == sorted(backbone.strides) and backbone.strides[0] == 1
    for height, width in ((64, 96), (97, 65), (1, 1), (31, 130)):
        image = torch.rand(1, 3, height, width)
        with torch.no_grad():
            levels = backbone(image)
        assert levels[0] is image
        sizes = [
            (1, c, math.ceil(height / s), math.ceil(width / s)) for c, s in zip(backbone.channels, backbone.strides)
        ]
        assert [tuple(level.shape) for level in levels] == sizes


def test_gradient__reaches_every_parameter(family) -> None:
    _, backbone = family
    backbone.train().zero_grad()
    sum(level.square().mean() for level in backbone(torch.rand(2, 3, 64, 96))[1:]).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_vgg__shapes_on_the_meta_device() -> None:
    # The removed classifier has a hundred million weights; on the meta device they cost nothing.
    with torch.device("meta"):
        backbone = build("vgg11")
        levels = backbone(torch.rand(2, 3, 97, 65))
    assert backbone.strides == [1, 2, 4, 8, 16, 32] and backbone.channels == [3, 128, 256, 512, 512, 512]
    assert [tuple(level.shape[-2:]) for level in levels] == [(97, 65), (49, 33), (25, 17), (13, 9), (7, 5), (4, 3)]
    gradients = torch.autograd.grad(levels[-1].sum(), list(backbone.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("name", STAGED)
def test_stages__equal_timms_features(name: str) -> None:
    backbone = build(name).eval()
    extra = {"strict_img_size": False} if "swin" in name else {}
    reference = timm.create_model(name, features_only=True, **STAGED[name], **extra).eval()
    weights = {key.replace(".", "_"): value for key, value in backbone.network.state_dict().items()}
    reference.load_state_dict({key: weights[key.replace(".", "_")] for key in reference.state_dict()})
    image = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = reference((image - mean) / std)
        levels = backbone(image)[1:]
    assert backbone.channels[1:] == reference.feature_info.channels()
    assert backbone.strides[1:] == reference.feature_info.reduction()
    for level, features in zip(levels, expected):
        features = features.permute(0, 3, 1, 2) if "swin" in name else features
        torch.testing.assert_close(level, features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_plain__pyramid_uses_timms_last_features(name: str) -> None:
    backbone = build(name).eval()
    torch.manual_seed(0)
    reference = timm.create_model(name, **PLAIN[name]).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        tokens = reference.forward_features((image - backbone.mean) / backbone.std)
        patches = tokens[:, reference.num_prefix_tokens :].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(backbone(image)[1:], backbone.pyramid(patches), rtol=1e-4, atol=1e-5)


def test_plain__strides_are_powers_of_two_for_patches_of_14() -> None:
    backbone = build("vit_small_patch14_dinov2")
    assert backbone.strides == [1, 4, 8, 16, 32]
    assert backbone.network.patch_embed.patch_size == (16, 16)


def test_levels__limited_to_those_that_the_head_uses() -> None:
    whole, part = build("resnet18").eval(), build("resnet18", shallowest=8, deepest=16).eval()
    assert (part.strides, part.channels) == ([1, 8, 16], [3, 128, 256])
    assert sum(p.numel() for p in part.parameters()) < 0.3 * sum(p.numel() for p in whole.parameters())
    image = torch.rand(1, 3, 65, 40)
    torch.testing.assert_close(part(image)[1:], whole(image)[3:5])
    assert build("vit_tiny_patch16_224", shallowest=8).strides == [1, 8, 16, 32]
    with pytest.raises(UsageError, match="no level"):
        build("resnet18", shallowest=64, deepest=64)


def test_in_channels__any_number() -> None:
    gray, six = build("resnet18", channels=1), build("resnet18", channels=6)
    assert six.channels[0] == 6 and [level.shape[1] for level in six(torch.rand(2, 6, 33, 33))] == six.channels
    assert gray(torch.rand(1, 1, 64, 64))[1].shape == (1, 64, 32, 32)
    torch.testing.assert_close(six.mean.flatten(), torch.tensor([0.485, 0.456, 0.406] * 2))
    torch.testing.assert_close(gray.mean.flatten(), torch.tensor([(0.485 + 0.456 + 0.406) / 3]))
    with pytest.raises(UsageError, match="3 channels"):
        build("resnet18")(torch.rand(1, 1, 64, 64))


def test_normalization__given_or_timms_own() -> None:
    given = build("resnet18", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    assert given.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert given.std.flatten().tolist() == pytest.approx([0.2, 0.2, 0.1])
    assert build("vit_tiny_patch16_224").mean.flatten().tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(UsageError, match=r"backbone\.mean"):
        build("resnet18", mean=(0.5, 0.5))
    with pytest.raises(UsageError, match=r"backbone\.std"):
        build("resnet18", std=(0.5, 0.0, 0.5))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_freeze__frozen_stages_never_change(name: str) -> None:
    backbone = build(name, freeze=2).train()
    frozen = {
        "resnet18": ("conv1.", "bn1.", "layer1."),
        "vit_tiny_patch16_224": ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1."),
    }[name]
    for key, parameter in backbone.network.named_parameters():
        assert parameter.requires_grad != key.startswith(frozen)
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    sum(level.square().sum() for level in backbone(torch.rand(2, 3, 64, 64))[1:]).backward()
    torch.optim.SGD([parameter for parameter in backbone.parameters() if parameter.requires_grad], 0.1).step()
    changed = {key for key, value in backbone.network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and not any(key.startswith(frozen) for key in changed)
    statistics = {key for key in before if "running" in key and not key.startswith(frozen)}
    assert statistics <= changed


def test_freeze__too_many_stages() -> None:
    with pytest.raises(UsageError, match=r"backbone\.freeze"):
        build("resnet18", freeze=6)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("mobilenetv2_050", 16), ("convnext_atto", 8)])
def test_output_stride__dilates(name: str, stride: int) -> None:
    backbone = build(name, output_stride=stride)
    assert max(backbone.strides) == stride and len(backbone.strides) == len(build(name).strides)
    assert backbone(torch.rand(2, 3, 50, 70))[-1].shape[-2:] == (math.ceil(50 / stride), math.ceil(70 / stride))


@pytest.mark.parametrize("name", ["vgg11", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_output_stride__unsupported_families(name: str) -> None:
    with pytest.raises(UsageError, match=r"backbone\.output_stride"):
        build(name, output_stride=16)


@pytest.mark.parametrize(
    ("name", "options", "field", "hint"),
    [
        ("resnet81", {}, "backbone.name", "resnet18"),
        ("resnet18.a9_in1k", {}, "backbone.name", "resnet18.a"),
        ("???", {}, "backbone.name", "densevision models"),
        ("mobilenetv2_050", {"padtype": "same"}, "backbone.options.padtype", "pad_type"),
        ("resnet18", {"in_chans": 4}, "backbone.options.in_chans", "backbone.channels"),
        ("resnet18", {"block_args": 3}, "backbone.options.block_args", ""),
        ("resnet18", {"window_size": 3}, "backbone.options.window_size", ""),
    ],
)
def test_names_and_options__unknown_ones_are_refused(name: str, options: dict, field: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        build(name, options=options)
    assert raised.value.field == field and hint in (raised.value.hint or "")


def test_fixed_image_size__is_refused() -> None:
    with pytest.raises(UsageError, match=r"backbone\.name"):
        build("beit_base_patch16_224")


def test_pyramid_models__without_building(monkeypatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    names = list_pyramid_models()
    assert {*STAGED, *PLAIN} <= set(names) <= set(timm.list_models())
    assert names == sorted(set(names)) and "beit_base_patch16_224" not in names


@pytest.mark.slow
@pytest.mark.parametrize("family", _FAMILIES)
def test_pyramid_models__first_and_last_of_each_family(family: str) -> None:
    names = timm.list_models(module=family, exclude_filters="bat_*")
    for name in {names[0], names[-1]}:
        with torch.device("meta"):
            assert Backbone(name).channels


def test_seed__introspection_draws_no_random_numbers() -> None:
    first, second = build("resnet18"), build("resnet18")
    torch.manual_seed(0)
    plain = timm.create_model("resnet18")
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]) and torch.equal(value, plain.state_dict()[key])


def test_channels_last__is_kept() -> None:
    backbone = build("mobilenetv2_050").to(memory_format=torch.channels_last)
    levels = backbone(torch.rand(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in levels)
