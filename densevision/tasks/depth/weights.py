"""Depth Anything V2 as its authors and the transformers library publish it, and how its tensors are called here."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth

Tensors = dict[str, Tensor]

HUB = "https://huggingface.co/depth-anything"
FREE, RESTRICTED = "Apache-2.0", "CC-BY-NC-4.0: not for commercial use"
TRAINED_ON = "595 thousand synthetic images, then 62 million photos labeled by a teacher (Yang et al., NeurIPS 2024)"
SIDE = 518
"""The shorter side to which the published networks' images are brought."""

VARIANTS = {
    "small": {"backbone": "vit_small_patch14_dinov2", "width": 64, "reassemble": (48, 96, 192, 384)},
    "base": {"backbone": "vit_base_patch14_dinov2", "width": 128, "reassemble": (96, 192, 384, 768)},
    "large": {"backbone": "vit_large_patch14_dinov2", "width": 256, "reassemble": (256, 512, 1024, 1024)},
}
BLOCKS = {"small": (3, 6, 9, 12), "base": (3, 6, 9, 12), "large": (5, 12, 18, 24)}
"""Blocks, counted from 1, whose tokens are read."""

PUBLISHED = (
    PublishedWeights(
        "depth-anything/v2-small",
        "depth",
        f"{HUB}/Depth-Anything-V2-Small-hf/resolve/main/model.safetensors",
        "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
        FREE,
        99.2,
        TRAINED_ON,
    ),
    PublishedWeights(
        "depth-anything/v2-base",
        "depth",
        f"{HUB}/Depth-Anything-V2-Base/resolve/main/depth_anything_v2_vitb.pth",
        "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        RESTRICTED,
        390.0,
        TRAINED_ON,
    ),
    PublishedWeights(
        "depth-anything/v2-large",
        "depth",
        f"{HUB}/Depth-Anything-V2-Large/resolve/main/depth_anything_v2_vitl.pth",
        "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        RESTRICTED,
        1341.4,
        TRAINED_ON,
    ),
)

TRANSFORMERS = (
    (r"backbone\.embeddings\.cls_token", "encoder.network.cls_token"),
    (r"backbone\.embeddings\.position_embeddings", "encoder.network.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", "encoder.network.patch_embed.proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"backbone\.encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"encoder.network.blocks.\1.ls\2.gamma"),
    (r"backbone\.encoder\.layer\.(\d+)\.", r"encoder.network.blocks.\1."),
    (r"backbone\.layernorm\.", "encoder.network.norm."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"head.decoder.reassemble.project.\1."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"head.decoder.reassemble.resize.\1."),
    (r"neck\.convs\.(\d)\.", r"head.decoder.enter.\1."),
    (r"neck\.fusion_stage\.layers\.(\d)\.projection\.", r"head.decoder.fusions.\1.project."),
    (r"neck\.fusion_stage\.layers\.(\d)\.residual_layer1\.", r"head.decoder.fusions.\1.lateral."),
    (r"neck\.fusion_stage\.layers\.(\d)\.residual_layer2\.", r"head.decoder.fusions.\1.refine."),
    (r"\.convolution1\.", ".first."),
    (r"\.convolution2\.", ".second."),
    (r"^head\.conv1\.", "head.decoder.shrink."),
    (r"^head\.conv2\.", "head.decoder.mix."),
    (r"^head\.conv3\.", "head.decoder.predict."),
)
"""Names of transformers' DepthAnythingForDepthEstimation -> ours, one rule after the other."""

