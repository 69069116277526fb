"""Depth Anything V2, as published by its authors and for the transformers library. No torch here.

Published weights run their publisher's preprocessing, see `models.depth_anything`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.io.checkpoint import Rules, check_state_dict, read_state_dict, rename_state_dict
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.depth.config import DepthConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PUBLISHED", "convert", "make_config"]

HUB = "https://huggingface.co/depth-anything"
FREE, NON_COMMERCIAL = "Apache-2.0", "CC-BY-NC-4.0: not for commercial use"
IMAGE_SIZE = 518
TRAINED_ON = "595 thousand synthetic images, then 62 million photos labeled by a teacher (Yang et al., NeurIPS 2024)"
METRIC_DATA = {
    "indoor": (20.0, f"{TRAINED_ON}; then Hypersim"),
    "outdoor": (80.0, f"{TRAINED_ON}; then Virtual KITTI 2"),
}
"""Metric variant -> largest depth in meters, training data."""
SIZES = {
    "small": ("depth_anything", FREE, 99.2, 24.7),
    "base": ("depth_anything_base", NON_COMMERCIAL, 390.0, 97.2),
    "large": ("depth_anything_large", NON_COMMERCIAL, 1341.4, 334.1),
}
"""Size -> architecture, license, megabytes, millions of parameters."""
_RELATIVE = {
    "small": (
        "Depth-Anything-V2-Small-hf/resolve/main/model.safetensors",
        "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
        0.053,
    ),
    "base": (
        "Depth-Anything-V2-Base/resolve/main/depth_anything_v2_vitb.pth",
        "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        0.049,
    ),
    "large": (
        "Depth-Anything-V2-Large/resolve/main/depth_anything_v2_vitl.pth",
        "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        0.045,
    ),
}
"""Size -> file, its SHA-256, and AbsRel on NYU Depth V2 after alignment (table 2 of the paper)."""


def _list_published() -> Iterator[PublishedWeights]:
    for size, (file, sha256, abs_rel) in _RELATIVE.items():
        _, license_name, megabytes, parameters = SIZES[size]
        yield PublishedWeights(
            f"depth-anything/v2-{size}",
            "depth",
            f"{HUB}/{file}",
            sha256,
            license_name,
            megabytes,
            TRAINED_ON,
            parameters,
            ("NYU AbsRel", abs_rel),
        )
    for variant, (_, data) in METRIC_DATA.items():
        for size, (_, license_name, megabytes, parameters) in SIZES.items():
            file = f"Depth-Anything-V2-Metric-{variant.title()}-{size.title()}-hf/resolve/main/model.safetensors"
            name = f"depth-anything/v2-metric-{variant}-{size}"
            # Their publisher states no metric of these files, and no hash of them is known.
            yield PublishedWeights(name, "depth", f"{HUB}/{file}", "", license_name, megabytes, data, parameters)


PUBLISHED = tuple(_list_published())

TRANSFORMERS_RULES: Rules = (
    (r"backbone\.embeddings\.cls_token", "encoder.network.cls_token"),
    (r"backbone\.embeddings\.position_embeddings", "encoder.network.pos_embed"),
    (r"backbone\.embeddings\.patch_embeddings\.projection\.", "encoder.network.patch_embed.proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"backbone\.encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"encoder.network.blocks.\1.ls\2.gamma"),
    (r"backbone\.encoder\.layer\.(\d+)\.", r"encoder.network.blocks.\1."),
    (r"backbone\.layernorm\.", "encoder.network.norm."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"decoder.reassemble.project.\1."),
    (r"neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"decoder.reassemble.resize.\1."),
    (r"neck\.convs\.(\d)\.", r"decoder.convs.\1."),
    (r"neck\.fusion_stage\.layers\.(\d)\.projection\.", r"decoder.fusions.\1.project."),
    (r"neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)", r"decoder.fusions.\1.residual\2.conv\3"),
    (r"^head\.conv(\d)\.", r"decoder.conv\1."),
)
"""Names in transformers' DepthAnythingForDepthEstimation -> ours, applied one after the other."""
AUTHORS_RULES: Rules = (
    (r"^pretrained\.", "encoder.network."),
    (r"^depth_head\.projects\.", "decoder.reassemble.project."),
    (r"^depth_head\.resize_layers\.", "decoder.reassemble.resize."),
    (r"^depth_head\.scratch\.layer([1-4])_rn\.", lambda match: f"decoder.convs.{int(match[1]) - 1}."),
    (r"^depth_head\.scratch\.refinenet([1-4])\.", lambda match: f"decoder.fusions.{4 - int(match[1])}."),
    (r"\.resConfUnit(\d)\.", r".residual\1."),
    (r"\.out_conv\.", ".project."),
    (r"^depth_head\.scratch\.output_conv1\.", "decoder.conv1."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "decoder.conv2."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "decoder.conv3."),
)
"""Names in the authors' checkpoints -> ours."""
QUERY_KEY_VALUE = re.compile(r"\.attention\.(attention\.(query|key|value)|[qkv]_proj)\.")
"""Three matrices that timm stores as one."""
UNUSED = r"mask_token|refinenet4\.resConfUnit1\.|fusion_stage\.layers\.0\.residual_layer1\."
"""Published tensors without effect: DINOv2's mask token, and the skip connection of the deepest fusion block."""
_HINT = "Give the .safetensors of its -hf repository, or the authors' .pth."


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Converts a state dict of Depth Anything V2, in the layout of transformers or of the authors.

    Raises:
        WeightsError: The file is not a state dict of this network.
    """
    import torch

    from densevision.tasks.depth.task import Depth

    config = make_config(weights.name)
    published = _join_query_key_value(read_state_dict(file, _HINT))
    rules = AUTHORS_RULES if any(name.startswith("pretrained.") for name in published) else TRANSFORMERS_RULES
    tensors = rename_state_dict(published, rules, UNUSED)
    expected = Depth(config).meta_model.state_dict()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.backbone.mean, config.backbone.std))
    tensors |= {"encoder.mean": mean, "encoder.std": std}
    tensors = check_state_dict(tensors, expected, weights.name, file, _HINT)
    save_weights(out, tensors, weights.card(config.to_dict()))


def make_config(name: str) -> DepthConfig:
    """The config of published weights: disparity up to scale and shift, or with "metric" in the name, meters."""
    arch = SIZES[name.rpartition("-")[2]][0]
    config: dict[str, Any] = {
        "arch": arch,
        "output": "disparity",
        "backbone": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "data": {"shorter": IMAGE_SIZE, "size": IMAGE_SIZE},
        "loss": {"silog": 0.0, "ssi": 1.0, "ssi_gradient": 2.0},
    }
    if "-metric-" in name:
        max_depth = METRIC_DATA[name.split("-")[-2]][0]
        config |= {"output": "metric", "max_depth": max_depth, "loss": {"silog": 1.0, "silog_variance": 0.5}}
    return DepthConfig.from_dict(config)


def _join_query_key_value(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Joins query, key and value, as transformers names them before and since version 5, into timm's matrix."""
    import torch

    joined = {name: tensor for name, tensor in published.items() if not QUERY_KEY_VALUE.search(name)}
    for name in published:
        for names in (("attention.query", "attention.key", "attention.value"), ("q_proj", "k_proj", "v_proj")):
            if f".attention.{names[0]}." in name:
                matrices = [published[name.replace(names[0], part)] for part in names]
                joined[name.replace(f"attention.{names[0]}", "attn.qkv")] = torch.cat(matrices)
    return joined
