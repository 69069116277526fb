"""EoMT: a plain vision transformer that segments, with queries among its tokens.

Source: Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import expand_per_channel
from densevision.nn.backbone_info import check_backbone_config
from densevision.nn.mask_classification import MaskPrediction
from densevision.nn.normalization import normalize_image
from densevision.nn.pretrained import create_network
from densevision.run_config import BackboneConfig

__all__ = ["EomtNetwork", "UpscaleBlock", "convert_state_dict"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MASK_STRIDE = 4
POLY_POWER = 0.9


class EomtNetwork(nn.Module):
    """timm's ViT with queries before its last blocks, and heads for their classes and masks.

    In training, a query attends in these blocks only to the patches of its own intermediate mask, with a probability
    that is annealed to 0: published networks need no masks, and then infer at the speed of the plain ViT.

    Args:
        num_classes: Classes without "no object".
        encoder: timm ViT (`VisionTransformer`), such as `vit_large_patch14_reg4_dinov2`.
        image_size: Side, or (height, width), of the images that the position embeddings are made for; others are
            resampled.
        patch_size: Pixels per patch; pretrained embeddings of another patch size are resampled.
        num_queries: Queries.
        num_blocks: Last blocks that see the queries.
        in_channels: Channels of the image.
        encoder_options: Fields of `densevision.run_config.BackboneConfig`: `pretrained` (True, or a file), `mean` and
            `std` (ImageNet's by default), `options` (further arguments of the timm model).

    Attributes:
        in_channels: Channels of the image.
        patch_size: Pixels per patch.
        mask_stride: Pixels per cell of the mask logits.
        fill: Color that becomes 0 by normalization, for canvases larger than the image.

    Raises:
        UsageError: The encoder is no plain ViT, does not support an option, or has fewer blocks than `num_blocks`.
        WeightsError: The pretrained weights are not available.
    """

    encoder: VisionTransformer
    queries: nn.Embedding
    mask_probabilities: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        encoder: str,
        image_size: int | tuple[int, int],
        patch_size: int = 16,
        num_queries: int = 200,
        num_blocks: int = 4,
        in_channels: int = 3,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        config = BackboneConfig.from_dict({"name": encoder, "channels": in_channels, **(encoder_options or {})})
        self.encoder = _create_encoder(config, image_size, patch_size)
        width, depth = self.encoder.embed_dim, len(self.encoder.blocks)
        if not 0 < num_blocks <= depth:
            problem = f"the encoder has {depth} blocks"
            raise UsageError(problem, field="model.num_blocks", value=num_blocks, hint=f"Give 1 to {depth}.")
        doublings = max(1, int(math.log2(patch_size / MASK_STRIDE)))
        self.in_channels, self.patch_size, self.mask_stride = in_channels, patch_size, patch_size // 2**doublings
        self.first_query_block = depth - num_blocks
        self.queries = nn.Embedding(num_queries, width)
        self.class_head = nn.Linear(width, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.upscale = nn.Sequential(*(UpscaleBlock(width) for _ in range(doublings)))
        self.register_buffer("mask_probabilities", torch.ones(num_blocks))
        # A graph cannot branch on a buffer: export reads the copy.
        self._exported_probabilities = [1.0] * num_blocks
        self.register_load_state_dict_post_hook(lambda network, _: network._copy_probabilities())
        self.register_buffer("mean", expand_per_channel("mean", config.mean, IMAGENET_MEAN, in_channels), False)
        self.register_buffer("std", expand_per_channel("std", config.std, IMAGENET_STD, in_channels), False)
        mean = IMAGENET_MEAN if config.mean is None else config.mean
        self.fill = mean if len(mean) == in_channels else sum(mean) / len(mean)

    def forward(self, image: Tensor) -> list[MaskPrediction]:
        """Predicts masks and classes.

        Args:
            image: (B, C, H, W) float RGB in [0, 1]; padded at the right and the bottom to whole patches.

        Returns:
            The final prediction last. Before it those of the blocks that mask their attention: all blocks with queries
            in training, those of positive mask probability in evaluation.
        """
        image = normalize_image(image, self.mean, self.std)
        image = F.pad(image, (0, -image.shape[-1] % self.patch_size, 0, -image.shape[-2] % self.patch_size))
        tokens, grid = self._embed(image)
        predictions = []
        probabilities = self._read_probabilities()
        for number, block in enumerate(self.encoder.blocks):
            layer = number - self.first_query_block
            mask = None
            if layer == 0:
                queries = self.queries.weight.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
                tokens = torch.cat([queries, tokens], 1)
            if layer >= 0 and (self.training or probabilities[layer] > 0):
                predictions.append(self._predict(tokens, grid))
                mask = self._attention_mask(predictions[-1].mask_logits, tokens, grid, probabilities[layer])
            tokens = block(tokens, attn_mask=mask)
        return [*predictions, self._predict(tokens, grid)]

    def anneal_masks(self, progress: float) -> None:
        """Sets the probabilities of masked attention, first block first; call it as training proceeds.

        Block i of n starts at (1 + 3 i / (n - 1)) / 6 of training and is free of masks a sixth of training later.

        Args:
            progress: Share of training that is done, in [0, 1].
        """
        count = len(self.mask_probabilities)
        for layer in range(count):
            start = (1 + 3 * layer / max(1, count - 1)) / 6
            done = min(max(6 * (progress - start), 0.0), 1.0)
            self.mask_probabilities[layer] = (1 - done) ** POLY_POWER
        self._copy_probabilities()

    def _embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Prefix tokens and embedded patches (B, P + h * w, D), and the grid (h, w)."""
        encoder = self.encoder
        patches = encoder.patch_embed(image)
        grid = (patches.shape[1], patches.shape[2])
        special = (token for token in (encoder.cls_token, encoder.reg_token) if token is not None)
        prefix = [token.expand(image.shape[0], -1, -1) for token in special]
        patches = patches.flatten(1, 2)
        positions = resample_abs_pos_embed(
            encoder.pos_embed,
            new_size=list(grid),
            old_size=list(encoder.patch_embed.grid_size),
            num_prefix_tokens=0 if encoder.no_embed_class else encoder.num_prefix_tokens,
        )
        if encoder.no_embed_class:
            tokens = torch.cat([*prefix, patches + positions], 1)
        else:
            tokens = torch.cat([*prefix, patches], 1) + positions
        return encoder.norm_pre(encoder.pos_drop(tokens)), grid

    def _predict(self, tokens: Tensor, grid: tuple[int, int]) -> MaskPrediction:
        tokens = self.encoder.norm(tokens)
        count = self.queries.num_embeddings
        queries, patches = tokens[:, :count], tokens[:, count + self.encoder.num_prefix_tokens :]
        pixels = self.upscale(patches.transpose(1, 2).unflatten(2, grid))
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_head(queries), pixels)
        return MaskPrediction(masks, self.class_head(queries))

    def _attention_mask(self, mask_logits: Tensor, tokens: Tensor, grid: tuple[int, int], probability: float) -> Tensor:
        """(B, 1, N, N) bool: a query sees the patches inside its mask, or all with 1 - probability."""
        batch, count = mask_logits.shape[:2]
        length = tokens.shape[1]
        visible = F.interpolate(mask_logits.detach(), grid, mode="bilinear").flatten(2) > 0
        if probability < 1:
            visible = visible | (torch.rand(batch, count, 1, device=tokens.device) > probability)
        mask = torch.ones(batch, 1, length, length, dtype=torch.bool, device=tokens.device)
        mask[:, 0, :count, count + self.encoder.num_prefix_tokens :] = visible
        return mask

    def _read_probabilities(self) -> Sequence[float]:
        return self._exported_probabilities if torch.compiler.is_exporting() else self.mask_probabilities.tolist()

    def _copy_probabilities(self) -> None:
        if not self.mask_probabilities.is_meta:
            self._exported_probabilities = self.mask_probabilities.tolist()


