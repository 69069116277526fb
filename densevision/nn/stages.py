"""The stages of a timm model: where its features can be had, and what they measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Stage(NamedTuple):
    """One place in a network where features can be had.

    Attributes:
        position: Its number in timm's `forward_intermediates`.
        channels: Channels of the features.
        stride: Pixels of the image per cell.
    """

    position: int
    channels: int
    stride: int


def stages_of(network: nn.Module) -> list[Stage]:
    """The stages of a whole timm model from stride 2 on, shallow to deep; of a plain network, its quarters."""
    parts = list(network.feature_info)
    found = [Stage(i, part["num_chs"], part["reduction"]) for i, part in enumerate(parts)]
    if not is_plain(found):
        return [stage for stage in found if stage.stride > 1]
    # A plain network's features are taken after its last norm, which may change their width.
    found = [stage._replace(channels=part.get("num_chs_norm", stage.channels)) for stage, part in zip(found, parts)]
    quarters = {max(quarter * len(found) // 4 - 1, 0) for quarter in (1, 2, 3, 4)}
    return [found[i] for i in sorted(quarters)]


def is_plain(stages: Sequence[Stage]) -> bool:
    """Whether all stages have one stride, as in a ViT."""
    return len({stage.stride for stage in stages}) == 1


def features(network: nn.Module, x: Tensor, stages: Sequence[Stage], norm: bool) -> list[Tensor]:
    """Features (B, C, H, W) of the stages of a normalized image, on request after the network's last norm."""
    positions = [stage.position for stage in stages]
    return network.forward_intermediates(x, indices=positions, norm=norm, intermediates_only=True)


def cut(network: nn.Module, stages: Sequence[Stage], norm: bool) -> None:
    """Takes from the network, in place, what none of the stages needs: the classifier and all that is deeper."""
    network.prune_intermediate_layers([stage.position for stage in stages], prune_norm=not norm)
