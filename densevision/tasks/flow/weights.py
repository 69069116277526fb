"""Published weights: RAFT of torchvision and princeton-vl, SEA-RAFT of its authors and of ptlflow."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from densevision.io.checkpoint import Rules, check_state_dict, read_state_dict, rename_state_dict
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.flow.config import FlowConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PUBLISHED", "convert", "rename_tensors"]

LICENSE = "BSD-3-Clause; the training data has terms of its own"
_CT = "FlyingChairs, FlyingThings3D"
_SINTEL = f"{_CT}, Sintel, KITTI, HD1K"
_KITTI = f"{_SINTEL}; then KITTI 2015"
_SINTEL_TRAIN, _SINTEL_TEST, _KITTI_TEST = "Sintel clean EPE, train", "Sintel clean EPE, test", "KITTI 2015 Fl, test"

_TORCHVISION = (
    ("raft_large", "raft_large_C_T_SKHT_V2-ff5fadd5", _SINTEL, (_SINTEL_TEST, 1.819)),
    ("raft_large_c_t_v1", "raft_large_C_T_V1-22a6c225", _CT, (_SINTEL_TRAIN, 1.4411)),
    ("raft_large_c_t", "raft_large_C_T_V2-1bb1363a", _CT, (_SINTEL_TRAIN, 1.3822)),
    ("raft_large_sintel_v1", "raft_large_C_T_SKHT_V1-0b8c9e55", _SINTEL, (_SINTEL_TEST, 1.94)),
    ("raft_large_sintel", "raft_large_C_T_SKHT_V2-ff5fadd5", _SINTEL, (_SINTEL_TEST, 1.819)),
    ("raft_large_kitti_v1", "raft_large_C_T_SKHT_K_V1-4a6a5039", _KITTI, (_KITTI_TEST, 5.1)),
    ("raft_large_kitti", "raft_large_C_T_SKHT_K_V2-b5c70766", _KITTI, (_KITTI_TEST, 5.19)),
    ("raft_small", "raft_small_C_T_V2-01064c6d", _CT, (_SINTEL_TRAIN, 1.9901)),
    ("raft_small_c_t_v1", "raft_small_C_T_V1-ad48884c", _CT, (_SINTEL_TRAIN, 2.1231)),
)
"""Name, file (its last part is the start of its SHA-256), training data, metric. V1 was trained by princeton-vl."""

_PRINCETON = (
    ("raft-chairs", "FlyingChairs"),
    ("raft-things", _CT),
    ("raft-sintel", _SINTEL),
    ("raft-kitti", _KITTI),
    ("raft-small", _CT),
)
"""Name in princeton-vl's archive of models, training data."""

_SEA_RAFT_DATA = {
    "chairs": "TartanAir, FlyingChairs",
    "things": f"TartanAir, {_CT}",
    "sintel": f"TartanAir, {_SINTEL}",
    "kitti": f"TartanAir, {_KITTI}",
}
"""Stage of SEA-RAFT's training -> its data."""
_SPRING = f"TartanAir, {_SINTEL}; then Spring"
_SEA_RAFT: dict[str, tuple[float, float, str, float | None]] = {
    "s": (8.9, 35.6, "d6a75e47f2630ba6c354ce84a322e24c3d9def668a6956f340a054b9a3211908", 0.377),
    "m": (19.7, 78.8, "", 0.363),
    "l": (19.7, 78.8, "", None),
}
"""Size -> millions of parameters, megabytes, SHA-256, EPE on Spring (the paper). L is M with more iterations."""
_PTLFLOW = {
    ("s", "chairs"): "6980249f",
    ("s", "things"): "a15c1713",
    ("s", "sintel"): "bb63371a",
    ("s", "kitti"): "3a96c1cc",
    ("m", "chairs"): "1cb7b11e",
    ("m", "things"): "ac45dd7f",
    ("m", "sintel"): "f8bb7e3f",
    ("m", "kitti"): "e51f7603",
}
"""Size and stage of the authors' weights in ptlflow's format -> start of the SHA-256."""

