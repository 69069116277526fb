"""D-FINE for comparison: transformers' configurations, random weights that keep signals strong, and fixed outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BACKBONES: dict[str, dict[str, Any]] = {
    "hgnetv2_b0": {
        "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 64, 256, 512],
        "stage_mid_channels": [16, 32, 64, 128],
        "stage_out_channels": [64, 256, 512, 1024],
        "stage_num_blocks": [1, 1, 2, 1],
        "stage_numb_of_layers": [3, 3, 3, 3],
        "use_learnable_affine_block": True,
    },
    "hgnetv2_b2": {
        "stem_channels": [3, 24, 32],
        "stage_in_channels": [32, 96, 384, 768],
        "stage_mid_channels": [32, 64, 128, 256],
        "stage_out_channels": [96, 384, 768, 1536],
        "stage_num_blocks": [1, 1, 3, 1],
        "stage_numb_of_layers": [4, 4, 4, 4],
        "use_learnable_affine_block": True,
    },
    "hgnetv2_b4": {},
    "hgnetv2_b5": {
        "stem_channels": [3, 32, 64],
        "stage_in_channels": [64, 128, 512, 1024],
        "stage_mid_channels": [64, 128, 256, 512],
        "stage_out_channels": [128, 512, 1024, 2048],
        "stage_num_blocks": [1, 2, 5, 2],
    },
}
"""transformers' HGNetV2 as the authors configure it; its defaults are B4."""

CONFIGS: dict[str, dict[str, Any]] = {
    "nano": {
        "encoder_hidden_dim": 128,
        "encoder_ffn_dim": 512,
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": 128,
        "decoder_in_channels": [128, 128],
        "decoder_ffn_dim": 512,
        "decoder_layers": 3,
        "decoder_n_points": [6, 6],
        "feat_strides": [16, 32],
        "num_feature_levels": 2,
        "encode_proj_layers": [1],
        "encoder_in_channels": [512, 1024],
    },
    "small": {
        "hidden_expansion": 0.5,
        "depth_mult": 0.34,
        "decoder_layers": 3,
        "decoder_n_points": [3, 6, 3],
        "encoder_in_channels": [256, 512, 1024],
    },
    "medium": {
        "depth_mult": 0.67,
        "decoder_layers": 4,
        "decoder_n_points": [3, 6, 3],
        "encoder_in_channels": [384, 768, 1536],
    },
    "large": {"decoder_n_points": [3, 6, 3]},
    "xlarge": {
        "encoder_hidden_dim": 384,
        "encoder_ffn_dim": 2048,
        "decoder_in_channels": [384, 384, 384],
        "decoder_n_points": [3, 6, 3],
        "reg_scale": 8.0,
    },
}
"""`DFineConfig` of the published sizes, where it differs from the defaults."""


def reference_model(size: str, encoder: str, seed: int = 0, **changes: Any) -> nn.Module:
    """transformers' `DFineForObjectDetection` with random weights under which signals keep their strength."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    indices = [3, 4] if size == "nano" else [2, 3, 4]
    options = BACKBONES[encoder]
    if "stage_out_channels" in options:
        options = {**options, "hidden_sizes": options["stage_out_channels"]}
    backbone = HGNetV2Config(**options, out_indices=indices)
    model = DFineForObjectDetection(DFineConfig(backbone_config=backbone, **(CONFIGS[size] | changes)))
    randomize(model, torch.Generator().manual_seed(seed))
    return model.eval()


def randomize(model: nn.Module, generator: torch.Generator) -> None:
    """Draws weights and statistics: matrices by their fan-in, scales about 1, biases about where they are."""

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.rsplit(".", 1)[-1]
            if parameter.ndim >= 2:
                parameter.copy_(noise(parameter) * 1.2 / parameter[0].numel() ** 0.5)
            elif kind in ("weight", "scale"):
                parameter.copy_(1 + 0.1 * noise(parameter))
            elif kind == "bias":
                parameter.add_(0.1 * noise(parameter))
        for name, buffer in model.named_buffers():
            kind = name.rsplit(".", 1)[-1]
            if kind == "bias":  # transformers' frozen norms hold theirs as buffers
                buffer.copy_(0.1 * noise(buffer))
            elif kind in ("weight", "running_var"):
                buffer.copy_(1 + 0.2 * noise(buffer).abs())
            elif kind == "running_mean":
                buffer.copy_(0.1 * noise(buffer))


def waves(*shape: int, speed: float) -> Tensor:
    """Numbers in [-1, 1] that every machine draws alike."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(1, count + 1, dtype=torch.float64) ** 1.5 * speed).float().reshape(shape)


def case(images: int = 2, queries: int = 12, classes: int = 5, layers: int = 3) -> dict[str, Any]:
    """Fixed outputs of a decoder of three layers, of its initial boxes and of an encoder, with ground truth.

    Returns:
        "layers", "initial" and "encoder" of (logits, boxes), with corners for the layers, the "reference" boxes, and
        per image "boxes" (normalized cxcywh) and "labels".
    """

    def boxes(speed: float) -> Tensor:
        center, side = waves(images, queries, 4, speed=speed).chunk(2, -1)
        return torch.cat([0.5 + 0.3 * center, 0.25 + 0.15 * side], -1)

    def logits(speed: float) -> Tensor:
        return 2 * waves(images, queries, classes, speed=speed) - 1

    reference = boxes(0.71)
    rows = [
        (logits(0.13 + step), boxes(0.71) + 0.02 * (boxes(0.3 + step) - 0.5), corners)
        for step, corners in ((step, 3 * waves(images, queries, 4 * 33, speed=0.37 + step)) for step in range(layers))
    ]
    return {
        "layers": rows,
        "initial": (logits(0.57), reference),
        "encoder": (logits(0.91), boxes(0.43)),
        "reference": reference,
        "boxes": [
            torch.tensor([[0.3, 0.4, 0.3, 0.2], [0.7, 0.6, 0.25, 0.4], [0.5, 0.2, 0.15, 0.35]]),
            torch.tensor([[0.45, 0.55, 0.4, 0.3]]),
        ],
        "labels": [torch.tensor([0, 3, 1]), torch.tensor([4])],
    }
