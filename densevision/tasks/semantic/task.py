"""Semantic segmentation: the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from densevision.errors import UsageError
from densevision.nn.model import Model, Tensors
from densevision.ops.view import View
from densevision.results import SemanticMap
from densevision.run_config import PredictOptions
from densevision.sample import Sample, SampleSet
from densevision.tasks.base import Task
from densevision.tasks.semantic import dataset as data
from densevision.tasks.semantic.config import LossConfig, SemanticConfig
from densevision.tasks.semantic.crop import crop_randomly
from densevision.tasks.semantic.label_maps import find_classes, find_most_probable, resize_planes
from densevision.tasks.semantic.losses import SegmentationCriterion, stack_labels
from densevision.tasks.semantic.metrics import MultilabelMetric, SemanticMetric
from densevision.tasks.semantic.models import MODELS

__all__ = ["TASK", "Semantic"]

MAX_WHOLE_PIXELS = 2048 * 1024
"""Larger images are predicted in tiles: Cityscapes' images and Full HD are the largest that are predicted whole.

A U-Net needs about 120 MB for each megapixel that it sees at once.
"""
MULTILABEL_THRESHOLD = 0.5
"""Probability above which a pixel belongs to a class, where it may belong to several."""


class Semantic(Task[SemanticConfig, SemanticMap]):
    """What does each pixel show?"""

    name = "semantic"
    Config = SemanticConfig
    Result = SemanticMap
    models = MODELS
    monitor = ("mIoU", "max")
    merge_strategy = "blend"

    @property
    def max_untiled_pixels(self) -> int:  # type: ignore[override]
        """`MAX_WHOLE_PIXELS` where the canvas grows with the image."""
        is_growing = self.input_spec["image"].mode == "pad"
        return MAX_WHOLE_PIXELS if is_growing else Task.max_untiled_pixels

    def model_arguments(self) -> dict[str, Any]:
        """Classes, mode and losses; the training size for models that are made for one.

        Raises:
            UsageError: The architecture has no auxiliary head, no other mode, or losses of its own.
        """
        config, loss = self.config, self.config.loss
        parameters = self.architecture.parameters()
        for name, option, is_default in (
            ("auxiliary", "loss.auxiliary", not loss.auxiliary),
            ("mode", "mode", config.mode == "multiclass"),
            ("criterion", "loss", loss == LossConfig()),
        ):
            if name not in parameters and not is_default:
                raise UsageError(f"is not supported by arch={config.arch}", field=option, hint="Leave it out.")
        return {
            "num_classes": len(self._classes()),
            "mode": config.mode,
            "auxiliary": bool(loss.auxiliary),
            "criterion": SegmentationCriterion(config.mode, **dict(loss)),
            "image_size": config.data.size,
        }

    def build_model(self) -> Model:
        """Builds the model that the config names.

        Raises:
            UsageError: As in the base class, or the batch is too small to train the architecture.
        """
        model = super().build_model()
        smallest = getattr(model, "min_train_batch", 1)
        if isinstance(self.config.train.batch, int) and self.config.train.batch < smallest:
            problem = f"arch={self.config.arch} has batch norm on pooled features"
            hint = f"Set train.batch to {smallest} or more."
            raise UsageError(problem, field="train.batch", value=self.config.train.batch, hint=hint)
        return model

    @classmethod
    def infer_from_data(cls, config: SemanticConfig) -> SemanticConfig:
        """Reads class names and class weights from the data, where the config does not give them."""
        return data.complete_config(config)

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their class maps."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop with random colors."""
        return crop_randomly(self.config.augment, dataset[index], rng, data.canvas_size(self.config))

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        return replace(sample, truth=SemanticMap.unknown(sample.size, self._classes(), self._is_multilabel))

    def collate_targets(self, target_records: Sequence[SemanticMap | None]) -> Tensors:
        """Labels on the canvas; see `losses.stack_labels`."""
        return stack_labels(target_records, self._is_multilabel)

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[SemanticMap]:
        """The most probable class of each pixel of the original images; with "multilabel" all probable ones."""
        records = []
        for view, canvas in zip(views, predictions["probabilities"]):
            if self._is_multilabel:
                labels = find_classes(canvas, view, MULTILABEL_THRESHOLD)
            else:
                labels = find_most_probable(canvas, view)
            probabilities = None
            if options.probabilities:
                probabilities = np.stack([plane.astype(np.float16) for plane in resize_planes(canvas, view)])
            records.append(
                SemanticMap(
                    labels=labels,
                    names=self._classes(),
                    probabilities=probabilities,
                    multilabel=self._is_multilabel,
                    size=view.original,
                )
            )
        return records

    def build_metric(self) -> SemanticMetric | MultilabelMetric:
        """Confusion between classes and overlap of boundaries."""
        return MultilabelMetric(self._classes()) if self._is_multilabel else SemanticMetric(self._classes())

    @property
    def _is_multilabel(self) -> bool:
        return self.config.mode == "multilabel"

    def _classes(self) -> tuple[str, ...]:
        if self.config.classes is None:
            hint = "Set data.path to a dataset, or classes to their names."
            raise UsageError("the classes are unknown", field="classes", hint=hint)
        return self.config.classes


TASK = Semantic
