"""Published generators of pytorch-CycleGAN-and-pix2pix, and local checkpoints of that project (`*_net_G.pth`).

The files state neither norm nor depth, but the names and shapes of their tensors do. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.checkpoint import Rules, check_state_dict, read_state_dict, rename_state_dict
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.translation.config import TranslationConfig

if TYPE_CHECKING:
    from torch import Tensor

    from densevision.nn.model import Model

__all__ = ["PUBLISHED", "convert", "get_published_names", "open_file", "read_generator"]

_PAIRED = "http://efrosgans.eecs.berkeley.edu/pix2pix/models-pytorch"
_UNPAIRED = "http://efrosgans.eecs.berkeley.edu/cyclegan/pretrained_models"
_LICENSE = "BSD-2-Clause code; the data has terms of its own"
TRAINING_SIZE = 256
"""Side of the images of training, by the defaults of the project."""
PUBLISHED_DROPOUT = 0.5
RESNET_MARGIN = 10
"""Index of the first residual block in the published `nn.Sequential`."""
HINT = "Give a file written by torch.save(netG.state_dict(), FILE)."


def _describe(name: str, folder: str, megabytes: float, trained_on: str) -> PublishedWeights:
    # The publisher states neither hashes nor metrics.
    address = f"{folder}/{name.split('/')[1]}.pth"
    parameters = 54.4 if folder == _PAIRED else 11.4
    return PublishedWeights(name, "translation", address, "", _LICENSE, megabytes, trained_on, parameters)


PUBLISHED: tuple[PublishedWeights, ...] = (
    _describe("pix2pix/facades_label2photo", _PAIRED, 218, "CMP Facades, labels to photo"),
    _describe("pix2pix/edges2shoes", _PAIRED, 218, "UT Zappos50K, edges to photo"),
    _describe("pix2pix/day2night", _PAIRED, 218, "Transient Attributes, day to night"),
    _describe("pix2pix/map2sat", _PAIRED, 218, "Google Maps, map to aerial photo"),
    _describe("pix2pix/sat2map", _PAIRED, 218, "Google Maps, aerial photo to map"),
    _describe("cyclegan/horse2zebra", _UNPAIRED, 46, "ImageNet horses and zebras, unpaired"),
    _describe("cyclegan/style_monet", _UNPAIRED, 46, "Flickr photos and Monet's paintings, unpaired"),
    _describe("cyclegan/style_vangogh", _UNPAIRED, 46, "Flickr photos and van Gogh's paintings, unpaired"),
)


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts a published generator into a densevision file; every tensor must match.

    Raises:
        WeightsError: The file holds no generator of this project; unknown names are listed.
    """
    config, tensors = read_generator(file)
    save_weights(out, tensors, weights.card(config.to_dict()))


def open_file(file: Path) -> tuple[TranslationConfig, Model]:
    """Opens a local `*_net_G.pth`.

    Raises:
        WeightsError: The file holds no generator of this project.
    """
    from densevision.tasks.translation.task import Translation

    config, tensors = read_generator(file)
    model = Translation(config).build_model()
    model.load_state_dict(tensors, strict=True)
    return config, model


def read_generator(file: Path) -> tuple[TranslationConfig, dict[str, Tensor]]:
    """The config that the tensors of a file imply, and the tensors under our names.

    Raises:
        WeightsError: The file holds no generator of this project.
    """
    import torch

    from densevision.tasks.translation.task import Translation

    published = read_state_dict(file, HINT)
    if _is_kernel(published.get("model.model.0.weight")):
        config = _infer_unet(published)
    elif _is_kernel(published.get("model.1.weight")):
        config = _infer_resnet(published)
    else:
        hint = (
            "U-Net and ResNet generators of pytorch-CycleGAN-and-pix2pix are supported; their files end in _net_G.pth."
        )
        raise WeightsError("no generator of a known layout", file=file, value=next(iter(published), ""), hint=hint)
    # Instance norms of old files have statistics, which they do not use.
    ignored = r"\.(running_mean|running_var|num_batches_tracked)$" if config.norm == "instance" else None
    rules: Rules = [
        (rf"^{re.escape(theirs)}\.(?=\w+$)", f"{ours}.") for ours, theirs in get_published_names(config).items()
    ]
    tensors = rename_state_dict(published, rules, ignored)
    model = Translation(config).meta_model
    for name in model.state_dict().keys() - tensors.keys():
        if name.endswith("num_batches_tracked"):  # missing in files of PyTorch before 0.4.1
            tensors[name] = torch.zeros((), dtype=torch.long)
    return config, check_state_dict(tensors, model.state_dict(), "a generator of this layout", file, HINT)


