"""Weights that other people published, and how their names map onto ours; models that need no file. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.superres.config import INTERPOLATIONS, SuperresConfig

if TYPE_CHECKING:
    from torch import Tensor

    from densevision.tasks.base import DenseModel

BUILT_IN: dict[str, dict[str, Any]] = {kernel: {"arch": kernel} for kernel in INTERPOLATIONS}
"""Names of models without weights -> the settings that make them."""

_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_EDSR = "https://cv.snu.ac.kr/research/EDSR/models"
_WILD = "DIV2K, Flickr2K and OutdoorSceneTraining, degraded twice"
_SETTINGS: dict[str, dict[str, Any]] = {
    "realesrgan/x4plus": {"arch": "rrdb", "scale": 4},
    "realesrgan/x2plus": {"arch": "rrdb", "scale": 2},
    "realesrgan/general-x4v3": {"arch": "srvgg", "scale": 4, "depth": 32},
    **{f"edsr/baseline_x{scale}": {"arch": "edsr", "scale": scale} for scale in (2, 3, 4)},
    **{f"edsr/large_x{scale}": {"arch": "edsr-large", "scale": scale} for scale in (2, 3, 4)},
}
"""What each name's network is."""

HINT = "Give what torch.save(network.state_dict(), FILE) writes."


def _named(name: str, address: str, sha256: str, license: str, megabytes: float, trained_on: str) -> PublishedWeights:
    return PublishedWeights(name, "superres", address, sha256, license, megabytes, trained_on)


PUBLISHED: tuple[PublishedWeights, ...] = (
    _named(
        "realesrgan/x4plus", f"{_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth", "4fa0d38905f75ac0", "BSD-3-Clause", 67, _WILD
    ),
    _named(
        "realesrgan/x2plus", f"{_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth", "49fafd45f8fd7aa8", "BSD-3-Clause", 67, _WILD
    ),
    _named(
        "realesrgan/general-x4v3",
        f"{_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        "8dc7edb9ac80ccdc",
        "BSD-3-Clause",
        4.9,
        _WILD,
    ),
    _named("edsr/baseline_x2", f"{_EDSR}/edsr_baseline_x2-1bc95232.pt", "1bc95232", "MIT", 5.5, "DIV2K"),
    _named("edsr/baseline_x3", f"{_EDSR}/edsr_baseline_x3-abf2a44e.pt", "abf2a44e", "MIT", 6.2, "DIV2K"),
    _named("edsr/baseline_x4", f"{_EDSR}/edsr_baseline_x4-6b446fab.pt", "6b446fab", "MIT", 6.1, "DIV2K"),
    _named("edsr/large_x2", f"{_EDSR}/edsr_x2-0edfb8a3.pt", "0edfb8a3", "MIT", 163, "DIV2K"),
    _named("edsr/large_x3", f"{_EDSR}/edsr_x3-ea3ef2c6.pt", "ea3ef2c6", "MIT", 175, "DIV2K"),
    _named("edsr/large_x4", f"{_EDSR}/edsr_x4-4f62e9ef.pt", "4f62e9ef", "MIT", 172, "DIV2K"),
)

_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "rrdb": (
        (r"^conv_first\.", "first."),
        (r"^body\.(\d+)\.rdb1\.conv", r"blocks.\1.0.convs."),
        (r"^body\.(\d+)\.rdb2\.conv", r"blocks.\1.1.convs."),
        (r"^body\.(\d+)\.rdb3\.conv", r"blocks.\1.2.convs."),
        (r"^conv_body\.", "body."),
        (r"^conv_up1\.", "ups.0."),
        (r"^conv_up2\.", "ups.1."),
        (r"^conv_hr\.", "refine."),
        (r"^conv_last\.", "last."),
    ),
    "srvgg": ((r"^body\.", "layers."),),
    "edsr": (
        (r"^(module|model)\.", ""),
        (r"^conv_first\.", "head."),
        (r"^body\.(\d+)\.conv1\.", r"body.\1.first."),
        (r"^body\.(\d+)\.conv2\.", r"body.\1.second."),
        (r"^upsample\.", "tail.0."),
        (r"^conv_last\.", "tail.1."),
        (r"^head\.0\.", "head."),
        (r"^body\.(\d+)\.body\.0\.", r"body.\1.first."),
        (r"^body\.(\d+)\.body\.2\.", r"body.\1.second."),
        (r"^(sub|add)_mean\..*", ""),
    ),
}
"""Family -> patterns of published names and ours; a name that becomes nothing is left out."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a published state dict as weights of ours, every tensor accounted for.

    Raises:
        WeightsError: The file is no state dict, or not of the network that its name says; unknown keys are named.
    """
    import torch

    from densevision.tasks.superres.task import Superres

    config = SuperresConfig.checked(_SETTINGS[weights.name])
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in Superres(config).net().state_dict().items()}
    published = read_state(file, HINT, ("params_ema", "params"))  # of several the moving average
    tensors = {f"head.network.{name}": tensor for name, tensor in renamed(published, config).items()}
    _check(tensors, expected, weights.name, file)
    save_weights(out, {name: tensors[name] for name in expected}, weights.card(config.plain()))


def renamed(tensors: Mapping[str, Tensor], config: SuperresConfig) -> dict[str, Tensor]:
    """A published state dict under our names; what fits no rule keeps its own.

    EDSR is known as its authors and as basicsr name its parts. It was published for images from 0 to 255: the first
    convolution is made 255 times steeper and the last one flatter, which changes nothing but the range.
    """
    family = config.arch.removesuffix("-large")
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _RULES[family]:
            name = re.sub(pattern, replacement, name)
        if family == "rrdb":  # the published convolutions are counted from 1
            name = re.sub(r"convs\.(\d)\.", lambda match: f"convs.{int(match[1]) - 1}.", name)
        if name.startswith("conv_after_body."):  # basicsr's name for what its authors count on from the blocks
            blocks = sum(other.endswith(".conv1.weight") for other in tensors)
            name = name.replace("conv_after_body", f"body.{blocks}")
        if name:
            found[name] = tensor
    if family == "edsr":
        for name, factor in (("head.weight", 255.0), ("tail.1.weight", 1 / 255), ("tail.1.bias", 1 / 255)):
            if name in found:
                found[name] = found[name] * factor
    return found


def open_file(file: Path) -> tuple[SuperresConfig, DenseModel]:
    """A network of any file that spandrel can load; needs the extra `community`."""
    from densevision.tasks.superres.models.spandrel_model import open_community

    return open_community(file)


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str, file: Path) -> None:
    missing = [key for key in expected if key not in tensors]
    unknown = [key for key in tensors if key not in expected]
    shapes = [key for key in expected if key in tensors and tuple(tensors[key].shape) != expected[key]]
    faults = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    told = "; ".join(f"{len(keys)} {fault}, such as {keys[0]}" for fault, keys in faults.items() if keys)
    if told:
        raise WeightsError(f"not the weights of {name}: {told.replace('head.network.', '')}", file=file)
