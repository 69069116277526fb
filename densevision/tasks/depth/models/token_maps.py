"""The encoder of DPT as published: token maps of a plain vision transformer, taken at four depths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import expand_per_channel
from densevision.nn.normalization import normalize_image
from densevision.nn.pretrained import build_network, create_network
from densevision.run_config import BackboneConfig

__all__ = ["TokenMaps"]


class TokenMaps(nn.Module):
    """Tokens of four blocks of a ViT after its last norm, laid out as maps at the stride of its patches.

    Unlike `nn.backbone.Backbone` it keeps the patch size, makes no pyramid of the last map, and resamples position
    embeddings by plain bicubic interpolation, as DINOv2's authors do. Class and register tokens are left out of the
    maps (readout "ignore").

    Source: Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021, section 3.1; Yang et al., Depth Anything
    V2, NeurIPS 2024.

    Attributes:
        channels: Channels of the image, then of the four maps.
        strides: 1, then four times the patch size.

    Args:
        name: A timm model of the class VisionTransformer.
        in_channels: Channels of the image.
        blocks: Four blocks, shallow to deep, counted from 1; the ends of the quarters by default.
        options: Fields of `densevision.run_config.BackboneConfig`; `freeze` counts quarters of the blocks.

    Raises:
        UsageError: The model is of another class, has no such blocks, or an option has no effect on it.
        WeightsError: The pretrained weights are missing, or are not this model's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, in_channels: int = 3, blocks: Sequence[int] | None = None, **options: Any):
        super().__init__()
        config = BackboneConfig.from_dict({"name": name, "channels": in_channels, **options})
        self.network = _create_transformer(config)
        depth = len(self.network.blocks)
        self.blocks = tuple(blocks or (depth * quarter // 4 for quarter in (1, 2, 3, 4)))
        if len(self.blocks) != 4 or list(self.blocks) != sorted(set(self.blocks)):
            raise UsageError("names four blocks, shallow to deep", field="model.blocks", value=self.blocks)
        if not 1 <= self.blocks[0] <= self.blocks[-1] <= depth:
            raise UsageError(f"{name} has {depth} blocks", field="model.blocks", value=self.blocks)
        self.network.reset_classifier(0, "")
        self.network.fc_norm = nn.Identity()
        self.network.blocks = self.network.blocks[: self.blocks[-1]]
        stride, width = self.network.patch_embed.patch_size[0], self.network.embed_dim
        self.channels = [in_channels, *[width] * 4]
        self.strides = [1, *[stride] * 4]
        pretrained = timm.get_pretrained_cfg(name)
        assert pretrained is not None
        self.register_buffer("mean", expand_per_channel("mean", config.mean, pretrained.mean, in_channels))
        self.register_buffer("std", expand_per_channel("std", config.std, pretrained.std, in_channels))
        self._freeze(config.freeze)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image and computes its token maps.

        Args:
            image: (B, C, H, W) float RGB in [0, 1]; pixels beyond whole patches are ignored.

        Returns:
            The unchanged image, then four maps (B, width, H // patch, W // patch), shallow to deep.
        """
        network = self.network
        maps = network.patch_embed.proj(normalize_image(image, self.mean, self.std))
        size = maps.shape[-2:]
        x = network.norm_pre(self._embed_positions(maps.flatten(2).transpose(1, 2), size))
        levels = [image]
        for number, block in enumerate(network.blocks, 1):
            x = block(x)
            if number in self.blocks:
                tokens = network.norm(x)[:, network.num_prefix_tokens :]
                levels.append(tokens.transpose(1, 2).unflatten(2, size))
        return levels

    def _embed_positions(self, patches: Tensor, size: Sequence[int]) -> Tensor:
        """Patch tokens (B, N, C) with their positions, after the class and register tokens with theirs."""
        network = self.network
        assert network.pos_embed is not None
        prefix_count = 0 if network.no_embed_class else network.num_prefix_tokens
        grid = network.patch_embed.grid_size
        positions = network.pos_embed[:, prefix_count:].transpose(1, 2).unflatten(2, grid)
        # Float32: interpolation in half precision would shift the embeddings.
        positions = F.interpolate(positions.float(), size, mode="bicubic", align_corners=False)
        patches = patches + positions.flatten(2).transpose(1, 2).to(patches.dtype)
        extra: list[Tensor] = [token for token in (network.cls_token, network.reg_token) if token is not None]
        if not extra:
            return patches
        prefix = torch.cat(extra, 1)
        prefix = prefix + network.pos_embed[:, :prefix_count] if prefix_count else prefix
        return torch.cat([prefix.to(patches.dtype).expand(patches.shape[0], -1, -1), patches], 1)

    def _freeze(self, quarters: int) -> None:
        """Freezes the embeddings and the blocks up to the end of so many quarters."""
        if not quarters:
            return
        if quarters > 4:
            raise UsageError("a transformer has four quarters", field="backbone.freeze", value=quarters)
        frozen = [self.network.patch_embed, *self.network.blocks[: len(self.network.blocks) * quarters // 4]]
        parameters = [parameter for module in frozen for parameter in module.parameters()]
        embeddings = [getattr(self.network, name) for name in ("pos_embed", "cls_token", "reg_token")]
        for parameter in (*parameters, *(tensor for tensor in embeddings if tensor is not None)):
            parameter.requires_grad_(False)


def _create_transformer(config: BackboneConfig) -> VisionTransformer:
    if config.output_stride is not None:
        value = config.output_stride
        raise UsageError("has no effect on a plain transformer", field="backbone.output_stride", value=value)
    unsuitable = UsageError(
        "depth_anything needs a plain vision transformer of timm with position embeddings",
        field="backbone.name",
        value=config.name,
        hint="Use e.g. vit_small_patch14_dinov2, or arch=depth_dpt for any other backbone.",
    )
    if not timm.is_model(config.name.split(".")[0]):
        raise unsuitable
    with torch.device("meta"):
        model = build_network(config.name, {})
    if not isinstance(model, VisionTransformer) or model.pos_embed is None or model.attn_pool is not None:
        raise unsuitable
    return create_network(config, {"in_chans": config.channels, "dynamic_img_size": True, **config.options})
