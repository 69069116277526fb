"""The encoder of DPT as published: maps of a plain vision transformer's tokens, taken at four depths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.pretrained import create
from densevision.run_config import BackboneConfig


class TokenMaps(nn.Module):
    """Tokens of four blocks of a ViT after its last norm, laid out as maps at the stride of its patches.

    Unlike `nn.backbone.Backbone` it keeps the patch size, makes no pyramid of the last map, and resamples position
    embeddings by plain bicubic curves, as DINOv2's authors do. Class and register tokens are left aside.

    Source: Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021, section 3.1, readout "ignore"; Yang et
    al., Depth Anything V2, NeurIPS 2024.

    Attributes:
        channels: Of the image, then of the four maps.
        strides: 1, then four times the patch size.

    Args:
        config: A model of timm's class VisionTransformer: ViT, DeiT, DINOv2, CLIP, SigLIP and others.
        blocks: Four blocks, counted from 1; the ends of the quarters when not given.

    Raises:
        UsageError: The model is of another class, has no such block, or an option has no effect on it.
        WeightsError: The pretrained weights are not there, or are not this model's.
    """

    def __init__(self, config: BackboneConfig, blocks: Sequence[int] | None = None):
        super().__init__()
        self.network = _transformer(config)
        depth = len(self.network.blocks)
        self.blocks = tuple(blocks or (depth * quarter // 4 for quarter in (1, 2, 3, 4)))
        if not 1 <= self.blocks[0] <= self.blocks[-1] <= depth:
            raise UsageError(f"{config.name} has {depth} blocks", field="blocks", value=self.blocks)
        self.network.reset_classifier(0, "")
        self.network.fc_norm = nn.Identity()
        self.network.blocks = self.network.blocks[: self.blocks[-1]]
        stride, width = self.network.patch_embed.patch_size[0], self.network.embed_dim
        self.channels = [config.channels, *[width] * 4]
        self.strides = [1, *[stride] * 4]
        usual = timm.get_pretrained_cfg(config.name)
        for name, given, default in (("mean", config.mean, usual.mean), ("std", config.std, usual.std)):
            values = torch.tensor(default if given is None else given).view(1, -1, 1, 1)
            self.register_buffer(name, values.expand(1, config.channels, 1, 1).clone())
        self._freeze(config.freeze)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalizes an image and answers the maps.

        Args:
            image: (B, C, H, W) float RGB in [0, 1]; what its sides exceed whole patches by is not seen.

        Returns:
            The image as it was given, then four maps (B, width, H // patch, W // patch), shallow to deep.
        """
        network = self.network
        maps = network.patch_embed.proj((image - self.mean) / self.std)
        size = maps.shape[-2:]
        x = network.norm_pre(self._placed(maps.flatten(2).transpose(1, 2), size))
        levels = [image]
        for number, block in enumerate(network.blocks, 1):
            x = block(x)
            if number in self.blocks:
                tokens = network.norm(x)[:, network.num_prefix_tokens :]
                levels.append(tokens.transpose(1, 2).unflatten(2, size))
        return levels

    def _placed(self, patches: Tensor, size: Sequence[int]) -> Tensor:
        """Patches (B, N, C) with their positions, behind the class and register tokens with theirs."""
        network = self.network
        own = 0 if network.no_embed_class else network.num_prefix_tokens
        grid = network.patch_embed.grid_size
        positions = network.pos_embed[:, own:].transpose(1, 2).unflatten(2, grid)
        # Float32: in half precision the curves would shift the embeddings.
        positions = F.interpolate(positions.float(), size, mode="bicubic", align_corners=False)
        patches = patches + positions.flatten(2).transpose(1, 2).to(patches.dtype)
        extra = [token for token in (network.cls_token, network.reg_token) if token is not None]
        if not extra:
            return patches
        prefix = torch.cat(extra, 1)
        prefix = prefix + network.pos_embed[:, :own] if own else prefix
        return torch.cat([prefix.to(patches.dtype).expand(len(patches), -1, -1), patches], 1)

    def _freeze(self, quarters: int) -> None:
        """Stops the training of the embeddings and of the blocks up to the end of so many quarters."""
        if not quarters:
            return
        if quarters > 4:
            raise UsageError("more stages than the four quarters", field="backbone.freeze", value=quarters)
        still = [self.network.patch_embed, *self.network.blocks[: len(self.network.blocks) * quarters // 4]]
        parameters = [parameter for module in still for parameter in module.parameters()]
        names = ("pos_embed", "cls_token", "reg_token")
        loose = [getattr(self.network, name) for name in names if getattr(self.network, name) is not None]
        for parameter in (*parameters, *loose):
            parameter.requires_grad_(False)


@lru_cache(maxsize=16)
def _side(name: str, options: tuple[tuple[str, Any], ...]) -> int:
    with torch.device("meta"):
        return timm.create_model(name, **dict(options)).patch_embed.patch_size[0]


def patch_size(config: BackboneConfig) -> int:
    """Side in pixels of the patches of a timm transformer."""
    return _side(config.name, tuple(sorted(config.options.items())))


def _transformer(config: BackboneConfig) -> VisionTransformer:
    if config.output_stride is not None:
        value = config.output_stride
        raise UsageError("has no effect on a plain transformer", field="backbone.output_stride", value=value)
    wrong = UsageError(
        "arch dpt_vit needs a plain vision transformer of timm with position embeddings",
        field="backbone.name",
        value=config.name,
        hint="Take e.g. vit_small_patch14_dinov2, or arch=dpt for any other backbone.",
    )
    if not timm.is_model(config.name.split(".")[0]):
        raise wrong
    with torch.device("meta"):
        kind = timm.create_model(config.name)
    if not isinstance(kind, VisionTransformer) or kind.pos_embed is None or kind.attn_pool is not None:
        raise wrong
    return create(config, {"in_chans": config.channels, "dynamic_img_size": True, **config.options})
