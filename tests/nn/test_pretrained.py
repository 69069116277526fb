"""Weights of backbones from a file and from timm, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from densevision.errors import WeightsError
from densevision.nn.backbone import Backbone

SWIN = {"embed_dim": 24, "depths": (1, 1, 2, 1)}


def build(name: str, file: Path | str | bool, **fields) -> Backbone:
    pretrained = file if isinstance(file, bool) else str(file)
    return Backbone(name, pretrained=pretrained, **fields).eval()


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    """A whole resnet18 with another classifier and statistics that show whether they were loaded."""
    torch.manual_seed(1)
    tensors = timm.create_model("resnet18", num_classes=7).state_dict()
    tensors["layer4.1.bn2.running_mean"] += 0.5
    file = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(tensors, file)
    return file


def test_file__every_key_is_loaded(resnet: Path, tmp_path: Path) -> None:
    tensors = load_file(resnet)
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "checkpoint.bin")
    for file in (resnet, tmp_path / "plain.pth", tmp_path / "checkpoint.bin"):
        loaded = build("resnet18", file).network.state_dict()
        assert set(tensors) - set(loaded) == {"fc.weight", "fc.bias"}
        assert all(torch.equal(value, tensors[key]) for key, value in loaded.items())


@pytest.mark.parametrize(("name", "options"), [("swin_tiny_patch4_window7_224", SWIN), ("mobilenetv3_small_050", {})])
def test_file__families_whose_adapter_reads_the_classifier(name: str, options: dict, tmp_path: Path) -> None:
    torch.manual_seed(2)
    tensors = timm.create_model(name, **options).state_dict()
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "weights.safetensors")
    loaded = build(name, tmp_path / "weights.safetensors", options=options).network.state_dict()
    assert all(torch.equal(value, tensors[key]) for key, value in loaded.items())


def test_file__first_convolution_is_adapted(resnet: Path) -> None:
    colors = load_file(resnet)["conv1.weight"]
    gray = build("resnet18", resnet, in_channels=1).network.conv1.weight
    six = build("resnet18", resnet, in_channels=6).network.conv1.weight
    torch.testing.assert_close(gray, colors.sum(1, keepdim=True))
    torch.testing.assert_close(six, torch.cat([colors, colors], 1) / 2)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "eva02_tiny_patch14_224"])
def test_file__patches_of_14_are_resampled_to_16(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    whole = timm.create_model(name, depth=2, img_size=56)
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    options = {"depth": 2, "img_size": 64}
    network = build(name, tmp_path / "vit.safetensors", options=options).network
    small = torch.rand(1, 3, 56, 56)
    blocks = small.unflatten(2, (4, 14)).unflatten(4, (4, 14)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    blocks = torch.nn.functional.interpolate(blocks, size=(16, 16), mode="bicubic", antialias=True)
    large = blocks.unflatten(0, (1, 4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    expected = whole.patch_embed.proj(small)
    torch.testing.assert_close(network.patch_embed.proj(large), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(network.blocks[1].mlp.state_dict(), whole.blocks[1].mlp.state_dict())


def test_file__is_not_held_in_memory_twice(resnet: Path) -> None:
    network = build("resnet18", resnet).network
    assert not network.pretrained_cfg and not network.default_cfg


def test_file__wrong_tensors_are_named(resnet: Path, tmp_path: Path) -> None:
    tensors = load_file(resnet)
    del tensors["layer1.0.conv1.weight"]
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(WeightsError, match=r"missing layer1\.0\.conv1\.weight; unexpected extra") as raised:
        build("resnet18", tmp_path / "changed.safetensors")
    assert str(tmp_path / "changed.safetensors") in str(raised.value) and raised.value.hint
    with pytest.raises(WeightsError, match=r"not the weights of timm's resnet34: missing layer1\.2\.conv1\.weight"):
        build("resnet34", resnet)
    reshaped = {**load_file(resnet), "bn1.weight": torch.ones(3)}
    save_file(reshaped, tmp_path / "reshaped.safetensors")
    with pytest.raises(WeightsError, match=r"of another shape bn1\.weight \(3,\) instead of \(64,\)"):
        build("resnet18", tmp_path / "reshaped.safetensors")


@pytest.mark.parametrize("content", [b"", b"no weights at all", None])
def test_file__damaged_ones_are_refused(content: bytes | None, resnet: Path, tmp_path: Path) -> None:
    content = resnet.read_bytes()[:100_000] if content is None else content
    for file in (tmp_path / "damaged.safetensors", tmp_path / "damaged.pth"):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match="damaged") as raised:
            build("resnet18", file)
        assert str(file) in str(raised.value) and "timm's resnet18" in raised.value.hint


def test_file__missing_or_without_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        build("resnet18", tmp_path / "absent.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no weights"):
        build("resnet18", tmp_path / "empty.pth")


def test_download__without_a_network_is_a_weights_error(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"backbone\.pretrained.*pretrained=FILE.*pretrained=false"):
        build("resnet18", True)


@pytest.mark.realdata
def test_mobilenet__of_a_real_file_equals_timm(real_data: Path) -> None:
    file = real_data / "weights" / "mobilenetv2_100.safetensors"
    half = (0.5, 0.5, 0.5)
    backbone = build("mobilenetv2_100", file, options={"pad_type": "same"}, mean=half, std=half)
    reference = timm.create_model("mobilenetv2_100", pad_type="same", features_only=True)
    reference.load_state_dict(load_file(file), strict=False)
    image = torch.rand(1, 3, 97, 65)
    with torch.no_grad():
        torch.testing.assert_close(backbone(image)[1:], reference.eval()(2 * image - 1), rtol=1e-4, atol=1e-4)
