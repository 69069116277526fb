"""Depth Anything V2 small: from an image to a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import densevision
from densevision.datasets.scenes import Scenes
from densevision.published_weights import convert_weights
from peers import Call, Row, predict_in_precisions, run_in_bfloat16

__all__ = ["ROWS"]

SIDE = 518
NAME = "depth-anything/v2-small"


def prepare(folder: Path) -> dict[str, Call]:
    """The same random weights in transformers and here."""
    from safetensors.torch import save_file
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    backbone = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=12,
        image_size=SIDE,
        patch_size=14,
        out_indices=[3, 6, 9, 12],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[48, 96, 192, 384],
        reassemble_hidden_size=384,
        fusion_hidden_size=64,
    )
    network = DepthAnythingForDepthEstimation(config).eval()
    save_file(network.state_dict(), folder / "published.safetensors")
    convert_weights(NAME, folder / "published.safetensors", folder / "ours.safetensors")
    model = densevision.load(folder / "ours.safetensors")
    image = Scenes(1, 0, (SIDE, SIDE))[0].image
    processor = DPTImageProcessor(size={"height": SIDE, "width": SIDE}, ensure_multiple_of=14, resample=3)

    def predict() -> Any:
        return network(**processor(images=image, return_tensors="pt")).predicted_depth

    return {
        **predict_in_precisions(model, image),
        "transformers float32": predict,
        "transformers bfloat16": run_in_bfloat16(predict),
    }


ROWS = {"depth_anything": Row("Depth Anything V2 small, 518 x 518", prepare, ("transformers",), 1.3)}