_ARCHIVE = "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip"


def _torchvision() -> Iterable[PublishedWeights]:
    for name, file, data, metric in _TORCHVISION:
        yield PublishedWeights(
            name=f"torchvision/{name}",
            task="flow",
            address=f"https://download.pytorch.org/models/{file}.pth",
            sha256=file.rsplit("-", 1)[1],
            license=LICENSE,
            megabytes=3.8 if "small" in name else 20.1,
            trained_on=data,
            parameters=1.0 if "small" in name else 5.3,
            metric=metric,
        )


def _princeton() -> Iterable[PublishedWeights]:
    for name, data in _PRINCETON:
        # The publisher states no hash of the archive.
        parameters = 1.0 if "small" in name else 5.3
        yield PublishedWeights(f"princeton-vl/{name}", "flow", _ARCHIVE, "", LICENSE, 81.0, data, parameters)


def _sea_raft() -> Iterable[PublishedWeights]:
    for size, (parameters, megabytes, sha256, error) in _SEA_RAFT.items():
        folder = f"Tartan-C-T-TSKH-spring540x960-{'S' if size == 's' else 'M'}"
        yield PublishedWeights(
            name=f"sea-raft/{size}",
            task="flow",
            address=f"https://huggingface.co/MemorySlices/{folder}/resolve/main/model.safetensors",
            sha256=sha256,
            license=LICENSE,
            megabytes=megabytes,
            trained_on=_SPRING,
            parameters=parameters,
            metric=None if error is None else ("Spring EPE, test", error),
        )
    for (size, stage), digest in _PTLFLOW.items():
        parameters, megabytes, *_ = _SEA_RAFT[size]
        yield PublishedWeights(
            name=f"sea-raft/{size}-{stage}",
            task="flow",
            address=f"https://github.com/hmorimitsu/ptlflow/releases/download/weights1/sea_raft_{size}-{stage}-{digest}.ckpt",
            sha256=digest,
            license=LICENSE,
            megabytes=megabytes,
            trained_on=_SEA_RAFT_DATA[stage],
            parameters=parameters,
        )


PUBLISHED: tuple[PublishedWeights, ...] = (*_torchvision(), *_princeton(), *_sea_raft())
"""Weights that `convert` converts."""


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts a published state dict.

    Args:
        weights: What the file contains.
        file: A checkpoint; for princeton-vl also its archive of several.
        out: The safetensors to write.

    Raises:
        WeightsError: The file is not a state dict of this network.
    """
    from densevision.tasks.flow.models.sea_raft import convert_state_dict
    from densevision.tasks.flow.task import Flow

    is_sea_raft = weights.name.startswith("sea-raft/")
    if is_sea_raft:
        config = FlowConfig.from_dict({"arch": f"sea_raft_{weights.name.split('/')[1][0]}"})
    else:
        arch = "raft_small" if "small" in weights.name else "raft_large"
        config = FlowConfig.from_dict({"arch": arch, "model": {"occlusion": False}})
    expected = Flow(config).meta_model.state_dict()
    published = _read_checkpoint(weights, file)
    tensors = convert_state_dict(published) if is_sea_raft else rename_tensors(published)
    tensors = check_state_dict(tensors, expected, weights.name, file, f"Is it {weights.name}? Small and large differ.")
    save_weights(out, tensors, weights.card(config.to_dict()))


def rename_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames a state dict of torchvision's or princeton-vl's RAFT."""
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    is_princeton = any(name.startswith("fnet.") for name in plain)
    return rename_state_dict(plain, _PRINCETON_RULES if is_princeton else _TORCHVISION_RULES)


def _stage(number: str) -> str:
    return f"stages.{int(number) - 1}"


