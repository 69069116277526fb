"""Generators in the published layout against references built of nn.Sequential from the papers.

The layout is that of pytorch-CycleGAN-and-pix2pix, whose files hold the state dict of such a network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision import api
from densevision.errors import WeightsError
from densevision.published_weights import convert_weights
from densevision.tasks.translation.weights import get_published_names, read_generator

pytestmark = pytest.mark.parity


class Nested(nn.Module):
    """One level of the reference U-Net: everything below it beside an identity; the outermost level has none."""

    def __init__(self, parts: list[nn.Module], outermost: bool):
        super().__init__()
        self.model, self.outermost = nn.Sequential(*parts), outermost

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Holder(nn.Module):
    """A network in an attribute, so that its tensors get their published names."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Block(nn.Module):
    def __init__(self, parts: list[nn.Module]):
        super().__init__()
        self.conv_block = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def reference_unet(inputs: int, outputs: int, width: int, depth: int, norm: type, dropout: bool) -> nn.Module:
    """Isola et al., section 6.1.1: C64-C128-C256-C512-... down, the mirror image up, skips between equals."""
    biased = norm is nn.InstanceNorm2d
    widths = [width * factor for factor in (1, 2, 4, *[8] * (depth - 3))]
    inner: nn.Module | None = None
    for level in reversed(range(depth)):
        into = inputs if level == 0 else widths[level - 1]
        out = outputs if level == 0 else into
        down = nn.Conv2d(into, widths[level], 4, 2, 1, bias=biased)
        up_from = widths[level] * (1 if inner is None else 2)
        up = nn.ConvTranspose2d(up_from, out, 4, 2, 1, bias=biased or level == 0)
        if level == 0:
            parts = [down, inner, nn.ReLU(True), up, nn.Tanh()]
        elif inner is None:
            parts = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(out)]
        else:
            parts = [nn.LeakyReLU(0.2, True), down, norm(widths[level]), inner, nn.ReLU(True), up, norm(out)]
            parts += [nn.Dropout(0.5)] if dropout and level >= 4 else []
        inner = Nested(parts, level == 0)
    return Holder(inner)


