"""The task detection: objects as boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from densevision.datasets.rescale import rescale_batch, sample_scale_factor
from densevision.datasets.targets import stack_object_targets
from densevision.errors import UsageError
from densevision.nn.model import Model, Tensors
from densevision.ops.view import View
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Batch, Sample, SampleSet
from densevision.tasks.detection import dataset as data
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.metrics import DetectionMetric
from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.postprocess import make_records
from densevision.tasks.detection.scoring import refuse_benchmark
from densevision.tasks.object_config import ObjectDecodeConfig
from densevision.tasks.object_task import ObjectTask

__all__ = ["TASK", "Detection"]

MULTI_SCALE_STEP = 32
"""Canvases of multi-scale training are multiples of this."""


class Detection(ObjectTask[DetectionConfig, Detections]):
    """Which objects are in the image, and where?"""

    name = "detection"
    Config = DetectionConfig
    Result = Detections
    models = MODELS
    monitor = ("AP", "max")

    def model_arguments(self) -> dict[str, Any]:
        """The number of classes, the size of the canvas, and the weights of backbones with no further options."""
        return {
            "num_classes": len(self.class_names),
            "image_size": self.config.data.size,
            "pretrained": self.config.backbone.pretrained,
        }

    def build_model(self) -> Model:
        """Builds the model that the config names.

        Raises:
            UsageError: An option of the model or of the backbone that the architecture does not have.
        """
        parameters, backbone = self.architecture.parameters(), self.config.backbone
        supported = {"channels", *(["name"] if "encoder" in parameters else []), *(parameters.keys() & {"pretrained"})}
        for name, field in type(backbone).model_fields.items():
            value = getattr(backbone, name)
            is_set = value != field.get_default(call_default_factory=True)
            if is_set and name not in supported and "encoder_options" not in parameters:
                problem = f"has no effect with arch={self.config.arch}"
                raise UsageError(problem, field=f"backbone.{name}", value=value, hint="Leave it out.")
        return super().build_model()

    @classmethod
    def infer_from_data(cls, config: DetectionConfig) -> DetectionConfig:
        """Reads the classes from the data if the config does not name them."""
        if config.classes is not None:
            return config
        names, ids = data.read_classes(config)
        return config.replace(classes=names, category_ids=ids)

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their boxes."""
        return data.open_split(self.config, self.input_spec["image"], split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """Mosaic, mixup, one warp per image, and colors, as the config says."""
        return data.augment(self.config, self.input_spec["image"], dataset, index, rng, epoch)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample without objects."""
        empty = Detections.from_arrays([], [], self.class_names, sample.size, category_ids=self.config.category_ids)
        return replace(sample, truth=empty)

    def collate_targets(self, target_records: Sequence[Detections | None]) -> Tensors:
        """Boxes padded to the same number; see `datasets.targets.stack_object_targets`."""
        return stack_object_targets(target_records)

    def compute_losses(
        self, model: Model, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> Tensors:
        """The model's losses, in training on batches of random size if the config says so."""
        amount = self.config.augment.multi_scale
        if amount and model.training:
            batch = rescale_batch(batch, sample_scale_factor(amount), MULTI_SCALE_STEP)
        return model.compute_losses(batch.inputs, batch.targets)

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[Detections]:
        """Boxes in pixels of the original images."""
        return make_records(predictions, views, self.config)

    @property
    def decode_config(self) -> ObjectDecodeConfig:
        """The config's thresholds."""
        return self.config.decode

    def build_metric(self) -> DetectionMetric:
        """COCO's metrics.

        Raises:
            UsageError: A benchmark of tracks is configured.
        """
        refuse_benchmark(self.config)
        return DetectionMetric(self.class_names, self.config.evaluation.max_detections)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the config.

        Raises:
            UsageError: It names none.
        """
        if self.config.classes is None:
            hint = "Set data.path to a dataset, or classes to their names."
            raise UsageError("the classes are unknown", field="classes", hint=hint)
        return self.config.classes


TASK = Detection