def _create_encoder(config: BackboneConfig, image_size: int | tuple[int, int], patch_size: int) -> VisionTransformer:
    check_backbone_config(config)
    for field in ("freeze", "output_stride"):
        if getattr(config, field):
            problem = "is not supported by EoMT"
            raise UsageError(problem, field=f"backbone.{field}", value=getattr(config, field), hint="Leave it out.")
    arguments = {"img_size": image_size, "patch_size": patch_size, "dynamic_img_size": True, **config.options}
    try:
        network = create_network(config, {"in_chans": config.channels, **arguments})
    except TypeError:  # families without patches refuse the arguments
        network = None
    if not isinstance(network, VisionTransformer):
        hint = "Take a plain ViT such as vit_large_patch14_reg4_dinov2."
        raise UsageError("EoMT needs a plain ViT", field="backbone.name", value=config.name, hint=hint)
    network.reset_classifier(0)
    return network


class UpscaleBlock(nn.Module):
    """Doubles the resolution: transposed convolution, GELU, depthwise convolution, norm.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = LayerNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 2 h, 2 w)."""
        return self.norm(self.conv2(F.gelu(self.conv1(x))))


_TRANSFORMERS_RULES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^embeddings\.cls_token$", "encoder.cls_token"),
    (r"^embeddings\.register_tokens$", "encoder.reg_token"),
    (r"^embeddings\.patch_embeddings\.projection\.", "encoder.patch_embed.proj."),
    (r"^embeddings\.position_embeddings\.weight$", "encoder.pos_embed"),
    (r"^layernorm\.", "encoder.norm."),
    (r"^layers\.(\d+)\.attention\.out_proj\.", r"encoder.blocks.\1.attn.proj."),
    (r"^layers\.(\d+)\.attention\.", r"encoder.blocks.\1.attn."),
    (r"^layers\.(\d+)\.layer_scale([12])\.lambda1$", r"encoder.blocks.\1.ls\2.gamma"),
    (r"^layers\.(\d+)\.mlp\.down_proj\.", r"encoder.blocks.\1.mlp.fc2."),
    (r"^layers\.(\d+)\.", r"encoder.blocks.\1."),
    (r"^query\.", "queries."),
    (r"^class_predictor\.", "class_head."),
    (r"^mask_head\.fc([123])\.", lambda match: f"mask_head.{2 * int(match[1]) - 2}."),
    (r"^upscale_block\.block\.(\d+)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"^upscale_block\.block\.", "upscale."),
    (r"^attn_mask_probs$", "mask_probabilities"),
)

