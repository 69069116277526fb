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

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-5
"""What batch norms add to their variance."""
FROZEN = "frozenbatchnorm2d"
"""timm's name of norms that are never trained."""

_RULES = (
    (r"^backbone\.body\.", "encoder.network."),
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
    """The tensors of a file that `torch.save` wrote.

    Raises:
        WeightsError: It holds something else.
    """
    mend = f"Give the state dict of {name}."
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as failure:  # unpickling foreign bytes raises anything
        raise WeightsError("cannot be read as a state dict", file=file, value=str(failure)[:80], mend=mend) from None
    if not isinstance(tensors, dict) or "roi_heads.box_predictor.cls_score.weight" not in tensors:
        raise WeightsError("is not the state dict of a two-stage detector of torchvision", file=file, mend=mend)
    return tensors


def is_published(file: Path, sha256: str) -> bool:
    """Whether a file is the one that torchvision publishes; `sha256` is the start of that one's hash."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest().startswith(sha256)


def options(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of `RcnnConfig` that the shapes and names of a ResNet detector's tensors tell."""
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
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


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
