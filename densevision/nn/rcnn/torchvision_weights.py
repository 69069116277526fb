"""State dicts of torchvision's two-stage detectors as tensors and options of ours, every one accounted for."""

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
from densevision.nn.pretrained import FROZEN

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-5
"""What batch norms add to their variance."""
MOBILE = "backbone.body.16.0.weight"
"""A tensor that only the detectors on MobileNetV3 have."""
MOBILE_LEVELS = ("blocks.5.0", "blocks.6")
"""What those detectors make their pyramid of, by timm's names: the first block of stride 32, and the last layer."""

_RULES = (
    (r"^backbone\.body\.(?=conv|bn|layer)", "encoder.network."),
    (r"^backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)", r"backbone.fpn.\1_blocks.\2.0.\3"),
    (r"^backbone\.fpn\.", "head.neck.pyramid."),
    (r"^rpn\.head\.conv\.(weight|bias)", r"head.proposals.convolve.0.0.\1"),
    (r"^rpn\.head\.conv\.", "head.proposals.convolve."),
    (r"^rpn\.head\.cls_logits", "head.proposals.objectness"),
    (r"^rpn\.head\.bbox_pred", "head.proposals.offsets"),
    (r"^roi_heads\.box_head\.fc([67])", lambda found: f"head.box.connect.{int(found[1]) - 6}"),
    (r"^roi_heads\.box_head\.(\d)\.(\d)\.", r"head.box.convolve.\1.\2."),
    (r"^roi_heads\.box_head\.5\.", "head.box.connect.0."),
    (r"^roi_heads\.box_predictor\.cls_score", "head.box.classify"),
    (r"^roi_heads\.box_predictor\.bbox_pred", "head.box.regress"),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda found: f"head.mask.convolve.{int(found[1]) - 1}.0."),
    (r"^roi_heads\.mask_head\.", "head.mask.convolve."),
    (r"^roi_heads\.mask_predictor\.conv5_mask", "head.mask.enlarge"),
    (r"^roi_heads\.mask_predictor\.mask_fcn_logits", "head.mask.predict"),
    (r"^roi_heads\.keypoint_head\.(\d+)\.", lambda found: f"head.keypoint.convolve.{int(found[1]) // 2}.0."),
    (r"^roi_heads\.keypoint_predictor\.kps_score_lowres", "head.keypoint.enlarge"),
)