def get_published_names(config: TranslationConfig) -> dict[str, str]:
    """Our names of modules -> the published ones, for the generator of a config with `model.depth`.

    >>> get_published_names(TranslationConfig.from_dict({"model": {"depth": 7}}))["downs.1.convolution"]
    'model.model.1.model.1'
    """
    depth = config.model["depth"]
    if config.arch == "pix2pix_unet":
        return _get_unet_names(depth)
    return _get_resnet_names(depth, bool(config.model.get("dropout", PUBLISHED_DROPOUT)))


def _get_unet_names(depth: int) -> dict[str, str]:
    """Blocks are nested: each holds [relu, down, norm, deeper block, relu, up, norm], with gaps at both ends."""
    names = {"downs.0.convolution": "model.model.0", "ups.0.convolution": "model.model.3"}
    block = "model.model.1"
    for level in range(1, depth):
        is_deepest = level == depth - 1
        names[f"downs.{level}.convolution"] = f"{block}.model.1"
        if not is_deepest:
            names[f"downs.{level}.norm"] = f"{block}.model.2"
        up = 3 if is_deepest else 5
        names[f"ups.{level}.convolution"] = f"{block}.model.{up}"
        names[f"ups.{level}.norm"] = f"{block}.model.{up + 1}"
        block += ".model.3"
    return names


def _get_resnet_names(blocks: int, has_dropout: bool) -> dict[str, str]:
    names = {"first.0": "model.1", "first.1": "model.2"}
    for level, index in enumerate((4, 7)):
        names |= {f"downs.{level}.0": f"model.{index}", f"downs.{level}.1": f"model.{index + 1}"}
    second = 6 if has_dropout else 5
    for number in range(blocks):
        block = f"model.{RESNET_MARGIN + number}.conv_block"
        for part, index in (("first", 1), ("second", second)):
            for layer in (0, 1):
                names[f"blocks.{number}.{part}.{layer}"] = f"{block}.{index + layer}"
    index = RESNET_MARGIN + blocks
    for level in range(2):
        names |= {f"ups.{level}.0": f"model.{index}", f"ups.{level}.1": f"model.{index + 1}"}
        index += 3
    return names | {"last": f"model.{index + 1}"}


def _infer_unet(published: Mapping[str, Tensor]) -> TranslationConfig:
    depth = 1 + sum(bool(re.fullmatch(r"model\.model\.1(\.model\.3)*\.model\.1\.weight", name)) for name in published)
    first, last = published["model.model.0.weight"], published.get("model.model.3.weight")
    outputs = last.shape[1] if last is not None and _is_kernel(last) else 1
    # Dropout leaves no trace in the tensors; the paper's generators have it.
    size = max(TRAINING_SIZE, 1 << max(depth, 2))
    is_instance = "model.model.0.bias" in published
    return _build_config("pix2pix_unet", {"depth": max(depth, 2)}, first, outputs, size, is_instance)


def _infer_resnet(published: Mapping[str, Tensor]) -> TranslationConfig:
    matches = (re.match(r"model\.(\d+)\.conv_block\.", name) for name in published)
    blocks = len({match[1] for match in matches if match})
    first, last = published["model.1.weight"], published.get(f"model.{RESNET_MARGIN + blocks + 7}.weight")
    outputs = last.shape[0] if last is not None and _is_kernel(last) else 1
    has_dropout = any(
        re.search(r"conv_block\.6\.weight$", name) and tensor.ndim == 4 for name, tensor in published.items()
    )
    model = {"depth": max(blocks, 1), "dropout": PUBLISHED_DROPOUT if has_dropout else 0.0}
    return _build_config("pix2pix_resnet", model, first, outputs, TRAINING_SIZE, "model.1.bias" in published)


def _is_kernel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 4


def _build_config(
    arch: str, model: dict[str, Any], first: Tensor, outputs: int, size: int, is_instance: bool
) -> TranslationConfig:
    """The config of a generator with this first convolution; only those before instance norms have biases."""
    return TranslationConfig.from_dict(
        {
            "arch": arch,
            "model": {**model, "width": first.shape[0]},
            "out_channels": outputs,
            "norm": "instance" if is_instance else "batch",
            "backbone": {"channels": first.shape[1]},
            "data": {"size": size},
        }
    )
