"""Published FCN, DeepLabV3 and LR-ASPP weights under the names of `FCN`, `DeepLabV3` and `LRASPP`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from densevision.io.checkpoint import Rules, rename_state_dict

__all__ = ["convert_state_dict"]

_MOBILENETV3_STAGES = (1, 2, 3, 4, 2, 3)
"""Blocks of each of timm's stages; torchvision counts them from 1 through all stages."""

_HEAD_RULES: Rules = (
    (r"^(?:classifier\.0|aspp)\.convs\.(\d+)\.", r"head.branches.\1."),
    (r"^(?:classifier\.0|aspp)\.project\.", "head.project."),
    (r"^classifier\.(1|2)\.", lambda match: f"head.refine.{int(match[1]) - 1}."),
    (r"^(?:classifier\.4|logits)\.", "head.classifier."),
    (r"^aux_classifier\.", "auxiliary."),
    (r"^classifier\.cbr\.", "head.project."),
    (r"^classifier\.scale\.1\.", "head.gate."),
    (r"^classifier\.low_classifier\.", "head.shallow_classifier."),
    (r"^classifier\.high_classifier\.", "head.deep_classifier."),
)

_FCN_RULES: Rules = ((r"^classifier\.", "head."), (r"^aux_classifier\.", "auxiliary."))


def convert_state_dict(weights: Mapping[str, Tensor], auxiliary: bool = True) -> dict[str, Tensor]:
    """Renames published weights; tensors that no rule fits keep their name.

    Args:
        weights: State dict of torchvision's FCN, DeepLabV3 (ResNet-50, ResNet-101, MobileNetV3-Large) or LR-ASPP, or of
            Google's MobileNetV2 DeepLab (`backbone.` in timm's names, `aspp.`, `logits.`).
        auxiliary: Keep the auxiliary head.

    Returns:
        The model's state dict without the constants of the normalization.
    """
    pooling = _find_pooling_branch(weights)
    mobilenetv3 = _rename_mobilenetv3(weights) if "backbone.0.0.weight" in weights else {}
    rules: Rules = (
        (r"^backbone\.", "encoder.network."),
        *(_FCN_RULES if "classifier.0.weight" in weights else _HEAD_RULES),
        # The pooling branch begins with a layer without weights.
        (rf"^head\.branches\.{pooling}\.(\d)", lambda match: f"head.pooling.{int(match[1]) - 1}"),
    )
    ignored = r"^backbone\.fc\." if auxiliary else r"^backbone\.fc\.|^aux_classifier\."
    tensors = {mobilenetv3.get(name, name): tensor for name, tensor in weights.items()}
    return rename_state_dict(tensors, rules, ignored)


def _find_pooling_branch(weights: Mapping[str, Tensor]) -> int:
    """Number of the last branch of the spatial pyramid; -1 without one."""
    matches = (re.match(r"(?:classifier\.0|aspp)\.convs\.(\d+)\.", name) for name in weights)
    return max((int(match[1]) for match in matches if match), default=-1)


def _rename_mobilenetv3(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of torchvision's MobileNetV3-Large features to timm's: stem, 15 blocks, last convolution."""
    prefixes = {0: ("conv_stem", "bn1"), 16: ("blocks.6.0.conv", "blocks.6.0.bn1")}
    places = [(stage, block) for stage, blocks in enumerate(_MOBILENETV3_STAGES) for block in range(blocks)]
    layers: dict[int, set[int]] = {}
    excitations = {}
    for name in weights:
        if match := re.match(r"backbone\.(\d+)\.block\.(\d+)\.(0|fc1)\.", name):
            index, layer = int(match[1]), int(match[2])
            if match[3] == "fc1":
                excitations[index] = layer
            else:
                layers.setdefault(index, set()).add(layer)
    names = {}
    for name in weights:
        if match := re.match(r"backbone\.(\d+)\.([01])\.(.+)", name):
            names[name] = f"encoder.network.{prefixes[int(match[1])][int(match[2])]}.{match[3]}"
        elif match := re.match(r"backbone\.(\d+)\.block\.(\d+)\.(0|1|fc1|fc2)\.(.+)", name):
            index, layer, part, rest = int(match[1]), int(match[2]), match[3], match[4]
            stage, block = places[index - 1]
            if layer == excitations.get(index):
                module = {"fc1": "se.conv_reduce", "fc2": "se.conv_expand"}[part]
            else:
                order = sorted(layers[index])
                # A block without expansion is depthwise separable.
                convolutions = ("conv_dw", "conv_pw") if len(order) == 2 else ("conv_pw", "conv_dw", "conv_pwl")
                position = order.index(layer)
                module = convolutions[position] if part == "0" else f"bn{position + 1}"
            names[name] = f"encoder.network.blocks.{stage}.{block}.{module}.{rest}"
    return names
