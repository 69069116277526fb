"""Optical flow: the motion of every pixel between two images."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from densevision.errors import UsageError
from densevision.nn.model import Model, Tensors
from densevision.ops.view import View
from densevision.results import FlowField
from densevision.run_config import BackboneConfig, PredictOptions
from densevision.sample import Sample, SampleSet
from densevision.tasks.base import Task
from densevision.tasks.flow import dataset, postprocess
from densevision.tasks.flow.augment import augment_sample
from densevision.tasks.flow.config import FlowConfig, LossConfig
from densevision.tasks.flow.losses import FlowCriterion, collate_targets
from densevision.tasks.flow.metrics import FlowMetric
from densevision.tasks.flow.models import MODELS
from densevision.tasks.flow.photometric import PhotometricCriterion
from densevision.tasks.flow.warm_start import project_forward

__all__ = ["TASK", "Flow", "build_criterion"]

MAP_NAMES = ("flow", "occlusion")
"""Predictions that become part of the record."""


class Flow(Task[FlowConfig, FlowField]):
    """Estimates where each pixel of the first image lies in the second, and which ones are occluded."""

    name = "flow"
    Config = FlowConfig
    Result = FlowField
    models = MODELS
    monitor = ("EPE", "min")
    best_possible_value = 0.0
    merge_strategy = "blend"

    def model_arguments(self) -> dict[str, Any]:
        """The losses, and whether SEA-RAFT's encoders start from ImageNet weights."""
        arguments = {
            "criterion": build_criterion(self.config.loss),
            "pretrained": self.config.backbone.pretrained is True,
        }
        has_own_encoder = "encoder" not in self.architecture.arguments
        return arguments | {"encoder": None} if has_own_encoder else arguments

    def build_model(self) -> Model:
        """Builds the model.

        Raises:
            UsageError: Options of the config have no effect on the architecture.
        """
        config, parameters = self.config, self.architecture.parameters()
        if "criterion" not in parameters and config.loss != LossConfig():
            hint = "Use the architecture's own options: model.gamma, model.max_flow."
            raise UsageError(
                f"has no effect on arch {config.arch}", field="loss", value=config.loss.to_dict(), hint=hint
            )
        fields: dict[str, Any] = {"channels": config.backbone.channels}
        if "encoder" in self.architecture.arguments:
            fields["name"] = config.backbone.name
            if "encoder_options" not in parameters:
                fields["pretrained"] = config.backbone.pretrained
        is_timm = "encoder" in self.architecture.arguments and "encoder_options" in parameters
        if not is_timm and config.backbone != BackboneConfig(**fields):
            names = ", ".join(fields)
            problem = f"has no effect on arch {config.arch}, apart from {names}"
            raise UsageError(problem, field="backbone", value=config.backbone.to_dict(), hint="Use arch raft_timm.")
        return super().build_model()

    @property
    def timm_backbone(self) -> str | None:
        """That of the architectures whose encoder is a timm model."""
        return super().timm_backbone if "encoder" in self.architecture.arguments else None

    def open_dataset(self, split: str) -> SampleSet:
        """The pairs of a split with their flow."""
        return dataset.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop of a pair with random colors; procedural scenes are new in every epoch."""
        sample = dataset.get_for_epoch(index, epoch) if hasattr(dataset, "get_for_epoch") else dataset[index]
        return augment_sample(self.config.augment, sample, rng, self.config.data.size)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        height, width = sample.size
        zeros = np.zeros((2, height, width), np.float32)
        return replace(sample, truth=FlowField.from_arrays(zeros, np.zeros((height, width), bool)))

    def collate_targets(self, target_records: Sequence[FlowField | None]) -> Tensors:
        """Flow, occlusion and where they are known; see `losses.collate_targets`."""
        return collate_targets(target_records)

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """The number of iterations, and whether to check forward-backward consistency.

        Raises:
            UsageError: The architecture has no such option.
        """
        kwargs: dict[str, Any] = {}
        if options.iterations is not None:
            kwargs["iterations"] = options.iterations
        if options.forward_backward:
            self._check_forward_argument("forward_backward", "forward_backward")
            kwargs["forward_backward"] = True
        if options.warm_start:
            self._check_forward_argument("initial_flow", "warm_start")
        return kwargs

    def warm_start_inputs(self, previous: FlowField, view: View) -> Tensors:
        """The previous flow, projected forward, as the initial flow."""
        flow = previous.warp(view.matrix, view.size).flow
        stride = self.input_spec["first"].multiple_of
        return {"initial_flow": torch.from_numpy(project_forward(flow, stride))[None]}

    def postprocess(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """The predictions that the record has."""
        predictions = super().postprocess(outputs, options)
        return {name: predictions[name] for name in MAP_NAMES if name in predictions}

    def to_image_space(self, predictions: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Flow and occlusion on the image's own pixels."""
        return postprocess.to_image_space(predictions, view, mirrored)

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[FlowField]:
        """Records in pixels of the original images."""
        return postprocess.to_results(predictions, views)

    def build_metric(self) -> FlowMetric:
        """End-point error and related metrics."""
        return FlowMetric()

    def _check_forward_argument(self, name: str, option: str) -> None:
        if name not in inspect.signature(self.architecture.load_class().forward).parameters:
            known = [
                arch for arch, each in MODELS.items() if name in inspect.signature(each.load_class().forward).parameters
            ]
            hint = f"These architectures support it: {', '.join(known)}."
            raise UsageError(f"is not supported by arch {self.config.arch}", field=option, value=True, hint=hint)


def build_criterion(loss: LossConfig) -> FlowCriterion | PhotometricCriterion:
    """The criterion with the weights of a config."""
    if loss.supervision == "photometric":
        return PhotometricCriterion(loss.gamma, loss.occlusion, loss.smoothness, loss.census_radius)
    return FlowCriterion(loss.distance, loss.gamma, loss.max_flow, loss.occlusion, loss.matching)


TASK = Flow
