"""Published super-resolution weights and local checkpoints of other projects: which there are, how they are converted.

Files are those of xinntao/Real-ESRGAN (RRDB and SRVGG), of EDSR-PyTorch, and of BasicSR, which names EDSR's layers
differently. Architecture and sizes follow from the tensors. Other checkpoints are opened with spandrel. No torch here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.checkpoint import Rules, check_state_dict, read_state_dict, rename_state_dict
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.superres.config import SuperresConfig

if TYPE_CHECKING:
    from torch import Tensor

    from densevision.nn.model import Model

__all__ = ["BUILT_IN", "PUBLISHED", "convert", "open_file"]

BUILT_IN: dict[str, dict[str, Any]] = {kernel: {"arch": kernel} for kernel in ("nearest", "bilinear", "bicubic")}
"""Names of models without weights -> the options that define them."""

_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_EDSR = "https://cv.snu.ac.kr/research/EDSR/models"
_REAL_IMAGES = "DIV2K, Flickr2K and OutdoorSceneTraining with second-order degradations"
HINT = "Give a file written by torch.save(network.state_dict(), FILE)."


def _describe(
    name: str,
    url: str,
    sha256: str,
    license_name: str,
    megabytes: float,
    data: str,
    parameters: float,
    psnr: float | None = None,
) -> PublishedWeights:
    metric = None if psnr is None else ("DIV2K PSNR", psnr)
    return PublishedWeights(name, "superres", url, sha256, license_name, megabytes, data, parameters, metric)


PUBLISHED: tuple[PublishedWeights, ...] = (
    _describe(
        "realesrgan/x4plus",
        f"{_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac0",
        "BSD-3-Clause",
        67,
        _REAL_IMAGES,
        16.7,
    ),
    _describe(
        "realesrgan/x2plus",
        f"{_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        "49fafd45f8fd7aa8",
        "BSD-3-Clause",
        67,
        _REAL_IMAGES,
        16.7,
    ),
    _describe(
        "realesrgan/general-x4v3",
        f"{_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        "8dc7edb9ac80ccdc",
        "BSD-3-Clause",
        4.9,
        _REAL_IMAGES,
        1.2,
    ),
    _describe(
        "realesrgan/animevideov3",
        f"{_ESRGAN}/v0.2.5.0/realesr-animevideov3.pth",
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        "BSD-3-Clause",
        2.5,
        "frames of animated videos with second-order degradations",
        0.6,
    ),
    _describe("edsr/baseline_x2", f"{_EDSR}/edsr_baseline_x2-1bc95232.pt", "1bc95232", "MIT", 5.5, "DIV2K", 1.4, 34.61),
    _describe("edsr/baseline_x3", f"{_EDSR}/edsr_baseline_x3-abf2a44e.pt", "abf2a44e", "MIT", 6.2, "DIV2K", 1.6, 30.92),
    _describe("edsr/baseline_x4", f"{_EDSR}/edsr_baseline_x4-6b446fab.pt", "6b446fab", "MIT", 6.1, "DIV2K", 1.5, 28.95),
    _describe("edsr/large_x2", f"{_EDSR}/edsr_x2-0edfb8a3.pt", "0edfb8a3", "MIT", 163, "DIV2K", 40.7, 35.03),
    _describe("edsr/large_x3", f"{_EDSR}/edsr_x3-ea3ef2c6.pt", "ea3ef2c6", "MIT", 175, "DIV2K", 43.7, 31.26),
    _describe("edsr/large_x4", f"{_EDSR}/edsr_x4-4f62e9ef.pt", "4f62e9ef", "MIT", 172, "DIV2K", 43.1, 29.25),
)

_SETTINGS: dict[str, dict[str, Any]] = {
    "realesrgan/x4plus": {"arch": "rrdb", "scale": 4},
    "realesrgan/x2plus": {"arch": "rrdb", "scale": 2},
    "realesrgan/general-x4v3": {"arch": "srvgg", "scale": 4, "model": {"depth": 32}},
    "realesrgan/animevideov3": {"arch": "srvgg", "scale": 4, "model": {"depth": 16}},
    **{f"edsr/baseline_x{scale}": {"arch": "edsr_baseline", "scale": scale} for scale in (2, 3, 4)},
    **{f"edsr/large_x{scale}": {"arch": "edsr_large", "scale": scale} for scale in (2, 3, 4)},
}
"""Published name -> config."""

_RULES: dict[str, Rules] = {
    "rrdb": (
        (r"^conv_first\.", "first."),
        (
            r"^body\.(\d+)\.rdb(\d)\.conv(\d)\.",
            lambda match: f"blocks.{match[1]}.{int(match[2]) - 1}.convs.{int(match[3]) - 1}.",
        ),
        (r"^conv_body\.", "body."),
        (r"^conv_up(\d)\.", lambda match: f"ups.{int(match[1]) - 1}."),
        (r"^conv_hr\.", "refine."),
        (r"^conv_last\.", "last."),
    ),
    "srvgg": ((r"^body\.", "layers."),),
    "edsr": (
        (r"^head\.0\.", "head."),
        (r"^body\.(\d+)\.body\.0\.", r"body.\1.first."),
        (r"^body\.(\d+)\.body\.2\.", r"body.\1.second."),
        (r"^(sub|add)_mean\..*", ""),
        # BasicSR's names
        (r"^conv_first\.", "head."),
        (r"^body\.(\d+)\.conv1\.", r"body.\1.first."),
        (r"^body\.(\d+)\.conv2\.", r"body.\1.second."),
        (r"^upsample\.", "tail.0."),
        (r"^conv_last\.", "tail.1."),
    ),
}
"""Family -> published names and ours; a name that becomes empty is dropped."""
_FAMILIES = {"rrdb": "rrdb", "srvgg": "srvgg", "edsr_baseline": "edsr", "edsr_large": "edsr"}
_EDSR_SIZES = {(64, 16): "edsr_baseline", (256, 32): "edsr_large"}
"""Width and depth -> architecture: the scale of the residuals is no tensor, so other sizes are not recognized."""
_RANGE = 255.0
"""White in the images that EDSR was published for."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts published weights into a densevision file; every tensor must match.

    Raises:
        WeightsError: The file holds no state dict, or that of another network; unknown names are listed.
    """
    config = SuperresConfig.from_dict(_SETTINGS[weights.name])
    tensors, _ = _convert_tensors(read_state_dict(file, HINT), config, weights.name, file)
    save_weights(out, tensors, weights.card(config.to_dict()))


def open_file(file: Path) -> tuple[SuperresConfig, Model]:
    """Opens a checkpoint of another project: RRDB, SRVGG or EDSR directly, any other one with spandrel.

    Raises:
        WeightsError: The file holds no state dict, or of a network that neither this package nor spandrel knows.
    """
    published = read_state_dict(file, HINT)
    settings = infer_settings(published)
    if settings is None:
        return _open_with_spandrel(published, file)
    config = SuperresConfig.from_dict(settings)
    tensors, model = _convert_tensors(published, config, config.arch, file)
    model.load_state_dict(tensors, strict=True)
    return config, model


def infer_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """The config of an RRDB, SRVGG or EDSR network, from the names and shapes of its published state dict.

    Returns:
        None for other networks, and for sizes that cannot be known from the tensors.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for infer in (_infer_srvgg, _infer_rrdb, _infer_edsr):
        settings = infer(shapes)
        if settings is not None:
            return settings
    return None


