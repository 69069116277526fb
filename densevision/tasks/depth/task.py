"""Depth: how far away everything in an image is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from densevision.errors import UsageError
from densevision.nn.model import Model, Tensors
from densevision.ops.view import View
from densevision.results.depth_map import DepthMap
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample, SampleSet
from densevision.tasks.base import Task
from densevision.tasks.depth import dataset, postprocess
from densevision.tasks.depth.augment import augment_sample
from densevision.tasks.depth.config import DepthConfig, LossConfig
from densevision.tasks.depth.losses import DepthCriterion
from densevision.tasks.depth.metrics import DepthMetric, Protocol
from densevision.tasks.depth.models import MODELS
from densevision.tasks.depth.models.depth_model import DepthModel
from densevision.tasks.depth.stereo import StereoCriterion
from densevision.tasks.depth.units import collate_targets

__all__ = ["TASK", "Depth", "build_criterion"]


class Depth(Task[DepthConfig, DepthMap]):
    """Estimates the depth of every pixel of one image."""

    name = "depth"
    Config = DepthConfig
    Result = DepthMap
    models = MODELS
    best_possible_value = 0.0
    merge_strategy = "blend"

    @property
    def monitor(self) -> tuple[str, str]:
        """The relative error under the config's protocol."""
        return f"AbsRel{self._protocol.suffix}", "min"

    def model_arguments(self) -> dict[str, Any]:
        """What is predicted, how images are resized, and the losses."""
        config = self.config
        return {
            "target_kind": config.target_kind,
            "max_depth": config.max_depth if config.is_bounded else None,
            "stereo": config.is_stereo,
            "image_size": config.data.shorter,
            "resize": config.data.resize,
            "criterion": build_criterion(config.loss, config.is_stereo),
        }

    def build_model(self) -> Model:
        """Builds the model.

        Raises:
            UsageError: The architecture cannot be trained on stereo pairs, or has no such resize rule.
        """
        parameters, data = self.architecture.parameters(), self.config.data
        if self.config.is_stereo and "stereo" not in parameters:
            hint = "Use depth_unet, or supervised losses."
            raise UsageError("cannot be trained on stereo pairs", field="arch", value=self.config.arch, hint=hint)
        if data.resize == "closest" and "resize" not in parameters:
            raise UsageError(f"has no effect on arch {self.config.arch}", field="data.resize", value=data.resize)
        return super().build_model()

    @property
    def auxiliary_images(self) -> dict[str, InputSpec]:
        """The right images of stereo pairs."""
        return {"right": self.input_spec["image"]} if self.config.is_stereo else {}

    @property
    def needs_global_alignment(self) -> bool:
        """Whether depth drifts from tile to tile: without a unit, or where it depends on the size of the canvas."""
        return not self.config.unit or self.config.data.shorter is not None or self._model.depends_on_image_size

    @classmethod
    def infer_from_data(cls, config: DepthConfig) -> DepthConfig:
        """Reads the camera from the data if the config does not state it."""
        return dataset.infer_camera(config)

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their depth."""
        return dataset.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop with random colors; procedural scenes are new in every epoch."""
        sample = dataset.get_for_epoch(index, epoch) if hasattr(dataset, "get_for_epoch") else dataset[index]
        size, shorter = self.config.data.size, self.config.data.shorter
        crop = (size, size) if isinstance(size, int) else size
        return augment_sample(self.config.augment, sample, rng, crop, shorter)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        return dataset.remove_labels(sample)

    def collate_targets(self, target_records: Sequence[DepthMap | None]) -> Tensors:
        """ "depth" and "valid", see `units.collate_targets`; stereo training needs neither."""
        return {} if self.config.is_stereo else collate_targets(target_records, self.config)

    def ideal_outputs(self, target_records: Sequence[DepthMap]) -> Tensors:
        """Outputs that equal the ground truth."""
        targets = collate_targets(target_records, self.config)
        return self._model.ideal_outputs(targets, target_records[0].size)

    def to_image_space(self, predictions: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Depth on the image's own pixels."""
        return postprocess.to_image_space(predictions, view, mirrored, self.config, self._model.upsampling)

    def align_to_reference(self, maps: Tensors, reference: Tensors) -> Tensors:
        """A tile's depth at the scale of the whole image's."""
        return postprocess.align_to_reference(maps, reference, self.config)

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[DepthMap]:
        """Records in the unit of the config."""
        spec = self.input_spec["image"]
        return postprocess.to_results(predictions, views, spec, options, self.config, self._model.upsampling)

    def build_metric(self) -> DepthMetric:
        """Errors of depth and disparity under the config's protocol."""
        return DepthMetric(self._protocol)

    @property
    def _model(self) -> DepthModel:
        return cast(DepthModel, self.meta_model)

    @property
    def _protocol(self) -> Protocol:
        rules = self.config.evaluation
        return Protocol(self.config.alignment, rules.crop, rules.min_depth, rules.max_depth, rules.bounds)


def build_criterion(loss: LossConfig, is_stereo: bool) -> DepthCriterion | StereoCriterion:
    """The criterion with the weights of a config."""
    if is_stereo:
        return StereoCriterion(loss.photometric, loss.consistency, loss.smoothness, loss.ssim)
    names = ("silog", "l1", "log_l1", "berhu", "ssi", "ssi_gradient", "smoothness", "silog_variance")
    return DepthCriterion(**{name: getattr(loss, name) for name in names})


TASK = Depth
