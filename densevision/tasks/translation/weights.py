"""Generators that other people trained in the layout of pytorch-CycleGAN-and-pix2pix. No torch here.

Their files (`*_net_G.pth`) say neither norm nor depth, but the shapes and names of their tensors do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.translation.config import TranslationConfig

if TYPE_CHECKING:
    from torch import Tensor

    from densevision.tasks.base import DenseModel

_PAIRED = "http://efrosgans.eecs.berkeley.edu/pix2pix/models-pytorch"
_UNPAIRED = "http://efrosgans.eecs.berkeley.edu/cyclegan/pretrained_models"
_TERMS = "BSD-2-Clause code; the data has terms of its own"
TRAINED = 256
"""Side of the images that they were trained on, by the defaults of the program."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What old files of instance norms hold, and the norms do not use."""

HINT = "Give what torch.save(netG.state_dict(), FILE) writes."


def _named(name: str, folder: str, megabytes: float, trained_on: str) -> PublishedWeights:
    # The publisher states no hashes.
    address = f"{folder}/{name.split('/')[1]}.pth"
    return PublishedWeights(name, "translation", address, "", _TERMS, megabytes, trained_on)


PUBLISHED: tuple[PublishedWeights, ...] = (
    _named("pix2pix/facades_label2photo", _PAIRED, 218, "CMP Facades, labels to photo"),
    _named("pix2pix/edges2shoes", _PAIRED, 218, "UT Zappos50K, edges to photo"),
    _named("pix2pix/day2night", _PAIRED, 218, "Transient Attributes, day to night"),
    _named("pix2pix/map2sat", _PAIRED, 218, "Google Maps, map to aerial photo"),
    _named("pix2pix/sat2map", _PAIRED, 218, "Google Maps, aerial photo to map"),
    _named("cyclegan/horse2zebra", _UNPAIRED, 46, "ImageNet horses and zebras, unpaired"),
    _named("cyclegan/style_monet", _UNPAIRED, 46, "Flickr photos and Monet's paintings, unpaired"),
    _named("cyclegan/style_vangogh", _UNPAIRED, 46, "Flickr photos and van Gogh's paintings, unpaired"),
)


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a published generator as weights of ours, every tensor accounted for.

    Raises:
        WeightsError: The file is no generator of this layout; unknown keys are named.
    """
    config, tensors = read(file)
    save_weights(out, tensors, weights.card(config.plain()))


def open_file(file: Path) -> tuple[TranslationConfig, DenseModel]:
    """The network of a local `*_net_G.pth`, whatever it was trained on."""
    import torch

    from densevision.tasks.translation.task import Translation

    config, tensors = read(file)
    with torch.device("meta"):
        net = Translation(config).net()
    net.load_state_dict(tensors, strict=True, assign=True)
    net.encoder = Translation(config).encoder()  # its buffers are in no file
    return config, net


def read(file: Path) -> tuple[TranslationConfig, dict[str, Tensor]]:
    """The config that a file's tensors imply, and its tensors under our names.

    Raises:
        WeightsError: The file is no generator of this layout.
    """
    import torch

    from densevision.tasks.translation.task import Translation

    published = {re.sub(r"^module\.", "", name): tensor for name, tensor in read_state(file, HINT).items()}
    if _is_kernel(published.get("model.model.0.weight")):
        config, names = _unet(published)
    elif _is_kernel(published.get("model.1.weight")):
        config, names = _resnet(published)
    else:
        hint = "Generators of pytorch-CycleGAN-and-pix2pix, U-Net or ResNet, end in _net_G.pth."
        raise WeightsError("no generator of a known layout", file=file, value=next(iter(published), ""), hint=hint)
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in Translation(config).net().state_dict().items()}
    tensors, unknown = _renamed(published, names, instance=config.norm == "instance")
    for name in expected.keys() - tensors.keys():
        if name.endswith("num_batches_tracked"):  # which files of PyTorch before 0.4.1 do not hold
            tensors[name] = torch.zeros((), dtype=torch.long)
    _check(tensors, expected, unknown, file)
    return config, {name: tensors[name] for name in expected}


def published_name(config: TranslationConfig) -> dict[str, str]:
    """Our names of modules -> theirs, for the generator of a config.

    >>> published_name(TranslationConfig.checked({"depth": 8}))["downs.1.convolution"]
    'model.model.1.model.1'
    """
    if config.arch == "unet":
        return _unet_names(config.levels)
    return _resnet_names(config.blocks, bool(config.dropout))


def _unet_names(depth: int) -> dict[str, str]:
    """Blocks are nested: each holds [relu, down, norm, deeper block, relu, up, norm], with gaps at both ends."""
    names = {"downs.0.convolution": "model.model.0", "ups.0.convolution": "model.model.3"}
    block = "model.model.1"
    for level in range(1, depth):
        deepest = level == depth - 1
        names[f"downs.{level}.convolution"] = f"{block}.model.1"
        if not deepest:
            names[f"downs.{level}.norm"] = f"{block}.model.2"
        up = 3 if deepest else 5
        names[f"ups.{level}.convolution"] = f"{block}.model.{up}"
        names[f"ups.{level}.norm"] = f"{block}.model.{up + 1}"
        block += ".model.3"
    return names


def _resnet_names(blocks: int, dropout: bool) -> dict[str, str]:
    names = {"first.0": "model.1", "first.1": "model.2"}
    for level, place in enumerate((4, 7)):
        names |= {f"downs.{level}.0": f"model.{place}", f"downs.{level}.1": f"model.{place + 1}"}
    for number in range(blocks):
        block, second = f"model.{10 + number}.conv_block", 6 if dropout else 5
        names |= {f"blocks.{number}.first.0": f"{block}.1", f"blocks.{number}.first.1": f"{block}.2"}
        names |= {
            f"blocks.{number}.second.0": f"{block}.{second}",
            f"blocks.{number}.second.1": f"{block}.{second + 1}",
        }
    place = 10 + blocks
    for level in range(2):
        names |= {f"ups.{level}.0": f"model.{place}", f"ups.{level}.1": f"model.{place + 1}"}
        place += 3
    return names | {"last": f"model.{place + 1}"}


def _unet(published: Mapping[str, Tensor]) -> tuple[TranslationConfig, dict[str, str]]:
    depth = 1 + sum(bool(re.fullmatch(r"model\.model\.1(\.model\.3)*\.model\.1\.weight", name)) for name in published)
    first, last = published["model.model.0.weight"], published.get("model.model.3.weight")
    # Whether it was trained with dropout leaves no trace; the paper's generators were.
    config = _config("unet", depth, first, last.shape[1] if _is_kernel(last) else 0, published, dropout=0.5)
    return config, published_name(config)


def _resnet(published: Mapping[str, Tensor]) -> tuple[TranslationConfig, dict[str, str]]:
    numbers = [int(found[1]) for name in published if (found := re.match(r"model\.(\d+)\.conv_block\.", name))]
    blocks = len(set(numbers))
    last = published.get(f"model.{10 + blocks + 7}.weight")
    dropout = (
        0.5
        if any(re.search(r"conv_block\.6\.weight$", name) and tensor.ndim == 4 for name, tensor in published.items())
        else 0.0
    )
    first = published["model.1.weight"]
    config = _config("resnet", blocks, first, last.shape[0] if _is_kernel(last) else 0, published, dropout=dropout)
    return config, published_name(config)


def _is_kernel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 4


def _config(
    arch: str, depth: int, first: Tensor, outputs: int, published: Mapping[str, Tensor], dropout: float
) -> TranslationConfig:
    """The config of a generator whose first convolution and tensors these are."""
    # Only convolutions before instance norms have biases.
    instance = ("model.model.0.bias" if arch == "unet" else "model.1.bias") in published
    settings: dict[str, Any] = {
        "arch": arch,
        "depth": max(depth, 2 if arch == "unet" else 1),
        "width": first.shape[0],
        "channels": max(outputs, 1),
        "norm": "instance" if instance else "batch",
        "dropout": dropout,
        "backbone": {"channels": first.shape[1]},
        "data": {"size": max(TRAINED, 1 << depth) if arch == "unet" else TRAINED},
    }
    return TranslationConfig.checked(settings)


def _renamed(
    published: Mapping[str, Tensor], names: Mapping[str, str], instance: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under our names, and the names of those that have none."""
    ours = {theirs: mine for mine, theirs in names.items()}
    tensors, unknown = {}, []
    for name, tensor in published.items():
        module, _, leaf = name.rpartition(".")
        if instance and leaf in STATISTICS:
            continue
        if module in ours:
            tensors[f"head.network.{ours[module]}.{leaf}"] = tensor
        else:
            unknown.append(name)
    return tensors, unknown


def _check(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], unknown: list[str], file: Path
) -> None:
    missing = [name.removeprefix("head.network.") for name in expected if name not in tensors]
    shapes = [
        name.removeprefix("head.network.")
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    extra = [*unknown, *(name.removeprefix("head.network.") for name in tensors if name not in expected)]
    faults = {"missing": missing, "unknown": extra, "of another shape": shapes}
    told = "; ".join(f"{len(keys)} {fault}, such as {keys[0]}" for fault, keys in faults.items() if keys)
    if told:
        raise WeightsError(f"not a generator of this layout: {told}", file=file)