AUTHORS = (
    (r"^pretrained\.", "encoder.network."),
    (r"^depth_head\.projects\.", "head.decoder.reassemble.project."),
    (r"^depth_head\.resize_layers\.", "head.decoder.reassemble.resize."),
    (r"^depth_head\.scratch\.layer([1-4])_rn\.", lambda found: f"head.decoder.enter.{int(found[1]) - 1}."),
    (r"^depth_head\.scratch\.refinenet([1-4])\.", lambda found: f"head.decoder.fusions.{4 - int(found[1])}."),
    (r"\.resConfUnit1\.conv1\.", ".lateral.first."),
    (r"\.resConfUnit1\.conv2\.", ".lateral.second."),
    (r"\.resConfUnit2\.conv1\.", ".refine.first."),
    (r"\.resConfUnit2\.conv2\.", ".refine.second."),
    (r"\.out_conv\.", ".project."),
    (r"^depth_head\.scratch\.output_conv1\.", "head.decoder.shrink."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "head.decoder.mix."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "head.decoder.predict."),
)
"""Names of the authors' own checkpoints -> ours."""

QUERY_KEY_VALUE = re.compile(r"\.attention\.(attention\.(query|key|value)|[qkv]_proj)\.")
"""Three matrices that timm has as one."""
UNUSED = re.compile(r"mask_token|fusions\.0\.lateral\.")
"""What they carry and never use: the token of DINOv2's training, and a join where nothing comes from below."""
_HINT = "Give the .safetensors of its -hf repository, or the .pth of the authors."


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a state dict of Depth Anything V2, in transformers' or in the authors' layout, as weights of ours.

    Raises:
        WeightsError: The file is no state dict of this network.
    """
    config = _config(weights.name.rpartition("-")[2])
    ours = _renamed(read_state(file, _HINT))
    with torch.device("meta"):
        wanted = Depth(config).net().state_dict()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.backbone.mean, config.backbone.std))
    ours |= {"encoder.mean": mean, "encoder.std": std}
    _check(ours, wanted, weights.name, file)
    save_weights(out, {name: ours[name] for name in wanted}, weights.card(config.plain()))


def _config(size: str) -> DepthConfig:
    """Inverse depth up to a factor and an offset, images brought to the published side."""
    variant = VARIANTS[size]
    backbone = {"name": variant["backbone"], "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return DepthConfig.checked(
        {
            "arch": "dpt_vit",
            "output": "disparity",
            "backbone": backbone,
            "width": variant["width"],
            "reassemble": variant["reassemble"],
            "blocks": BLOCKS[size],
            "data": {"shorter": SIDE, "size": SIDE},
            "loss": {"silog": 0.0, "invariant": 1.0, "gradient": 2.0},
        }
    )


def _renamed(theirs: Tensors) -> Tensors:
    rules = AUTHORS if any(name.startswith("pretrained.") for name in theirs) else TRANSFORMERS
    ours: Tensors = {}
    for name, tensor in _joined(theirs).items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if not UNUSED.search(name):
            ours[name] = tensor
    return ours


def _joined(theirs: Tensors) -> Tensors:
    """Query, key and value, as transformers has called them before and since its version 5, as timm's one matrix."""
    joined = {name: tensor for name, tensor in theirs.items() if not QUERY_KEY_VALUE.search(name)}
    for name in theirs:
        for names in (("attention.query", "attention.key", "attention.value"), ("q_proj", "k_proj", "v_proj")):
            if f".attention.{names[0]}." in name:
                parts = [theirs[name.replace(names[0], part)] for part in names]
                joined[name.replace(f"attention.{names[0]}", "attn.qkv")] = torch.cat(parts)
    return joined


def _check(ours: Tensors, wanted: Tensors, name: str, file: Path) -> None:
    missing = sorted(wanted.keys() - ours.keys())
    extra = sorted(ours.keys() - wanted.keys())
    shapes = [key for key in wanted if key in ours and ours[key].shape != wanted[key].shape]
    for problem, keys in (("lacks tensors", missing), ("has other tensors", extra), ("has other shapes", shapes)):
        if keys:
            found = [*keys[:3], *(["..."] if len(keys) > 3 else [])]
            raise WeightsError(f"not a state dict of {name}: it {problem}", file=file, value=found, hint=_HINT)