def _convert_tensors(
    published: Mapping[str, Tensor], config: SuperresConfig, label: str, file: Path
) -> tuple[dict[str, Tensor], Model]:
    """The tensors under our names, and a model without weights that they fit.

    EDSR was published for images from 0 to 255: the first convolution is scaled by 255 and the last one by its inverse.
    """
    from densevision.tasks.superres.task import Superres

    family = _FAMILIES[config.arch]
    tensors = rename_state_dict(published, _RULES[family])
    if family == "edsr":
        blocks = sum(name.endswith(".first.weight") for name in tensors)
        # BasicSR's name of the convolution that EDSR's authors number after the blocks.
        tensors = rename_state_dict(tensors, ((r"^conv_after_body\.", f"body.{blocks}."),))
        for name, factor in (("head.weight", _RANGE), ("tail.1.weight", 1 / _RANGE), ("tail.1.bias", 1 / _RANGE)):
            if name in tensors:
                tensors[name] = tensors[name] * factor
    model = Superres(config).build_model()
    return check_state_dict(tensors, model.state_dict(), label, file), model


def _open_with_spandrel(published: Mapping[str, Tensor], file: Path) -> tuple[SuperresConfig, Model]:
    from densevision.errors import convert_error
    from densevision.tasks.superres.models.spandrel_model import describe_network, load_descriptor
    from densevision.tasks.superres.task import Superres

    try:
        descriptor = load_descriptor(published)
    except WeightsError as error:
        raise convert_error(error, WeightsError, file) from None
    channels = descriptor.input_channels
    config = SuperresConfig.from_dict(
        {
            "arch": "spandrel",
            "model": describe_network(descriptor.model),
            "scale": descriptor.scale,
            "backbone": {"channels": channels},
            "quality": {"color": "Y" if channels <= 4 else "RGB"},
        }
    )
    model = Superres(config).build_model()
    tensors = {f"network.{name}": tensor for name, tensor in descriptor.model.state_dict().items()}
    model.load_state_dict(check_state_dict(tensors, model.state_dict(), config.model["architecture"], file))
    return config, model