def read_state(file: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a two-stage detector's checkpoint.

    Raises:
        WeightsError: The file holds something else.
    """
    hint = f"Give the state dict of {name}."
    tensors = checkpoint.read_state(file, hint)
    if "roi_heads.box_predictor.cls_score.weight" not in tensors:
        raise WeightsError("is not the state dict of a two-stage detector of torchvision", file=file, hint=hint)
    return tensors


def is_published(file: Path, sha256: str) -> bool:
    """Whether a file is the one that torchvision publishes; `sha256` is the start of that one's hash."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest().startswith(sha256)


def backbone_options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of `BackboneConfig` that the names of a detector's tensors tell."""
    name = "mobilenetv3_large_100" if MOBILE in tensors else "resnet50"
    norms = {"norm_layer": FROZEN} if has_frozen_norms(tensors) else {}
    return {"name": name, "mean": MEAN, "std": STD, "options": norms}


def options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of `RcnnConfig` that the shapes and names of a detector's tensors tell."""
    if MOBILE in tensors:
        anchors = {"everywhere": True}
        return {"width": 256, "strides": (32, 32), "levels": MOBILE_LEVELS, "anchors": anchors}
    improved = "roi_heads.box_head.0.0.weight" in tensors
    depth = 2 if "rpn.head.conv.1.0.weight" in tensors else 1
    box = {"convolutions": 4, "hidden": (1024,)} if improved else {}
    return {"width": 256, "norm": "batch" if improved else "none", "proposals": {"depth": depth}, "box": box}


def has_frozen_norms(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the backbone's norms are torchvision's frozen ones, which count no batches."""
    return not any(name.startswith("backbone.") and name.endswith("num_batches_tracked") for name in tensors)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names; what fits no rule keeps its own."""
    found = {}
    for name, tensor in tensors.items():
        name = _mobile_name(name, tensors)
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


_MOBILE_STAGES = (1, 2, 4, 7, 11, 13, 16)
"""The first block of each stage of MobileNetV3, as torchvision counts the blocks."""
_MOBILE_LAYERS = {2: ("conv_dw", "bn1", "conv_pw", "bn2"), 3: ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")}
"""Convolutions of a block -> timm's names of them and of their norms, in turn."""


def _mobile_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The name that a tensor of a MobileNetV3 has in timm, in our network; other names as they are."""
    found = re.match(r"backbone\.body\.(\d+)\.(?:block\.)?(.+)$", name)
    if MOBILE not in tensors or found is None:
        return name
    block, rest = int(found[1]), found[2]
    stage = sum(block >= first for first in _MOBILE_STAGES) - 1
    if ".block." not in name:
        layer, _, leaf = rest.partition(".")
        place = "" if stage < 0 else f"blocks.{stage}.0."
        return f"encoder.network.{place}{('conv_stem' if stage < 0 else 'conv', 'bn1')[int(layer)]}.{leaf}"
    place = f"encoder.network.blocks.{stage}.{block - _MOBILE_STAGES[stage]}"
    layer, part, leaf = rest.split(".", 2)
    if part in ("fc1", "fc2"):
        return f"{place}.se.{'conv_reduce' if part == 'fc1' else 'conv_expand'}.{leaf}"
    prefix = name[: name.index(".block.") + len(".block.")]
    squeezes = {own.split(".")[4] for own in tensors if own.startswith(prefix) and ".fc1." in own}
    last = max(int(own[len(prefix) :].split(".")[0]) for own in tensors if own.startswith(prefix))
    order = [row for row in range(last + 1) if str(row) not in squeezes]
    return f"{place}.{_MOBILE_LAYERS[len(order)][2 * order.index(int(layer)) + int(part)]}.{leaf}"


def with_unit_variance(tensors: Mapping[str, Tensor], epsilon: float) -> dict[str, Tensor]:
    """Frozen norms with their variance in their weight, so that what is added to the variance no longer matters.

    torchvision runs its published weights with nothing added, and frozen norms of one's own with `EPSILON`.
    """
    changed = dict(tensors)
    for name, variance in tensors.items():
        norm, _, leaf = name.rpartition(".")
        if leaf == "running_var" and name.startswith("encoder."):
            scale = (variance.double() + epsilon).rsqrt()
            changed[f"{norm}.weight"] = (tensors[f"{norm}.weight"].double() * scale).to(variance.dtype)
            changed[name] = torch.full_like(variance, 1 - EPSILON)
    return changed


def converted(net: nn.Module, state: Mapping[str, Tensor], file: Path, sha256: str, exact: bool) -> dict[str, Tensor]:
    """A state dict of torchvision as one of ours that answers alike.

    Args:
        net: The network, of which only names and shapes are read.
        state: What `read_state` gave.
        file: Where it was read from.
        sha256: The start of the published file's hash.
        exact: Whether torchvision runs the published weights with nothing added to the variance of frozen norms.

    Raises:
        WeightsError: A tensor is missing, left over, or of another shape.
    """
    tensors = renamed(state)
    if has_frozen_norms(state):
        tensors = with_unit_variance(tensors, 0.0 if exact and is_published(file, sha256) else EPSILON)
    return fitted(net, tensors, file)


def fitted(net: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors in the order of the network, with the mean and deviation of its encoder.

    Raises:
        WeightsError: A tensor is missing, left over, or of another shape.
    """
    own = net.state_dict()
    given = {**tensors}
    for name, values in (("encoder.mean", MEAN), ("encoder.std", STD)):
        given[name] = torch.tensor(values).view(1, -1, 1, 1)
    for problem, names in (
        ("lacks", own.keys() - given.keys()),
        ("has besides", given.keys() - own.keys()),
        ("has in another shape", {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}),
    ):
        if names:
            value = ", ".join(sorted(names)[:3])
            raise WeightsError(f"the state dict {problem} {len(names)} tensors", file=file, value=value)
    return {name: given[name] for name in own}
