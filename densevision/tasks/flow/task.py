"""Optical flow: where everything goes between two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from densevision.ops.view import View
from densevision.recipe import PredictOptions
from densevision.results import FlowField
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.contract import Net, SampleSet, Task, Tensors
from densevision.tasks.flow import data, decode
from densevision.tasks.flow.augment import augmented
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.features import STRIDE, RaftEncoder
from densevision.tasks.flow.head import PLANS, Plan, RaftHead
from densevision.tasks.flow.loss import stack, supervised_losses, unsupervised_losses
from densevision.tasks.flow.metric import FlowMetric
from densevision.tasks.flow.warm_start import carried


class Flow(Task[FlowConfig, FlowField]):
    """Where does each pixel of the first picture go in the second, and which are lost?"""

    name = "flow"
    Config = FlowConfig
    Result = FlowField
    watch = ("EPE", "min")
    perfect = 0.0
    heeds = frozenset({"tile", "overlap", "tta", "iterations", "warm_start", "consistency"})
    tiling = "pixels"

    @property
    def plan(self) -> Plan:
        """The widths that the config names; on a timm pyramid, at the stride of RAFT and with its context shared."""
        plan = PLANS[self.config.preset]
        return replace(plan, stride=STRIDE, shared=True) if self.config.arch == "raft_timm" else plan

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """Two pictures as they are, their edges continued on all sides to whole cells (RAFT's "sintel" padding)."""
        channels, plan = self.config.backbone.channels, self.plan
        spec = InputSpec(channels, "centre", multiple_of=plan.stride, minimum=plan.least, fill="edge")
        return {"first": spec, "second": spec}

    def encoder(self) -> nn.Module:
        """RAFT's feature encoder, or a timm pyramid's stride-8 level."""
        if self.config.arch == "raft":
            plan = self.plan
            return RaftEncoder(plan.encoder, plan.bottleneck, self.config.backbone.channels, plan.stride)
        from densevision.nn.backbone import Backbone

        return Backbone(self.config.backbone, shallowest=STRIDE, deepest=STRIDE)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """The steps of refinement."""
        config = self.config
        return RaftHead(
            channels,
            strides,
            self.plan,
            config.iterations,
            config.occlusion,
            correlation=config.correlation,
            frozen_norms=config.frozen_norms,
        )

    def dataset(self, split: str) -> SampleSet:
        """The pairs of a split with their flow."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A crop of a pair after one warp, with colours and holes; scenes never come twice."""
        sample = dataset.fresh(index, epoch) if isinstance(dataset, data.SceneFlow) else dataset[index]
        return augmented(self.config.augment, sample, rng, self.config.data.size)

    def without_truth(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        height, width = sample.size
        nothing = np.zeros((height, width), bool)
        return replace(sample, truth=FlowField.of(np.zeros((2, height, width), np.float32), nothing))

    def targets(self, truths: Sequence[FlowField | None]) -> Tensors:
        """Flow, validity and occlusion, stacked; see `loss.stack`."""
        return stack(truths)

    def losses(self, net: Net, batch: Batch, critic: nn.Module | None, phase: str) -> Tensors:
        """The sequence loss, or photometric losses where there is no truth to learn from."""
        if self.config.loss.supervision == "photometric":
            return unsupervised_losses(net, batch.inputs, self.config)
        return supervised_losses(net, batch.inputs, batch.targets, self.config)

    def steering(self, options: PredictOptions) -> dict[str, Any]:
        """Iterations, and whether to go back as well."""
        steering: dict[str, Any] = {}
        if options.iterations is not None:
            steering["iterations"] = options.iterations
        if options.consistency:
            steering["consistency"] = True
        return steering

    def continued(self, previous: FlowField, view: View) -> Tensors:
        """The previous flow, carried along itself."""
        moved = previous.warp(view.matrix, view.size)
        return {"start": torch.from_numpy(carried(moved.flow, self.plan.stride))[None]}

    def answers(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """Flow, and occlusion as a probability."""
        return decode.answers(outputs)

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Flow and occlusion on the picture's own pixels."""
        return decode.fields(answers, view, mirrored)

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[FlowField]:
        """Records in pixels of the original pictures."""
        return decode.results(answers, views)

    def encode(self, truths: Sequence[FlowField]) -> Tensors:
        """Outputs that say the truths."""
        return decode.encode(truths)

    def metric(self) -> FlowMetric:
        """End-point error and its kin."""
        return FlowMetric()


TASK = Flow
