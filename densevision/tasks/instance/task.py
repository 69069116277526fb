"""The task instance: objects with masks or keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from densevision.errors import UsageError
from densevision.nn.model import Tensors
from densevision.ops.view import View
from densevision.results import Instances
from densevision.run_config import PredictOptions
from densevision.sample import Sample, SampleSet
from densevision.tasks.instance import dataset as data
from densevision.tasks.instance.config import DecodeConfig, InstanceConfig
from densevision.tasks.instance.metrics import InstanceMetric
from densevision.tasks.instance.models import MODELS
from densevision.tasks.instance.postprocess import make_records
from densevision.tasks.instance.targets import stack_instance_targets
from densevision.tasks.object_task import ObjectTask

__all__ = ["TASK", "Instance"]


class Instance(ObjectTask[InstanceConfig, Instances]):
    """Which objects are in the image, and which pixels are theirs?"""

    name = "instance"
    Config = InstanceConfig
    Result = Instances
    models = MODELS

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that picks the best weights: AP of masks, or of keypoints if there are no masks."""
        return ("segm/AP" if self.config.has_masks else "keypoints/AP"), "max"

    def model_arguments(self) -> dict[str, Any]:
        """The number of classes and keypoints, and the size of the canvas."""
        config = self.config
        return {
            "num_classes": len(self.class_names),
            "num_keypoints": len(config.keypoint_names or ()),
            "image_size": config.data.size,
        }

    @classmethod
    def infer_from_data(cls, config: InstanceConfig) -> InstanceConfig:
        """Reads classes and keypoints from the data if the config does not name them."""
        return data.infer_from_data(config)

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their objects."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """Mosaic, one warp per image, copy-paste, and colors, as the config says."""
        return data.augment(self.config, self.input_spec["image"], dataset, index, rng, epoch)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample without objects."""
        return replace(sample, truth=data.make_empty(self.config, sample.size))

    def collate_targets(self, target_records: Sequence[Instances | None]) -> Tensors:
        """Boxes, masks and keypoints padded to the same number; see `stack_instance_targets`."""
        return stack_instance_targets(target_records, self.config)

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[Instances]:
        """Objects in pixels of the original images."""
        return make_records(predictions, views, self.config)

    @property
    def decode_config(self) -> DecodeConfig:
        """The config's thresholds."""
        return self.config.decode

    def build_metric(self) -> InstanceMetric:
        """COCO's metrics of boxes, and of masks, boundaries and keypoints if there are any."""
        config = self.config
        optional = {"segm": config.has_masks, "boundary": config.boundary, "keypoints": config.has_keypoints}
        kinds = ("bbox", *(kind for kind, is_present in optional.items() if is_present))
        return InstanceMetric(self.class_names, kinds, config.sigmas or (), config.evaluation.max_detections)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the config.

        Raises:
            UsageError: It names none.
        """
        if self.config.classes is None or (self.config.has_keypoints and self.config.keypoint_names is None):
            hint = "Set data.path to a dataset, or classes (and keypoint_names) to their names."
            raise UsageError("the classes are unknown", field="classes", hint=hint)
        return self.config.classes


TASK = Instance
