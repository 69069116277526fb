"""Depth Anything V2: DPT on the tokens of a plain vision transformer, with its publisher's preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from densevision.sample import InputSpec
from densevision.tasks.depth.models.depth_model import DepthModel, TargetKind
from densevision.tasks.depth.models.dpt import DPTDecoder
from densevision.tasks.depth.models.token_maps import TokenMaps

__all__ = ["DepthAnything"]


class DepthAnything(DepthModel):
    """DPT on token maps of four transformer blocks.

    Source: Yang et al., Depth Anything V2, NeurIPS 2024; Ranftl et al., Vision Transformers for Dense Prediction, ICCV
    2021. Preprocessing and resizing of the output are those of transformers' `DPTImageProcessor`.

    Args:
        encoder: A timm model of the class VisionTransformer: ViT, DeiT, DINOv2, CLIP, SigLIP and others.
        in_channels: Channels of the image.
        encoder_options: `pretrained`, `mean`, `std`, `freeze` (number of quarters of the blocks), `options`; see
            `densevision.nn.backbone.Backbone`.
        blocks: The four blocks, counted from 1, whose tokens are used; the ends of the quarters by default.
        width: Channels of every fusion block.
        reassemble_channels: Channels of the four levels; 1/8, 1/4, 1/2 and all of the tokens' by default.
        image_size: Size in pixels that images are resized to under `resize`; None keeps their size.
        resize: `closest`: scale by whichever of the factors of height and width is closer to 1, then round each side
            to the nearest multiple of the patch size, as the published weights need it; `shorter`: resize the shorter
            side, and pad both to multiples of the patch size.
        target_kind: What the numbers are; the published weights predict disparity up to scale and shift, or meters.
        max_depth: Largest depth in meters (20 for the published indoor weights, 80 outdoors); None for no bound.
        criterion: The losses; `DepthCriterion()` by default.

    Raises:
        UsageError: The encoder is not a plain vision transformer, or has no such block.
    """

    upsampling = "bicubic"
    depends_on_image_size = True

    def __init__(
        self,
        encoder: str = "vit_small_patch14_dinov2",
        in_channels: int = 3,
        encoder_options: Mapping[str, Any] | None = None,
        blocks: tuple[int, int, int, int] | None = None,
        width: int = 64,
        reassemble_channels: tuple[int, int, int, int] | None = None,
        image_size: int | None = None,
        resize: Literal["shorter", "closest"] = "closest",
        target_kind: TargetKind = "disparity",
        max_depth: float | None = None,
        criterion: nn.Module | None = None,
    ):
        tokens = TokenMaps(encoder, in_channels, blocks, **(encoder_options or {}))
        decoder = DPTDecoder(tokens.channels, tokens.strides, width, reassemble_channels)
        patch = tokens.strides[-1]
        if image_size is None:
            spec = InputSpec(in_channels, "pad", multiple_of=patch, min_side=2 * patch, fill="edge")
        elif resize == "closest":
            spec = InputSpec(in_channels, "closest", image_size, multiple_of=patch, interpolation="bicubic")
        else:
            spec = InputSpec(in_channels, "shortest", image_size, multiple_of=patch, min_side=2 * patch, fill="edge")
        super().__init__(tokens, decoder, [decoder.conv3], spec, target_kind, max_depth, criterion)
