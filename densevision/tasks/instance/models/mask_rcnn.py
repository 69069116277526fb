"""The network's head, as the config describes it."""

from __future__ import annotations

from collections.abc import Sequence

from densevision.nn.rcnn.postprocess import Rules
from densevision.nn.rcnn.two_stage import TwoStage
from densevision.run_config import PredictOptions
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.postprocess import rules


def build_head(config: InstanceConfig, channels: Sequence[int], strides: Sequence[int]) -> TwoStage:
    """Pyramid, proposals, boxes, and the mask and keypoint heads that the config asks for.

    Args:
        config: With its classes, and its joints where there are keypoints.
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
    """
    usual: Rules = rules(PredictOptions(), config)
    return TwoStage(
        channels,
        strides,
        len(config.classes or ()),
        config.rcnn,
        usual,
        mask=config.mask if config.masks else None,
        keypoint=config.keypoint if config.keypoints else None,
        keypoints=len(config.keypoint_names or ()),
    )
