"""Backbones keep what their channels and strides promise, and agree with timm."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from densevision.errors import UsageError
from densevision.nn.backbone import _FAMILIES, Backbone, ImageOnly, pyramid_models
from densevision.run_config import BackboneConfig

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


def built(name: str, shallowest: int | None = None, deepest: int | None = None, seed: int = 0, **fields) -> Backbone:
    torch.manual_seed(seed)
    options = {**STAGED, **PLAIN}.get(name, {})
    config = BackboneConfig.checked({"name": name, "options": options, **fields})
    return Backbone(config, shallowest=shallowest, deepest=deepest)


@pytest.fixture(scope="module", params=[*STAGED, *PLAIN])
def family(request) -> tuple[str, Backbone]:
    return request.param, built(request.param)


def test_levels__sizes_are_the_images_divided_and_rounded_up(family) -> None:
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


def test_vgg__shapes_alone() -> None:
    # Its classifier has a hundred million weights before it is cut off; on the meta device they cost nothing.
    with torch.device("meta"):
        backbone = built("vgg11")
        levels = backbone(torch.rand(2, 3, 97, 65))
    assert backbone.strides == [1, 2, 4, 8, 16, 32] and backbone.channels == [3, 128, 256, 512, 512, 512]
    assert [tuple(level.shape[-2:]) for level in levels] == [(97, 65), (49, 33), (25, 17), (13, 9), (7, 5), (4, 3)]
    gradients = torch.autograd.grad(levels[-1].sum(), list(backbone.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("name", STAGED)
def test_stages__equal_timms_features(name: str) -> None:
    backbone = built(name).eval()
    extra = {"strict_img_size": False} if "swin" in name else {}
    reference = timm.create_model(name, features_only=True, **STAGED[name], **extra).eval()
    weights = {key.replace(".", "_"): value for key, value in backbone.network.state_dict().items()}
    reference.load_state_dict({key: weights[key.replace(".", "_")] for key in reference.state_dict()})
    image = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(reference.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        wanted = reference((image - mean) / std)
        levels = backbone(image)[1:]
    assert backbone.channels[1:] == reference.feature_info.channels()
    assert backbone.strides[1:] == reference.feature_info.reduction()
    for level, features in zip(levels, wanted):
        features = features.permute(0, 3, 1, 2) if "swin" in name else features
        torch.testing.assert_close(level, features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_plain__pyramid_stands_on_timms_last_features(name: str) -> None:
    backbone = built(name).eval()
    torch.manual_seed(0)
    reference = timm.create_model(name, **PLAIN[name]).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        tokens = reference.forward_features((image - backbone.mean) / backbone.std)
        patches = tokens[:, reference.num_prefix_tokens :].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(backbone(image)[1:], backbone.pyramid(patches), rtol=1e-4, atol=1e-5)


def test_plain__strides_are_powers_of_two_for_patches_of_14() -> None:
    backbone = built("vit_small_patch14_dinov2")
    assert backbone.strides == [1, 4, 8, 16, 32]
    assert backbone.network.patch_embed.patch_size == (16, 16)


def test_levels__only_those_that_the_head_wants() -> None:
    whole, part = built("resnet18").eval(), built("resnet18", shallowest=8, deepest=16).eval()
    assert (part.strides, part.channels) == ([1, 8, 16], [3, 128, 256])
    assert sum(p.numel() for p in part.parameters()) < 0.3 * sum(p.numel() for p in whole.parameters())
    image = torch.rand(1, 3, 65, 40)
    torch.testing.assert_close(part(image)[1:], whole(image)[3:5])
    assert built("vit_tiny_patch16_224", shallowest=8).strides == [1, 8, 16, 32]
    with pytest.raises(UsageError, match=r"no level of stride 64.*2, 4, 8, 16, 32"):
        built("resnet18", shallowest=64, deepest=64)


def test_channels__any_number() -> None:
    gray, six = built("resnet18", channels=1), built("resnet18", channels=6)
    assert six.channels[0] == 6 and [level.shape[1] for level in six(torch.rand(2, 6, 33, 33))] == six.channels
    assert gray(torch.rand(1, 1, 64, 64))[1].shape == (1, 64, 32, 32)
    torch.testing.assert_close(six.mean.flatten(), torch.tensor([0.485, 0.456, 0.406] * 2))
    torch.testing.assert_close(gray.mean.flatten(), torch.tensor([(0.485 + 0.456 + 0.406) / 3]))
    with pytest.raises(UsageError, match="takes 3 channels"):
        built("resnet18")(torch.rand(1, 1, 64, 64))


def test_normalisation__given_or_timms_own() -> None:
    given = built("resnet18", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    assert given.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert given.std.flatten().tolist() == pytest.approx([0.2, 0.2, 0.1])
    assert built("vit_tiny_patch16_224").mean.flatten().tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(UsageError, match=r"backbone\.mean.*Give 3"):
        built("resnet18", mean=(0.5, 0.5))
    with pytest.raises(UsageError, match=r"backbone\.std: must be positive"):
        built("resnet18", std=(0.5, 0.0, 0.5))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_freeze__frozen_stages_never_change(name: str) -> None:
    backbone = built(name, freeze=2).train()
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


def test_freeze__more_stages_than_there_are() -> None:
    with pytest.raises(UsageError, match=r"backbone\.freeze.*got 6.*has 5 stages"):
        built("resnet18", freeze=6)


@pytest.mark.parametrize(("name", "stride"), [("resnet18", 8), ("mobilenetv2_050", 16), ("convnext_atto", 8)])
def test_output_stride__dilates(name: str, stride: int) -> None:
    backbone = built(name, output_stride=stride)
    assert max(backbone.strides) == stride and len(backbone.strides) == len(built(name).strides)
    assert backbone(torch.rand(2, 3, 50, 70))[-1].shape[-2:] == (math.ceil(50 / stride), math.ceil(70 / stride))


@pytest.mark.parametrize("name", ["vgg11", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_output_stride__families_that_cannot(name: str) -> None:
    with pytest.raises(UsageError, match=r"backbone\.output_stride.*cannot be dilated.*got 16"):
        built(name, output_stride=16)


def test_names__unknown_ones_get_help() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        built("resnet81")
    with pytest.raises(UsageError, match=r"Did you mean 'resnet18\.a"):
        built("resnet18.a9_in1k")
    with pytest.raises(UsageError, match="densevision models"):
        built("???")
    with pytest.raises(UsageError, match=r"backbone\.options\.padtype.*got 'same'"):
        built("mobilenetv2_050", options={"padtype": "same"})
    with pytest.raises(UsageError, match=r"backbone\.options\.in_chans.*Set backbone\.channels"):
        built("resnet18", options={"in_chans": 4})
    with pytest.raises(UsageError, match="timm cannot build it"):
        built("resnet18", options={"block_args": 3})


def test_names__networks_of_one_image_size_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be a pyramid for images of any size"):
        built("beit_base_patch16_224")


def test_pyramid_models__without_building(monkeypatch) -> None:
    monkeypatch.setattr(timm, "create_model", None)
    names = pyramid_models()
    assert {*STAGED, *PLAIN} <= set(names) <= set(timm.list_models())
    assert names == sorted(set(names)) and "beit_base_patch16_224" not in names


@pytest.mark.slow
@pytest.mark.parametrize("family", _FAMILIES)
def test_pyramid_models__first_and_last_of_each_family(family: str) -> None:
    names = timm.list_models(module=family, exclude_filters="bat_*")
    for name in {names[0], names[-1]}:
        with torch.device("meta"):
            assert Backbone(BackboneConfig(name=name)).channels


def test_seed__same_weights_and_the_rehearsal_draws_nothing() -> None:
    first, second = built("resnet18"), built("resnet18")
    torch.manual_seed(0)
    plain = timm.create_model("resnet18")
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]) and torch.equal(value, plain.state_dict()[key])


def test_channels_last__kept() -> None:
    backbone = built("mobilenetv2_050").to(memory_format=torch.channels_last)
    levels = backbone(torch.rand(2, 3, 64, 64).to(memory_format=torch.channels_last))
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in levels)


def test_image_only__passes_the_image_on() -> None:
    encoder, image = ImageOnly(), torch.rand(1, 3, 5, 7)
    assert (encoder.channels, encoder.strides, encoder.state_dict()) == ([3], [1], {})
    levels = encoder(image)
    assert len(levels) == 1 and levels[0] is image
    with pytest.raises(UsageError, match="takes 3 channels"):
        encoder(torch.rand(1, 4, 5, 7))
