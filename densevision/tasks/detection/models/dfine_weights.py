"""State dicts of D-FINE as others publish them, in the names of ours.

Two layouts are known: that of Hugging Face transformers' `DFineForObjectDetection` (`save_pretrained`, from 4.52 on),
and that of the authors' repository (Peterande/D-FINE).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["arguments_of", "check_state_dict", "convert_state_dict"]

COMMON_RULES = (
    (r"\.embedder\.", ".stem."),
    (r"\.convolution\.", ".conv."),
    (r"\.normalization\.", ".bn."),
    (r"^backbone\.(?:model\.)?(?:encoder\.)?stages\.(\d+)\.", r"backbone.stages_\1."),
    (r"^backbone\.model\.stem\.", "backbone.stem."),
    (r"^encoder\.lateral_convs\.", "encoder.lateral."),
    (r"^encoder\.fpn_blocks\.", "encoder.top_down."),
    (r"^encoder\.pan_blocks\.", "encoder.bottom_up."),
    (r"^encoder\.downsample_convs\.", "encoder.downsample."),
    (r"\.query_pos_head\.", ".query_position."),
    (r"\.pre_bbox_head\.", ".initial_box."),
    (r"\.lqe_layers\.(\d+)\.reg_conf\.", r".quality.\1.estimate."),
)

TRANSFORMERS_RULES = (
    (r"^model\.", ""),
    (r"^encoder_input_proj\.", "encoder.project."),
    (r"^encoder\.(?:encoder|aifi)\.0\.layers\.", "encoder.attention."),
    (r"\.csp_rep([12])\.", r".csp\1."),
    (r"^decoder_input_proj\.", "project."),
    (r"^enc_output\.", "selection.project."),
    (r"^enc_score_head\.", "selection.score."),
    (r"^enc_bbox_head\.", "selection.box."),
    (r"^denoising_class_embed\.", "denoising_embedding."),
    (r"^(?:decoder\.)?class_embed\.", "decoder.score."),
    (r"^(?:decoder\.)?bbox_embed\.", "decoder.box."),
    (r"\.self_attn\.q_proj\.", ".self_attention.query."),
    (r"\.self_attn\.k_proj\.", ".self_attention.key."),
    (r"\.self_attn\.v_proj\.", ".self_attention.value."),
    (r"\.self_attn\.(?:out_proj|o_proj)\.", ".self_attention.out."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.encoder_attn\.", ".cross_attention."),
    (r"\.fc([12])\.", lambda m: f".feedforward.layers.{int(m[1]) - 1}."),
    (r"\.mlp\.layers\.", ".feedforward.layers."),
    *COMMON_RULES,
)

AUTHORS_RULES = (
    (r"^encoder\.input_proj\.(\d+)\.conv\.", r"encoder.project.\1.0."),
    (r"^encoder\.input_proj\.(\d+)\.norm\.", r"encoder.project.\1.1."),
    (r"^encoder\.encoder\.0\.layers\.", "encoder.attention."),
    (r"\.downsample_convs\.(\d+)\.0\.cv([12])\.", r".downsample_convs.\1.conv\2."),
    (r"\.(fpn|pan)_blocks\.(\d+)\.cv2\.0\.", r".\1_blocks.\2.csp1."),
    (r"\.(fpn|pan)_blocks\.(\d+)\.cv2\.1\.", r".\1_blocks.\2.conv2."),
    (r"\.(fpn|pan)_blocks\.(\d+)\.cv3\.0\.", r".\1_blocks.\2.csp2."),
    (r"\.(fpn|pan)_blocks\.(\d+)\.cv3\.1\.", r".\1_blocks.\2.conv3."),
    (r"\.(fpn|pan)_blocks\.(\d+)\.cv([14])\.", r".\1_blocks.\2.conv\3."),
    (r"^decoder\.input_proj\.(\d+)\.conv\.", r"project.\1.0."),
    (r"^decoder\.input_proj\.(\d+)\.norm\.", r"project.\1.1."),
    (r"^decoder\.enc_output\.proj\.", "selection.project.0."),
    (r"^decoder\.enc_output\.norm\.", "selection.project.1."),
    (r"^decoder\.enc_score_head\.", "selection.score."),
    (r"^decoder\.enc_bbox_head\.", "selection.box."),
    (r"^decoder\.denoising_class_embed\.", "denoising_embedding."),
    (r"^decoder\.dec_score_head\.", "decoder.score."),
    (r"^decoder\.dec_bbox_head\.", "decoder.box."),
    (r"^decoder\.decoder\.", "decoder."),
    (r"\.self_attn\.out_proj\.", ".self_attention.out."),
    (r"\.self_attn\.", ".self_attention."),
    (r"\.cross_attn\.", ".cross_attention."),
    (r"\.linear([12])\.", lambda m: f".feedforward.layers.{int(m[1]) - 1}."),
    (r"\.norm3\.", ".norm2."),
    *COMMON_RULES,
)

DERIVED = re.compile(r"(^|\.)(anchors|valid_mask|pos_embed\d+)$")
"""Tensors that are computed from the size of the canvas."""


def convert_state_dict(state: Mapping[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Renames the tensors of a published state dict.

    Args:
        state: In the layout of transformers or of the authors.
        model: The `DFine` that they are for; None leaves names and shapes unchecked.

    Returns:
        The state dict of ours, tensors by reference.

    Raises:
        ValueError: The layout is unknown; or names or shapes do not match those of `model`. The message lists them.
    """
    is_authors = any(name.startswith("decoder.decoder.") for name in state)
    if not is_authors and not any("encoder_input_proj" in name for name in state):
        names = ", ".join(sorted(state)[:3]) or "none"
        raise ValueError(
            f"not a D-FINE state dict of transformers or of the authors' repository: its first tensors are {names}"
        )
    rules = [(re.compile(pattern), new) for pattern, new in (AUTHORS_RULES if is_authors else TRANSFORMERS_RULES)]
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if DERIVED.search(name):
            continue
        for pattern, new in rules:
            name = pattern.sub(new, name)
        for part, value in _split_projections(name, tensor):
            converted.setdefault(part, value)  # transformers may hold the heads twice
    # Norms that others keep frozen do not count their batches.
    for name in [name for name in converted if name.endswith(".running_mean")]:
        converted.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    if model is not None:
        check_state_dict(converted, model)
    return converted


def check_state_dict(state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Compares names and shapes.

    Raises:
        ValueError: Tensors are missing, unknown or of another shape; the message lists the first of each.
    """
    own = model.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)} and should be {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = {"missing": sorted(set(own) - set(state)), "unknown": sorted(set(state) - set(own)), "shapes": shapes}
    if any(faults.values()):
        raise ValueError(
            "the state dict does not fit the network: "
            + "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in faults.items() if names)
        )


def arguments_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments that follow from a converted state dict.

    Args:
        state: From `convert_state_dict`.

    Returns:
        "num_classes" and "in_channels".
    """
    return {
        "num_classes": state["decoder.score.0.weight"].shape[0],
        "in_channels": state["backbone.stem.stem1.conv.weight"].shape[1],
    }


def _split_projections(name: str, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
    """The authors' joint matrix of queries, keys and values becomes three."""
    joint = re.match(r"(.*\.self_attention\.)in_proj_(weight|bias)$", name)
    if not joint:
        return [(name, tensor)]
    parts = zip(("query", "key", "value"), tensor.chunk(3))
    return [(f"{joint[1]}{part}.{joint[2]}", value) for part, value in parts]


def _some(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
