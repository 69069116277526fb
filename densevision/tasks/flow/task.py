"""Optical flow: where everything goes between two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from densevision.ops.view import View
from densevision.results import FlowField
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.flow import dataset as data
from densevision.tasks.flow import postprocess as decode
from densevision.tasks.flow.augment import augmented
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.losses import stack, supervised_losses, unsupervised_losses
from densevision.tasks.flow.metrics import FlowMetric
from densevision.tasks.flow.models.encoders import STRIDE, RaftEncoder
from densevision.tasks.flow.models.raft import RAFT_CONFIGS, RaftConfig, RaftHead
from densevision.tasks.flow.warm_start import carried


class Flow(Task[FlowConfig, FlowField]):
    """Where does each pixel of the first image go in the second, and which are lost?"""

    name = "flow"
    Config = FlowConfig
    Result = FlowField
    monitor = ("EPE", "min")
    best_possible_value = 0.0
    supported_options = frozenset({"tile", "overlap", "tta", "iterations", "warm_start", "forward_backward"})
    merge_strategy = "pixels"

    @property
    def raft_config(self) -> RaftConfig:
        """The widths that the config names; on a timm pyramid, at the stride of RAFT and with its context shared."""
        raft_config = RAFT_CONFIGS[self.config.preset]
        return replace(raft_config, stride=STRIDE, shared=True) if self.config.arch == "raft_timm" else raft_config

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """Two images as they are, their edges continued on all sides to whole cells (RAFT's "sintel" padding)."""
        channels, raft_config = self.config.backbone.channels, self.raft_config
        spec = InputSpec(channels, "center", multiple_of=raft_config.stride, minimum=raft_config.least, fill="edge")
        return {"first": spec, "second": spec}

    def encoder(self) -> nn.Module:
        """RAFT's feature encoder, or a timm pyramid's stride-8 level."""
        if self.config.arch == "raft":
            raft_config = self.raft_config
            return RaftEncoder(
                raft_config.encoder, raft_config.bottleneck, self.config.backbone.channels, raft_config.stride
            )
        from densevision.nn.backbone import Backbone

        return Backbone(self.config.backbone, shallowest=STRIDE, deepest=STRIDE)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """The steps of refinement."""
        config = self.config
        return RaftHead(
            channels,
            strides,
            self.raft_config,
            config.iterations,
            config.occlusion,
            correlation=config.correlation,
            frozen_norms=config.frozen_norms,
        )

    def dataset(self, split: str) -> SampleSet:
        """The pairs of a split with their flow."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A crop of a pair after one warp, with colors and holes; scenes never come twice."""
        sample = dataset.fresh(index, epoch) if isinstance(dataset, data.SceneFlow) else dataset[index]
        return augmented(self.config.augment, sample, rng, self.config.data.size)

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        height, width = sample.size
        nothing = np.zeros((height, width), bool)
        return replace(sample, truth=FlowField.of(np.zeros((2, height, width), np.float32), nothing))

    def targets(self, ground_truths: Sequence[FlowField | None]) -> Tensors:
        """Flow, validity and occlusion, stacked; see `loss.stack`."""
        return stack(ground_truths)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """The sequence loss, or photometric losses where there is no truth to learn from."""
        if self.config.loss.supervision == "photometric":
            return unsupervised_losses(net, batch.inputs, self.config)
        return supervised_losses(net, batch.inputs, batch.targets, self.config)

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """Iterations, and whether to go back as well."""
        forward_kwargs: dict[str, Any] = {}
        if options.iterations is not None:
            forward_kwargs["iterations"] = options.iterations
        if options.forward_backward:
            forward_kwargs["forward_backward"] = True
        return forward_kwargs

    def warm_start_inputs(self, previous: FlowField, view: View) -> Tensors:
        """The previous flow, carried along itself."""
        moved = previous.warp(view.matrix, view.size)
        return {"start": torch.from_numpy(carried(moved.flow, self.raft_config.stride))[None]}

    def answers(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """Flow, and occlusion as a probability."""
        return decode.answers(outputs)

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Flow and occlusion on the image's own pixels."""
        return decode.fields(answers, view, mirrored)

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[FlowField]:
        """Records in pixels of the original images."""
        return decode.results(answers, views)

    def encode(self, ground_truths: Sequence[FlowField]) -> Tensors:
        """Outputs that say the truths."""
        return decode.encode(ground_truths)

    def metric(self) -> FlowMetric:
        """End-point error and its kin."""
        return FlowMetric()


TASK = Flow
