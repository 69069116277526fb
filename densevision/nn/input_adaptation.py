"""Fits weights of another number of input channels, or of another image size, to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

__all__ = ["adapt_to_input"]


def adapt_to_input(
    model: nn.Module, tensors: Mapping[str, Tensor], source_channels: int, channels: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Changes the tensors of a state dict that depend on the input, where the model's shapes differ.

    The convolutions that read the image are repeated over the channels and divided, or summed for gray images, as timm
    does. Position embeddings are resampled bicubically, those of the prefix tokens are kept.

    Args:
        model: The model that the tensors are for.
        tensors: The state dict.
        source_channels: Input channels of the model that the tensors are of.
        channels: Input channels of the model.

    Returns:
        The state dict, and the names of the tensors that were changed. Others that do not fit are left as they are.
    """
    state = model.state_dict()
    adapted, changed = dict(tensors), []
    for name, tensor in tensors.items():
        target = state.get(name)
        if target is None or target.shape == tensor.shape:
            continue
        result = None
        if _reads_image(tensor, target, source_channels, channels):
            result = _adapt_convolution(tensor, source_channels, channels)
        elif name.rpartition(".")[2] == "pos_embed":
            result = _resample_positions(model.get_submodule(name.rpartition(".")[0]), tensor)
        if result is not None and result.shape == target.shape:
            adapted[name] = result
            changed.append(name)
    return adapted, changed


def _reads_image(tensor: Tensor, target: Tensor, source_channels: int, channels: int) -> bool:
    """Whether a convolution has the input channels of the image, or those of its cells moved to channels."""
    if tensor.ndim != 4 or target.ndim != 4 or source_channels == channels:
        return False
    if tensor.shape[0] != target.shape[0] or tensor.shape[2:] != target.shape[2:]:
        return False
    return tensor.shape[1] % source_channels == 0 and tensor.shape[1] * channels == target.shape[1] * source_channels


def _adapt_convolution(weight: Tensor, source_channels: int, channels: int) -> Tensor:
    cells = weight.unflatten(1, (-1, source_channels))  # one, or several where pixels were moved to channels
    flat = cells.flatten(0, 1)
    return adapt_input_conv(channels, flat, source_channels).unflatten(0, cells.shape[:2]).flatten(1, 2)


def _resample_positions(owner: nn.Module, positions: Tensor) -> Tensor | None:
    """Position embeddings (1, N, D) for the grid of a timm ViT; None where the grids are not known."""
    grid = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    if grid is None or positions.ndim != 3:
        return None
    has_prefix = not getattr(owner, "no_embed_class", False)
    prefix_tokens = int(getattr(owner, "num_prefix_tokens", 0)) if has_prefix else 0
    side = math.isqrt(positions.shape[1] - prefix_tokens)
    if side**2 != positions.shape[1] - prefix_tokens:
        return None
    return resample_abs_pos_embed(positions, list(grid), [side, side], prefix_tokens)
