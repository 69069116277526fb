"""Conversion of state dicts of torchvision's two-stage detectors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densevision.errors import WeightsError
from densevision.io import checkpoint
from densevision.nn.pretrained import FROZEN_BATCH_NORM

__all__ = ["convert_state_dict", "infer_backbone", "infer_model", "read_state_dict"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH_NORM_EPS = 1e-5
"""What batch norms add to their variance."""
MOBILENET_KEY = "backbone.body.16.0.weight"
"""A tensor that only the detectors on MobileNetV3 have."""
MOBILENET_LEVELS = ("blocks.5.0", "blocks.6")
"""What those detectors make their pyramid of, by timm's names: the first block of stride 32, and the last layer."""

RULES: checkpoint.Rules = (
    (r"^backbone\.body\.(?=conv|bn|layer)", "encoder.network."),
    (r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)", r"backbone.fpn.\1_blocks.\2.0.\3"),
    (r"^backbone\.fpn\.", "head.neck.pyramid."),
    (r"^rpn\.head\.conv\.(weight|bias)", r"head.rpn.convs.0.0.\1"),
    (r"^rpn\.head\.conv\.", "head.rpn.convs."),
    (r"^rpn\.head\.", "head.rpn."),
    (r"^roi_heads\.box_head\.fc([67])", lambda match: f"head.box.fcs.{int(match[1]) - 6}"),
    (r"^roi_heads\.box_head\.(\d)\.(\d)\.", r"head.box.convs.\1.\2."),
    (r"^roi_heads\.box_head\.5\.", "head.box.fcs.0."),
    (r"^roi_heads\.box_predictor\.", "head.box."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda match: f"head.mask.convs.{int(match[1]) - 1}.0."),
    (r"^roi_heads\.mask_head\.", "head.mask.convs."),
    (r"^roi_heads\.mask_predictor\.conv5_mask", "head.mask.upsample"),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits", "head.mask.predictor"),
    (r"^roi_heads\.keypoint_head\.(\d+)\.", lambda match: f"head.keypoint.convs.{int(match[1]) // 2}.0."),
    (r"^roi_heads\.keypoint_predictor\.kps_score_lowres", "head.keypoint.upsample"),
)


def read_state_dict(file: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a two-stage detector's checkpoint.

    Raises:
        WeightsError: The file holds something else.
    """
    hint = f"Give the state dict of {name}."
    tensors = checkpoint.read_state_dict(file, hint)
    if "roi_heads.box_predictor.cls_score.weight" not in tensors:
        raise WeightsError("is not the state dict of a two-stage detector of torchvision", file=file, hint=hint)
    return tensors


def infer_backbone(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of `BackboneConfig` that follow from the names of a detector's tensors."""
    name = "mobilenetv3_large_100" if MOBILENET_KEY in tensors else "resnet50"
    norms = {"norm_layer": FROZEN_BATCH_NORM} if _has_frozen_norms(tensors) else {}
    return {"name": name, "mean": MEAN, "std": STD, "options": norms}


def infer_model(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `TwoStageDetector` that follow from the names of a detector's tensors."""
    if MOBILENET_KEY in tensors:
        return {
            "encoder_strides": (32, 32),
            "encoder_modules": MOBILENET_LEVELS,
            "all_sizes_per_level": True,
            "rpn_score_thresh": 0.05,
        }
    arguments: dict[str, Any] = {}
    if "rpn.head.conv.1.0.weight" in tensors:
        arguments["rpn_depth"] = 2
    if "roi_heads.box_head.0.0.weight" in tensors:
        arguments |= {"norm": "batch", "box_convs": 4, "box_hidden": (1024,)}
    return arguments


def convert_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], name: str, file: Path, sha256: str, is_exact: bool
) -> dict[str, Tensor]:
    """Converts a state dict of torchvision's class into one that gives the same detections.

    Args:
        model: The model, of which only names and shapes are read.
        state: Of `read_state_dict`.
        name: Name of the published weights, for messages.
        file: Where it was read from.
        sha256: The start of the published file's hash.
        is_exact: Whether torchvision adds nothing to the variance of frozen norms in the published weights.

    Raises:
        WeightsError: A tensor is missing, unknown, or of another shape.
    """
    named = {_rename_mobilenet(key, state): tensor for key, tensor in state.items()}
    tensors = checkpoint.rename_state_dict(named, RULES)
    if _has_frozen_norms(state):
        eps = 0.0 if is_exact and _has_hash(file, sha256) else BATCH_NORM_EPS
        tensors = _normalize_variance(tensors, eps)
    for key, values in (("encoder.mean", MEAN), ("encoder.std", STD)):
        tensors[key] = torch.tensor(values).view(1, -1, 1, 1)
    return checkpoint.check_state_dict(tensors, model.state_dict(), name, file)


def _has_hash(file: Path, sha256: str) -> bool:
    """Whether the file's hash starts with `sha256`."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest().startswith(sha256)


def _has_frozen_norms(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the backbone's norms are torchvision's frozen ones, which count no batches."""
    return not any(name.startswith("backbone.") and name.endswith("num_batches_tracked") for name in tensors)


def _normalize_variance(tensors: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Moves the variance of frozen norms into their weights, so that the model's epsilon no longer matters.

    torchvision runs its published weights with an epsilon of 0, and other frozen norms with `BATCH_NORM_EPS`.
    """
    converted = dict(tensors)
    for name, variance in tensors.items():
        norm, _, leaf = name.rpartition(".")
        if leaf == "running_var" and name.startswith("encoder."):
            scale = (variance.double() + eps).rsqrt()
            converted[f"{norm}.weight"] = (tensors[f"{norm}.weight"].double() * scale).to(variance.dtype)
            converted[name] = torch.full_like(variance, 1 - BATCH_NORM_EPS)
    return converted


_MOBILENET_STAGES = (1, 2, 4, 7, 11, 13, 16)
"""The first block of each stage of MobileNetV3, as torchvision counts the blocks."""
_MOBILENET_LAYERS = {
    2: ("conv_dw", "bn1", "conv_pw", "bn2"),
    3: ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"),
}
"""Convolutions of a block -> timm's names of them and of their norms, in turn."""


def _rename_mobilenet(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor of torchvision's MobileNetV3 in timm's; other names are kept."""
    match = re.match(r"backbone\.body\.(\d+)\.(?:block\.)?(.+)$", name)
    if MOBILENET_KEY not in tensors or match is None:
        return name
    block, rest = int(match[1]), match[2]
    stage = sum(block >= first for first in _MOBILENET_STAGES) - 1
    if ".block." not in name:
        layer, _, leaf = rest.partition(".")
        prefix = "" if stage < 0 else f"blocks.{stage}.0."
        return f"encoder.network.{prefix}{('conv_stem' if stage < 0 else 'conv', 'bn1')[int(layer)]}.{leaf}"
    path = f"encoder.network.blocks.{stage}.{block - _MOBILENET_STAGES[stage]}"
    layer, part, leaf = rest.split(".", 2)
    if part in ("fc1", "fc2"):
        return f"{path}.se.{'conv_reduce' if part == 'fc1' else 'conv_expand'}.{leaf}"
    prefix = name[: name.index(".block.") + len(".block.")]
    squeezes = {key.split(".")[4] for key in tensors if key.startswith(prefix) and ".fc1." in key}
    last = max(int(key[len(prefix) :].split(".")[0]) for key in tensors if key.startswith(prefix))
    layers = [row for row in range(last + 1) if str(row) not in squeezes]
    return f"{path}.{_MOBILENET_LAYERS[len(layers)][2 * layers.index(int(layer)) + int(part)]}.{leaf}"
