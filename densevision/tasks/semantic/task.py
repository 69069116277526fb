"""Semantic segmentation: the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from densevision.errors import UsageError
from densevision.ops.view import View
from densevision.results import SemanticMap
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.semantic import dataset as data
from densevision.tasks.semantic import postprocess as decode
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.crop import GRAY, cropped
from densevision.tasks.semantic.losses import semantic_losses, stack
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric
from densevision.tasks.semantic.models.segmentation_head import SemanticHead

MULTIPLE = 32
"""What the sides of a canvas are multiples of: the deepest stride. The dilated FCN takes images as they are."""


class Semantic(Task[SemanticConfig, SemanticMap]):
    """What does each pixel show?"""

    name = "semantic"
    Config = SemanticConfig
    Result = SemanticMap
    monitor = ("mIoU", "max")
    supported_options = frozenset({"tile", "overlap", "tta", "probabilities"})
    merge_strategy = "pixels"

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image in its own size."""
        arch, backbone = self.config.arch, self.config.backbone
        multiple = 1 if arch == "fcn" else MULTIPLE
        # PAN halves its deepest level three times.
        minimum = 8 * (backbone.output_stride or MULTIPLE) if arch == "pan" else multiple
        return {"image": InputSpec(backbone.channels, "pad", multiple_of=multiple, minimum=minimum, fill=GRAY)}

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """The decoder of the architecture, with a score for each class."""
        return SemanticHead(self.config, channels, strides, len(self._classes()))

    @classmethod
    def infer_from_data(cls, config: SemanticConfig) -> SemanticConfig:
        """Reads the classes and their weights from the data, where the config leaves them to it."""
        return data.completed(config)

    def dataset(self, split: str) -> SampleSet:
        """The images of a split with their class maps."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A crop, in other colors."""
        return cropped(self.config.augment, dataset[index], rng, data.canvas_size(self.config))

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        return replace(sample, truth=SemanticMap.unknown(sample.size, self._classes(), self._multilabel))

    def targets(self, ground_truths: Sequence[SemanticMap | None]) -> Tensors:
        """Labels on the canvas; see `loss.stack`."""
        return stack(ground_truths, self._multilabel)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """The weighted losses that the config names."""
        return semantic_losses(net(**batch.inputs), batch.targets, self.config.loss, self._multilabel)

    def answers(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """The probability of each class."""
        return decode.answers(outputs, self.config)

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[SemanticMap]:
        """Class maps of the original images."""
        return decode.results(answers, views, self._classes(), self.config, options)

    def encode(self, ground_truths: Sequence[SemanticMap]) -> Tensors:
        """Certain logits."""
        return decode.encode(ground_truths, len(self._classes()), self._multilabel)

    def metric(self) -> SemanticMetric | MultilabelMetric:
        """Confusion, and the overlap of borders."""
        return MultilabelMetric(self._classes()) if self._multilabel else SemanticMetric(self._classes())

    @property
    def _multilabel(self) -> bool:
        return self.config.mode == "multilabel"

    def _classes(self) -> tuple[str, ...]:
        if self.config.classes is None:
            hint = "Set data.path to a dataset, or classes to their names."
            raise UsageError("the classes are not known", field="classes", hint=hint)
        return self.config.classes


TASK = Semantic
