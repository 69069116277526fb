"""Faster R-CNN as the detector: its input, its head, its losses, and the outputs of a perfect one.

Source: Ren et al., Faster R-CNN, NeurIPS 2015; stage by stage in `nn.rcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from torch import Tensor

from densevision.datasets.targets import stack
from densevision.nn.rcnn.matcher import ground_truths_of
from densevision.nn.rcnn.postprocess import Rules, asked_for
from densevision.nn.rcnn.two_stage import TwoStage
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec
from densevision.tasks.base import DenseModel
from densevision.tasks.detection.config import DetectionConfig

CELL = 32
"""Sides of the canvas are multiples of this."""


def inputs(config: DetectionConfig) -> dict[str, InputSpec]:
    """One image, scaled by its shorter side, and the size that it then has on its canvas."""
    backbone, data = config.backbone, config.data
    mean = backbone.mean or timm.get_pretrained_cfg(backbone.name).mean
    image = InputSpec(
        backbone.channels,
        "shortest",
        data.size,
        data.longest,
        multiple_of=CELL,
        minimum=2 * CELL,
        # Zero once the encoder has normalized it, so that the canvas beyond the image is nothing.
        fill=mean if len(mean) == backbone.channels else sum(mean) / len(mean),
        interpolation="linear",
        floats=True,
    )
    return {"image": image, "size": InputSpec(kind="size")}


def build_head(config: DetectionConfig, channels: Sequence[int], strides: Sequence[int]) -> TwoStage:
    """Both stages.

    Args:
        config: With its classes.
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
    """
    return TwoStage(channels, strides, len(config.classes or ()), config.rcnn, rules(PredictOptions(), config))


def rules(options: PredictOptions, config: DetectionConfig) -> Rules:
    """Which boxes are answers: what the options ask for, and where they are silent, the config.

    Raises:
        UsageError: A class that does not exist.
    """
    chosen = config.decode
    usual = Rules(chosen.score_threshold, chosen.iou_threshold, chosen.max_detections, chosen.candidates)
    return asked_for(options, usual, config.classes or ())


def losses(net: DenseModel, batch: Batch, config: DetectionConfig) -> dict[str, Tensor]:
    """The weighted losses of both stages: "objectness", "proposal", "class", "box"."""
    found = net.head.losses(**net.features(**batch.inputs), ground_truths=ground_truths_of(batch.targets))
    weights = {**config.loss.model_dump(), "class": config.loss.classification}
    return {name: weights[name] * value for name, value in found.items()}


def encode(ground_truths: Sequence[Detections | None]) -> dict[str, Tensor]:
    """The outputs of a perfect network: each object answered for by its own box. Crowd regions are no objects."""
    stacked = stack([None if truth is None else truth[~truth.crowd] for truth in ground_truths])
    outputs = {name: stacked[name] for name in ("boxes", "labels", "valid")}
    return {**outputs, "scores": outputs["valid"].to(torch.float32)}
