"""Detection: objects as boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from densevision.datasets.rescale import random_factor, rescale_batch
from densevision.datasets.targets import stack
from densevision.errors import UsageError
from densevision.nn.rcnn.named_levels import encoder
from densevision.ops.view import View
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.detection import dataset as data
from densevision.tasks.detection import postprocess as decode
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.ideal_outputs import encode
from densevision.tasks.detection.losses import detection_losses
from densevision.tasks.detection.metrics import DetectionMetric
from densevision.tasks.detection.models import faster_rcnn as two_stage
from densevision.tasks.detection.models.yolo import STRIDES, YoloHead

PRESETS = {"nano": (64, 1), "small": (96, 1), "medium": (192, 2), "large": (256, 3)}
"""Width and depth of the neck."""


class Detection(Task[DetectionConfig, Detections]):
    """Which objects are in the image, and where."""

    name = "detection"
    Config = DetectionConfig
    Result = Detections
    monitor = ("AP", "max")
    supported_options = frozenset(
        {"tile", "overlap", "tta", "score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes"}
    )

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image, scaled to fit into the config's size; with two stages also the size that it then has."""
        if self.two_stage:
            return two_stage.inputs(self.config)
        size, channels, cell = self.config.data.size, self.config.backbone.channels, max(STRIDES)
        # At least two cells a side: an exported graph takes a side of one for a constant.
        return {"image": InputSpec(channels, "letterbox", size, multiple_of=cell, minimum=2 * cell, fill=data.GRAY)}

    @property
    def two_stage(self) -> bool:
        """Whether the detector proposes first, and then says what each proposal is."""
        return self.config.arch == "faster_rcnn"

    def encoder(self) -> nn.Module:
        """The backbone's stages; with two stages perhaps the modules that `rcnn.levels` names."""
        return encoder(self.config.backbone, self.config.rcnn) if self.two_stage else super().encoder()

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """The neck of the preset and the branches, or both stages."""
        if self.two_stage:
            self._classes()
            return two_stage.build_head(self.config, channels, strides)
        width, depth = PRESETS[self.config.preset]
        return YoloHead(channels, strides, len(self._classes()), width, depth, self.config.bins)

    @classmethod
    def infer_from_data(cls, config: DetectionConfig) -> DetectionConfig:
        """Reads the classes from the data, when the config does not name them."""
        if config.classes is not None:
            return config
        names, ids = data.read_classes(config)
        return config.changed(classes=names, category_ids=ids)

    def dataset(self, split: str) -> SampleSet:
        """The images of a split with their boxes."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """One warp per image onto the canvas; mosaic, mixup and colors as the config asks."""
        return data.augment(self.config, dataset, index, rng, epoch)

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample without objects."""
        nothing = Detections.of([], [], self._classes(), sample.size, ids=self.config.category_ids)
        return replace(sample, truth=nothing)

    def targets(self, ground_truths: Sequence[Detections | None]) -> Tensors:
        """Boxes padded to the same number; see `data.targets.stack`."""
        return stack(ground_truths)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Classification, overlap and distribution; or those of both stages."""
        amount = self.config.augment.multi_scale
        if amount and net.training:
            batch = rescale_batch(batch, random_factor(amount), max(STRIDES))
        if self.two_stage:
            return two_stage.losses(net, batch, self.config)
        return detection_losses(net(**batch.inputs), batch.targets, self.config)

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """With two stages, which boxes are answers: the head itself suppresses the others."""
        return {"rules": two_stage.rules(options, self.config)} if self.two_stage else {}

    @property
    def has_postprocess(self) -> bool:
        """Two stages have done so within the network."""
        return not self.two_stage

    def answers(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """Boxes on the canvas after suppression, padded to a fixed number."""
        return outputs if self.two_stage else decode.answers(outputs, options, self.config)

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Detections]:
        """Boxes in pixels of the original images."""
        return decode.results(answers, views, self.config)

    def encode(self, ground_truths: Sequence[Detections]) -> Tensors:
        """Each object spoken by one anchor point; with two stages, by its own box."""
        return (
            two_stage.encode(ground_truths)
            if self.two_stage
            else encode(ground_truths, len(self._classes()), self.config.bins)
        )

    def merge(self, results: Sequence[Detections], options: PredictOptions) -> Detections:
        """Suppression among the boxes of all tiles and views."""
        return decode.merge(results, options, self.config)

    def evaluation_options(self) -> PredictOptions:
        """Boxes down to a very low score: average precision needs the whole curve."""
        return PredictOptions(score_threshold=self.config.decode.eval_score_threshold)

    def metric(self) -> DetectionMetric:
        """COCO's numbers."""
        return DetectionMetric(self._classes())

    def _classes(self) -> tuple[str, ...]:
        if self.config.classes is None:
            hint = "Set data.path to a dataset, or classes to their names."
            raise UsageError("the classes are not known", field="classes", hint=hint)
        return self.config.classes


TASK = Detection
