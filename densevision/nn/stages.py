"""The stages of a timm model: where features can be taken, and their channels and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

__all__ = ["Stage", "extract_features", "is_plain", "list_stages", "prune_network"]


class Stage(NamedTuple):
    """One place in a network where features can be taken.

    Attributes:
        position: Its index in timm's `forward_intermediates`.
        channels: Channels of the features.
        stride: Pixels of the image per cell.
    """

    position: int
    channels: int
    stride: int


def list_stages(network: nn.Module) -> list[Stage]:
    """The stages of a whole timm model from stride 2 on, shallow to deep; for a plain ViT, four equidistant blocks."""
    infos = list(cast("Sequence[dict[str, Any]]", network.feature_info))
    stages = [Stage(i, info["num_chs"], info["reduction"]) for i, info in enumerate(infos)]
    if not is_plain(stages):
        return [stage for stage in stages if stage.stride > 1]
    # Features of a plain ViT are taken after its last norm, which may change their width.
    stages = [stage._replace(channels=info.get("num_chs_norm", stage.channels)) for stage, info in zip(stages, infos)]
    quarters = {max(quarter * len(stages) // 4 - 1, 0) for quarter in (1, 2, 3, 4)}
    return [stages[i] for i in sorted(quarters)]


def is_plain(stages: Sequence[Stage]) -> bool:
    """Whether all stages have the same stride, as in a plain ViT."""
    return len({stage.stride for stage in stages}) == 1


def extract_features(network: nn.Module, x: Tensor, stages: Sequence[Stage], norm: bool) -> list[Tensor]:
    """Runs the network up to its stages.

    Args:
        network: A timm model.
        x: (B, C, H, W) normalized image.
        stages: Stages to return.
        norm: Apply the network's last norm to the features.

    Returns:
        (B, channels, h, w) features of each stage.
    """
    positions = [stage.position for stage in stages]
    forward = cast("Callable[..., list[Tensor]]", network.forward_intermediates)
    return forward(x, indices=positions, norm=norm, intermediates_only=True)


def prune_network(network: nn.Module, stages: Sequence[Stage], norm: bool) -> None:
    """Removes, in place, the classifier and the layers behind the deepest stage; the last norm unless `norm`."""
    prune = cast("Callable[..., list[int]]", network.prune_intermediate_layers)
    prune([stage.position for stage in stages], prune_norm=not norm)
