"""Instance segmentation: objects with their masks or keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import timm
from torch import nn

from densevision.errors import UsageError
from densevision.nn.rcnn.named_levels import encoder
from densevision.nn.rcnn.two_stage import TwoStage
from densevision.ops.view import View
from densevision.results import Instances
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample, SampleSet
from densevision.tasks.base import DenseModel, Task, Tensors
from densevision.tasks.instance import dataset as data
from densevision.tasks.instance import postprocess as decode
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.ideal_outputs import encode
from densevision.tasks.instance.losses import instance_losses, targets
from densevision.tasks.instance.metrics import InstanceMetric
from densevision.tasks.instance.models.mask_rcnn import build_head

CELL = 32
"""Sides of the canvas are multiples of this."""


class Instance(Task[InstanceConfig, Instances]):
    """Which objects are in the image, and which pixels are theirs."""

    name = "instance"
    Config = InstanceConfig
    Result = Instances
    supported_options = frozenset(
        {"tile", "overlap", "tta", "score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes"}
    )

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that picks the best weights: of masks, or where there are none, of keypoints."""
        return ("segm/AP" if self.config.masks else "keypoints/AP"), "max"

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image, scaled by its shorter side, and the size that it then has on its canvas."""
        size, channels = self.config.data, self.config.backbone.channels
        image = InputSpec(
            channels,
            "shortest",
            size.size,
            size.longest,
            multiple_of=CELL,
            minimum=2 * CELL,
            fill=self._mean(),
            interpolation="linear",
            floats=True,
        )
        return {"image": image, "size": InputSpec(kind="size")}

    def encoder(self) -> nn.Module:
        """The backbone's stages, or the modules that `rcnn.levels` names."""
        return encoder(self.config.backbone, self.config.rcnn)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> TwoStage:
        """Both stages, with the heads that the config asks for."""
        self._classes()
        return build_head(self.config, channels, strides)

    @classmethod
    def infer_from_data(cls, config: InstanceConfig) -> InstanceConfig:
        """Reads classes and keypoints from the data, as far as the config does not name them."""
        return data.infer_from_data(config)

    def dataset(self, split: str) -> SampleSet:
        """The images of a split with their objects."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """One warp per image; mosaic, copy-paste and colors as the config asks."""
        return data.augment(self.config, self.inputs["image"], dataset, index, rng, epoch)

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample without objects."""
        return replace(sample, truth=data.nothing(self.config, sample.size))

    def targets(self, ground_truths: Sequence[Instances | None]) -> Tensors:
        """Boxes, masks and keypoints padded to the same number; see `loss.targets`."""
        return targets(ground_truths, self.config)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Two losses of proposals, two of boxes, one of each further head."""
        return instance_losses(net, batch, self.config)

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """Which boxes are answers: masks are computed of those alone."""
        return {"rules": decode.rules(options, self.config)}

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Instances]:
        """Objects in pixels of the original images."""
        return decode.results(answers, views, self.config)

    def encode(self, ground_truths: Sequence[Instances]) -> Tensors:
        """Each object answered for by its own box."""
        return encode(ground_truths, self.config)

    def merge(self, results: Sequence[Instances], options: PredictOptions) -> Instances:
        """Suppression among the objects of all tiles and views."""
        return decode.merge(results, options, self.config)

    def evaluation_options(self) -> PredictOptions:
        """Objects down to a low score: average precision needs most of the curve."""
        return PredictOptions(score_threshold=self.config.decode.eval_score_threshold)

    def metric(self) -> InstanceMetric:
        """COCO's numbers for boxes, and for all that the objects have besides."""
        config = self.config
        further = {"segm": config.masks, "boundary": config.boundary, "keypoints": config.keypoints}
        kinds = ("bbox", *(kind for kind, wanted in further.items() if wanted))
        return InstanceMetric(self._classes(), kinds, config.sigmas or ())

    def _classes(self) -> tuple[str, ...]:
        if self.config.classes is None or (self.config.keypoints and self.config.keypoint_names is None):
            hint = "Set data.path to a dataset, or classes (and joints) to their names."
            raise UsageError("the classes are not known", field="classes", hint=hint)
        return self.config.classes

    def _mean(self) -> tuple[float, ...] | float:
        """What is zero once the encoder has normalized it, so that the canvas beyond the image is nothing."""
        backbone = self.config.backbone
        mean = backbone.mean or timm.get_pretrained_cfg(backbone.name).mean
        return mean if len(mean) == backbone.channels else sum(mean) / len(mean)


TASK = Instance