_TORCHVISION_RULES: Rules = (
    (r"^feature_encoder\.", "encoder.features."),
    (r"(features|context_encoder)\.convnormrelu\.", r"\1.stem."),
    (r"\blayer(\d)", lambda match: _stage(match[1])),
    (r"\.convnormrelu(\d)\.", lambda match: f".convolutions.{int(match[1]) - 1}."),
    (r"\.downsample\.", ".shortcut."),
    (r"(features|context_encoder)\.conv\.", r"\1.project."),
    (
        r"^update_block\.motion_encoder\.convcorr(\d)\.0",
        lambda match: f"motion_encoder.correlation.{int(match[1]) - 1}.0",
    ),
    (r"^update_block\.motion_encoder\.convflow(\d)\.0", lambda match: f"motion_encoder.flow.{int(match[1]) - 1}.0"),
    (r"^update_block\.motion_encoder\.conv\.0", "motion_encoder.join.0"),
    (r"^update_block\.recurrent_block\.convgru(\d)", lambda match: f"update_block.grus.{int(match[1]) - 1}"),
    (r"\.convz\.", ".update."),
    (r"\.convr\.", ".reset."),
    (r"\.convq\.", ".candidate."),
    (r"^update_block\.flow_head\.conv(\d)", lambda match: f"flow_head.{2 * int(match[1]) - 2}"),
    (r"^mask_predictor\.convrelu\.0", "upsampler.weights.0"),
    (r"^mask_predictor\.conv\.", "upsampler.weights.2."),
)

_PRINCETON_RULES: Rules = (
    # The norm of a shortcut is saved twice: in the shortcut, and as the block's last norm.
    (r"^.*layer\d\.\d\.norm[34]\..*$", ""),
    (r"^fnet\.", "encoder.features."),
    (r"^cnet\.", "context_encoder."),
    (r"(features|context_encoder)\.conv1\.", r"\1.stem.0."),
    (r"(features|context_encoder)\.norm1\.", r"\1.stem.1."),
    (r"(features|context_encoder)\.conv2\.", r"\1.project."),
    (r"\blayer(\d)", lambda match: _stage(match[1])),
    (r"(stages\.\d\.\d)\.conv(\d)\.", lambda match: f"{match[1]}.convolutions.{int(match[2]) - 1}.0."),
    (r"(stages\.\d\.\d)\.norm(\d)\.", lambda match: f"{match[1]}.convolutions.{int(match[2]) - 1}.1."),
    (r"\.downsample\.", ".shortcut."),
    (r"^update_block\.encoder\.convc(\d)", lambda match: f"motion_encoder.correlation.{int(match[1]) - 1}.0"),
    (r"^update_block\.encoder\.convf(\d)", lambda match: f"motion_encoder.flow.{int(match[1]) - 1}.0"),
    (r"^update_block\.encoder\.conv\.", "motion_encoder.join.0."),
    (r"^update_block\.gru\.conv([zrq])\.", r"update_block.gru.conv\g<1>1."),
    (r"^update_block\.gru\.convz(\d)", lambda match: f"update_block.grus.{int(match[1]) - 1}.update"),
    (r"^update_block\.gru\.convr(\d)", lambda match: f"update_block.grus.{int(match[1]) - 1}.reset"),
    (r"^update_block\.gru\.convq(\d)", lambda match: f"update_block.grus.{int(match[1]) - 1}.candidate"),
    (r"^update_block\.flow_head\.conv(\d)", lambda match: f"flow_head.{2 * int(match[1]) - 2}"),
    (r"^update_block\.mask\.", "upsampler.weights."),
)


def _read_checkpoint(weights: PublishedWeights, file: Path) -> dict[str, Tensor]:
    """Reads a checkpoint, also from an archive of several; checkpoints are zip files as well."""
    stream: IO[bytes] | None = None
    if zipfile.is_zipfile(file):
        ending = f"{weights.name.split('/')[1]}.pth"
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if name.endswith(ending)]
            stream = io.BytesIO(archive.read(members[0])) if members else None
    return read_state_dict(file, f"Give the file that {weights.address} holds.", stream=stream)