Shapes = Mapping[str, tuple[int, ...]]


def _infer_srvgg(shapes: Shapes) -> dict[str, Any] | None:
    """Convolutions and PReLU slopes in turn."""
    convolutions = sorted(int(name.split(".")[1]) for name in shapes if re.fullmatch(r"body\.\d+\.bias", name))
    if len(shapes) != 3 * len(convolutions) - 1 or len(convolutions) < 2 or len(shapes["body.0.weight"]) != 4:
        return None
    width, channels = shapes["body.0.weight"][:2]
    last = shapes[f"body.{convolutions[-1]}.weight"]
    return _build_settings(
        "srvgg", math.isqrt(last[0] // channels), channels, {"width": width, "depth": len(convolutions) - 2}
    )


def _infer_rrdb(shapes: Shapes) -> dict[str, Any] | None:
    """BasicSR's RRDBNet, whose dense blocks grow by 32 channels."""
    growth = shapes.get("body.0.rdb1.conv1.weight", (0,))[0]
    if growth != 32 or "conv_first.weight" not in shapes or "conv_last.weight" not in shapes:
        return None
    width, inputs = shapes["conv_first.weight"][:2]
    channels = shapes["conv_last.weight"][0]
    steps = sum(re.fullmatch(r"conv_up\d\.weight", name) is not None for name in shapes)
    scale = (1 << steps) // math.isqrt(inputs // channels)
    depth = len({name.split(".")[1] for name in shapes if name.startswith("body.")})
    return _build_settings("rrdb", scale, channels, {"width": width, "depth": depth})


def _infer_edsr(shapes: Shapes) -> dict[str, Any] | None:
    """EDSR under its authors' or BasicSR's names, of the published sizes."""
    authors, basicsr = "body.0.body.0.weight" in shapes, "body.0.conv1.weight" in shapes
    first = shapes.get("head.0.weight" if authors else "conv_first.weight")
    if first is None or len(first) != 4 or not (authors or (basicsr and "conv_after_body.weight" in shapes)):
        return None
    pattern = r"tail\.0\.\d+\.weight" if authors else r"upsample\.\d+\.weight"
    steps = [math.isqrt(shape[0] // shape[1]) for name, shape in shapes.items() if re.fullmatch(pattern, name)]
    part = r"body\.\d+\.body\.0\.weight" if authors else r"body\.\d+\.conv1\.weight"
    depth = sum(re.fullmatch(part, name) is not None for name in shapes)
    arch = _EDSR_SIZES.get((first[0], depth))
    return None if arch is None else _build_settings(arch, math.prod(steps), first[1], {})


def _build_settings(arch: str, scale: int, channels: int, model: dict[str, Any]) -> dict[str, Any]:
    color = "Y" if channels <= 4 else "RGB"
    backbone, quality = {"channels": channels}, {"color": color}
    return {"arch": arch, "scale": scale, "model": model, "backbone": backbone, "quality": quality}
