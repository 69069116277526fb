"""Published RAFT weights, torchvision's and princeton-vl's, as weights of ours."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.flow.config import FlowConfig

if TYPE_CHECKING:
    from torch import Tensor

LICENSE = "BSD-3-Clause; the training data has terms of its own"
_CT = "FlyingChairs, FlyingThings3D"
_SINTEL = f"{_CT}, Sintel, KITTI, HD1K"
_KITTI = f"{_SINTEL}; then KITTI 2015"

_TORCHVISION = (
    ("raft_large", "raft_large_C_T_SKHT_V2-ff5fadd5", 20.1, _SINTEL),
    ("raft_large_c_t_v1", "raft_large_C_T_V1-22a6c225", 20.1, _CT),
    ("raft_large_c_t", "raft_large_C_T_V2-1bb1363a", 20.1, _CT),
    ("raft_large_sintel_v1", "raft_large_C_T_SKHT_V1-0b8c9e55", 20.1, _SINTEL),
    ("raft_large_sintel", "raft_large_C_T_SKHT_V2-ff5fadd5", 20.1, _SINTEL),
    ("raft_large_kitti_v1", "raft_large_C_T_SKHT_K_V1-4a6a5039", 20.1, _KITTI),
    ("raft_large_kitti", "raft_large_C_T_SKHT_K_V2-b5c70766", 20.1, _KITTI),
    ("raft_small", "raft_small_C_T_V2-01064c6d", 3.8, _CT),
    ("raft_small_c_t_v1", "raft_small_C_T_V1-ad48884c", 3.8, _CT),
)
"""Name, file (its last part is the start of its SHA-256), megabytes, training data. V1 is princeton-vl's."""

_PRINCETON = (
    ("raft-chairs", "FlyingChairs"),
    ("raft-things", _CT),
    ("raft-sintel", _SINTEL),
    ("raft-kitti", _KITTI),
    ("raft-small", _CT),
)
"""Names as in princeton-vl's archive of models."""

_ARCHIVE = "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip"


def _torchvision() -> Iterable[PublishedWeights]:
    for name, file, megabytes, data in _TORCHVISION:
        address = f"https://download.pytorch.org/models/{file}.pth"
        yield PublishedWeights(f"torchvision/{name}", "flow", address, file.rsplit("-", 1)[1], LICENSE, megabytes, data)


def _princeton() -> Iterable[PublishedWeights]:
    for name, data in _PRINCETON:
        # The archive's publisher states no hash.
        yield PublishedWeights(f"princeton-vl/{name}", "flow", _ARCHIVE, "", LICENSE, 81.0, data)