def reference_resnet(inputs: int, outputs: int, width: int, blocks: int, norm: type, dropout: bool) -> nn.Module:
    """Johnson et al. 2016 as in Zhu et al. 2017: c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-3."""
    biased = norm is nn.InstanceNorm2d
    parts = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=biased), norm(width), nn.ReLU(True)]
    for a in (width, 2 * width):
        parts += [nn.Conv2d(a, 2 * a, 3, 2, 1, bias=biased), norm(2 * a), nn.ReLU(True)]
    wide = 4 * width
    for _ in range(blocks):
        inner = [nn.ReflectionPad2d(1), nn.Conv2d(wide, wide, 3, bias=biased), norm(wide), nn.ReLU(True)]
        inner += [nn.Dropout(0.5)] if dropout else []
        parts.append(Block([*inner, nn.ReflectionPad2d(1), nn.Conv2d(wide, wide, 3, bias=biased), norm(wide)]))
    for a in (4 * width, 2 * width):
        parts += [nn.ConvTranspose2d(a, a // 2, 3, 2, 1, 1, bias=biased), norm(a // 2), nn.ReLU(True)]
    return Holder(nn.Sequential(*parts, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()))


REFERENCES = {
    "unet-128": lambda: reference_unet(3, 3, 4, 7, nn.BatchNorm2d, True),
    "unet-256": lambda: reference_unet(1, 2, 2, 8, nn.BatchNorm2d, True),
    "unet-instance": lambda: reference_unet(3, 3, 4, 5, nn.InstanceNorm2d, False),
    "resnet-9": lambda: reference_resnet(3, 3, 4, 9, nn.InstanceNorm2d, False),
    "resnet-6": lambda: reference_resnet(3, 1, 4, 6, nn.BatchNorm2d, True),
}


def randomize(network: nn.Module) -> nn.Module:
    """Random weights and statistics, large enough that images are not gray."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.2, generator=generator)
    return network


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("use_batch_stats", [True, False])
def test_generator__equals_the_reference(kind: str, use_batch_stats: bool, tmp_path: Path):
    network = randomize(REFERENCES[kind]())
    torch.save(network.state_dict(), tmp_path / "latest_net_G.pth")
    predictor = api.load(tmp_path / "latest_net_G.pth", "translation", {"inference.resize": False})
    config = predictor.task.config
    if config.norm == "instance" and not use_batch_stats:
        pytest.skip("instance norms have no running statistics")
    has_dropout = config.model.get("dropout", 0.5) > 0
    predictor.configure(
        {"inference.use_batch_stats": use_batch_stats} | ({"inference.dropout": False} if has_dropout else {})
    )
    side = 256 if kind == "unet-256" else 128
    image = torch.rand(1, config.backbone.channels, side, side, generator=torch.Generator().manual_seed(1))
    network.eval()
    for module in network.modules():  # the project's test mode: training mode without dropout, or evaluation mode
        if isinstance(module, nn.BatchNorm2d):
            module.train(use_batch_stats)
    with torch.no_grad():
        expected = (network(image * 2 - 1) + 1) / 2
        output = predictor.model(image=image)["image"]
    assert expected.std() > 0.02
    assert (output - expected).abs().max() <= 1e-5
    result = predictor.predict(image[0].permute(1, 2, 0).numpy(), precision="float32")
    np.testing.assert_allclose(result.image, expected[0].permute(1, 2, 0).numpy().clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("kind", REFERENCES)
def test_layout__round_trip(kind: str, tmp_path: Path):
    published = randomize(REFERENCES[kind]()).state_dict()
    torch.save(published, tmp_path / "net.pth")
    config, tensors = read_generator(tmp_path / "net.pth")
    names = get_published_names(config)
    restored = {}
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        restored[f"{names[module]}.{leaf}"] = tensor
    assert restored.keys() == published.keys()
    assert all(torch.equal(restored[name], published[name]) for name in published)


def test_convert__by_name_equals_the_opened_file(tmp_path: Path):
    network = randomize(reference_unet(3, 3, 4, 8, nn.BatchNorm2d, True))
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "net.pth")
    convert_weights("pix2pix/edges2shoes", tmp_path / "net.pth", tmp_path / "out.safetensors")
    converted = api.load(tmp_path / "out.safetensors", "translation")
    config = converted.task.config
    assert (config.model, config.norm) == ({"depth": 8, "width": 4}, "batch")
    opened = api.load(tmp_path / "net.pth", "translation")
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    np.testing.assert_array_equal(converted.predict(image).image, opened.predict(image).image)


def test_convert__names_what_does_not_fit(tmp_path: Path):
    tensors = reference_resnet(3, 3, 4, 2, nn.InstanceNorm2d, False).state_dict()
    torch.save({**tensors, "model.99.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    with pytest.raises(WeightsError, match=r"1 unknown, such as model\.99\.weight"):
        read_generator(tmp_path / "extra.pth")
    torch.save({name: tensor for name, tensor in tensors.items() if name != "model.4.weight"}, tmp_path / "less.pth")
    with pytest.raises(WeightsError, match=r"1 missing, such as downs\.0\.0\.weight"):
        read_generator(tmp_path / "less.pth")
    torch.save({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no generator of a known layout"):
        read_generator(tmp_path / "other.pth")


def test_convert__old_files_of_instance_norms(tmp_path: Path):
    """Before PyTorch 0.4 instance norms stored statistics that they did not use."""
    network = reference_resnet(3, 3, 4, 1, nn.InstanceNorm2d, False)
    tensors = network.state_dict()
    tensors |= {"model.2.running_mean": torch.zeros(4), "model.2.running_var": torch.ones(4)}
    torch.save(tensors, tmp_path / "old.pth")
    config, converted = read_generator(tmp_path / "old.pth")
    assert config.norm == "instance" and len(converted) == len(network.state_dict())