_AUTHORS_RULES: tuple[tuple[str, str], ...] = (
    (r"^network\.", ""),
    (r"^encoder\.backbone\.", "encoder."),
    (r"^q\.", "queries."),
    (r"^attn_mask_probs$", "mask_probabilities"),
)

_DROPPED = re.compile(r"^criterion\.|^encoder\.pixel_(mean|std)$|^embeddings\.(position_ids|mask_token)$")
_FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "fc1", "up_proj": "fc1"}
"""Projections that timm holds as one, in this order."""


def convert_state_dict(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames published weights to `EomtNetwork`'s names; tensors that no rule fits keep their name.

    Args:
        weights: State dict of transformers' `EomtForUniversalSegmentation`, or of the authors' network (with
            `network.`, the encoder in timm's names).

    Returns:
        The state dict for `load_state_dict(..., strict=True)`.
    """
    is_transformers = "embeddings.cls_token" in weights
    rules = _TRANSFORMERS_RULES if is_transformers else _AUTHORS_RULES
    converted: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if _DROPPED.match(name):
            continue
        if name == "encoder.pos_embed" and tensor.ndim == 2:
            tensor = tensor[None]
        module, _, leaf = name.rpartition(".")
        parent, _, last = module.rpartition(".")
        if is_transformers and last in _FUSED:
            parts.setdefault(f"{parent}.{_FUSED[last]}.{leaf}", {})[last] = tensor
        else:
            converted[name] = tensor
    for name, pieces in parts.items():
        converted[name] = torch.cat([pieces[piece] for piece in _FUSED if piece in pieces])
    return converted