PUBLISHED: tuple[PublishedWeights, ...] = (*_torchvision(), *_princeton())
"""Weights that `convert` knows."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a foreign state dict as weights of ours, every tensor accounted for.

    Args:
        weights: What the file is.
        file: A `.pth`; or princeton-vl's archive, which holds several.
        out: The safetensors to write.

    Raises:
        WeightsError: The file is no state dict, or not of the network that its name says.
    """
    import torch

    from densevision.tasks.flow.task import Flow

    large = "small" not in weights.name
    config = FlowConfig.checked({"preset": "large" if large else "small", "occlusion": False})
    found = renamed(_loaded(weights, file))
    with torch.device("meta"):
        expected = Flow(config).net().state_dict()
    _check(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, weights, file)
    save_weights(out, {name: found[name] for name in expected}, weights.card(config.plain()))


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision's RAFT or of princeton-vl's under our names; what fits no rule keeps its own."""
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    rules = _PRINCETON_RULES if any(name.startswith("fnet.") for name in plain) else _TORCHVISION_RULES
    found = {}
    for name, tensor in plain.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if name:
            found[name] = tensor
    return found


def _stage(number: str) -> str:
    return f"stages.{int(number) - 1}"


_TORCHVISION_RULES: tuple[tuple[str, object], ...] = (
    (r"^feature_encoder\.", "encoder.features."),
    (r"^context_encoder\.", "head.context."),
    (r"(features|context)\.convnormrelu\.", r"\1.stem."),
    (r"\blayer(\d)", lambda found: _stage(found[1])),
    (r"\.convnormrelu(\d)\.", lambda found: f".convolutions.{int(found[1]) - 1}."),
    (r"\.downsample\.", ".shortcut."),
    (r"(features|context)\.conv\.", r"\1.project."),
    (r"^update_block\.motion_encoder\.convcorr(\d)\.0", lambda found: f"head.motion.correlation.{int(found[1]) - 1}.0"),
    (r"^update_block\.motion_encoder\.convflow(\d)\.0", lambda found: f"head.motion.flow.{int(found[1]) - 1}.0"),
    (r"^update_block\.motion_encoder\.conv\.0", "head.motion.join.0"),
    (r"^update_block\.recurrent_block\.convgru(\d)", lambda found: f"head.memory.units.{int(found[1]) - 1}"),
    (r"\.convz\.", ".update."),
    (r"\.convr\.", ".reset."),
    (r"\.convq\.", ".candidate."),
    (r"^update_block\.flow_head\.conv(\d)", lambda found: f"head.change.{2 * int(found[1]) - 2}"),
    (r"^mask_predictor\.convrelu\.0", "head.upsample.weights.0"),
    (r"^mask_predictor\.conv\.", "head.upsample.weights.2."),
)

_PRINCETON_RULES: tuple[tuple[str, object], ...] = (
    # The norm of a shortcut is saved twice: inside the shortcut, and as the block's last norm.
    (r"^.*layer\d\.\d\.norm[34]\..*$", ""),
    (r"^fnet\.", "encoder.features."),
    (r"^cnet\.", "head.context."),
    (r"(features|context)\.conv1\.", r"\1.stem.0."),
    (r"(features|context)\.norm1\.", r"\1.stem.1."),
    (r"(features|context)\.conv2\.", r"\1.project."),
    (r"\blayer(\d)", lambda found: _stage(found[1])),
    (r"(stages\.\d\.\d)\.conv(\d)\.", lambda found: f"{found[1]}.convolutions.{int(found[2]) - 1}.0."),
    (r"(stages\.\d\.\d)\.norm(\d)\.", lambda found: f"{found[1]}.convolutions.{int(found[2]) - 1}.1."),
    (r"\.downsample\.", ".shortcut."),
    (r"^update_block\.encoder\.convc(\d)", lambda found: f"head.motion.correlation.{int(found[1]) - 1}.0"),
    (r"^update_block\.encoder\.convf(\d)", lambda found: f"head.motion.flow.{int(found[1]) - 1}.0"),
    (r"^update_block\.encoder\.conv\.", "head.motion.join.0."),
    (r"^update_block\.gru\.conv([zrq])\.", r"update_block.gru.conv\g<1>1."),
    (r"^update_block\.gru\.convz(\d)", lambda found: f"head.memory.units.{int(found[1]) - 1}.update"),
    (r"^update_block\.gru\.convr(\d)", lambda found: f"head.memory.units.{int(found[1]) - 1}.reset"),
    (r"^update_block\.gru\.convq(\d)", lambda found: f"head.memory.units.{int(found[1]) - 1}.candidate"),
    (r"^update_block\.flow_head\.conv(\d)", lambda found: f"head.change.{2 * int(found[1]) - 2}"),
    (r"^update_block\.mask\.", "head.upsample.weights."),
)


def _loaded(weights: PublishedWeights, file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, also where it lies in an archive of several; a checkpoint is a zip file as well."""
    stream: IO[bytes] | None = None
    if zipfile.is_zipfile(file):
        wanted = f"{weights.name.split('/')[1]}.pth"
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if name.endswith(wanted)]
            stream = io.BytesIO(archive.read(members[0])) if members else None
    return read_state(file, f"Give the file that {weights.address} holds.", stream=stream)


def _check(
    found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], weights: PublishedWeights, file: Path
) -> None:
    hint = f"Is it {weights.name}? Small and large differ."
    for problem, names in (
        ("are missing", expected.keys() - found.keys()),
        ("are unknown", found.keys() - expected.keys()),
    ):
        if names:
            raise WeightsError(f"{len(names)} tensors {problem}", file=file, value=sorted(names)[:3], hint=hint)
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise WeightsError(f"another shape than {shape}", file=file, field=name, value=found[name].shape, hint=hint)
