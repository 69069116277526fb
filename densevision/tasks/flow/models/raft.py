"""RAFT: flow refined iteratively by looking up correlations around the current match.

Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from densevision.nn.backbone import Backbone
from densevision.nn.model import Model, Tensors
from densevision.ops.warp import pixel_grid
from densevision.sample import InputSpec
from densevision.tasks.flow.losses import FlowCriterion, Iterations, IterativeCriterion
from densevision.tasks.flow.models.correlation import CorrelationKind, correlate
from densevision.tasks.flow.models.encoders import ConvEncoder, RaftEncoder, no_norm
from densevision.tasks.flow.models.occlusion import OcclusionRefiner, find_inconsistent
from densevision.tasks.flow.models.update_block import MotionEncoder, PredictionHead, UpdateBlock
from densevision.tasks.flow.models.upsample import BilinearUpsampler, ConvexUpsampler

__all__ = ["RAFT", "State"]

CERTAIN_LOGIT = 20.0
"""Logit of pixels that are certainly occluded; its negative of certainly visible ones."""


class State(NamedTuple):
    """The result of one iteration, per cell.

    Attributes:
        hidden: (B, hidden_channels, h, w).
        flow: (B, 2, h, w) in cells.
        occlusion: (B, 1, h, w) logits, or None.
    """

    hidden: Tensor
    flow: Tensor
    occlusion: Tensor | None


class RAFT(Model):
    """RAFT with its own encoders or on a timm backbone, optionally with occlusion. Defaults are RAFT-small.

    Where a cell is occluded its match does not exist and should not attract the flow. So the predicted occlusion is fed
    back into the next iteration (as Neoral, Sochman and Matas, Continual Occlusions and Optical Flow Estimation, ACCV
    2018, do between the levels of a pyramid), and after the last one it is refined at every pixel.

    Args:
        in_channels: Channels of each image.
        encoder: A timm model whose level of stride `stride` gives the features; None for RAFT's own encoder.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        encoder_channels: Channels of the feature encoder's stem, three stages and output; the context encoder has the
            same ones apart from the output.
        bottleneck: Whether RAFT's encoders use bottleneck blocks.
        context_norm: Whether RAFT's context encoder has batch norms, or none.
        hidden_channels: Channels of the hidden state.
        context_channels: Channels of the context.
        correlation_levels: Scales of the correlation.
        correlation_radius: Cells to each side of a match that are looked up.
        correlation_channels: Channels of the convolutions over the correlation.
        flow_channels: Channels of the convolutions over the flow.
        motion_channels: Channels of the motion features.
        separable_gru: Update by two GRUs, along rows and columns.
        head_channels: Channels between the hidden state and the predictions.
        convex_upsampling: Upsample by learned convex combinations, instead of bilinearly.
        stride: Pixels per cell.
        shared_encoder: Take the context from the feature encoder, which then runs on two images instead of three.
        occlusion: Predict occlusion as well.
        iterations: Iterations of prediction.
        training_iterations: Iterations of training.
        correlation: See `correlation.correlate`.
        freeze_batch_norm: Keep the statistics of the batch norms, as RAFT does after FlyingChairs.
        criterion: The losses; `FlowCriterion()` by default.

    Raises:
        UsageError: The backbone has no level of this stride.
    """

    def __init__(
        self,
        in_channels: int = 3,
        encoder: str | None = None,
        encoder_options: Mapping[str, Any] | None = None,
        encoder_channels: tuple[int, int, int, int, int] = (32, 32, 64, 96, 128),
        bottleneck: bool = True,
        context_norm: bool = False,
        hidden_channels: int = 96,
        context_channels: int = 64,
        correlation_levels: int = 4,
        correlation_radius: int = 3,
        correlation_channels: tuple[int, ...] = (96,),
        flow_channels: tuple[int, int] = (64, 32),
        motion_channels: int = 82,
        separable_gru: bool = False,
        head_channels: int = 128,
        convex_upsampling: bool = False,
        stride: Literal[4, 8] = 8,
        shared_encoder: bool = False,
        occlusion: bool = True,
        iterations: int = 12,
        training_iterations: int = 12,
        correlation: CorrelationKind = "auto",
        freeze_batch_norm: bool = False,
        criterion: IterativeCriterion | None = None,
    ):
        super().__init__()
        self.stride, self.iterations, self.training_iterations = stride, iterations, training_iterations
        self.correlation_levels, self.correlation_radius = correlation_levels, correlation_radius
        self.correlation, self.freeze_batch_norm = correlation, freeze_batch_norm
        self.state_channels = [hidden_channels, context_channels]
        self.is_shared = shared_encoder
        self.criterion = criterion or FlowCriterion()
        # The coarsest scale of the correlation needs two cells.
        min_side = 2 * stride * 2 ** (correlation_levels - 1)
        spec = InputSpec(in_channels, "center", multiple_of=stride, min_side=min_side, fill="edge")
        self.input_spec = {"first": spec, "second": spec}

        if encoder is None:
            self.encoder: nn.Module = RaftEncoder(encoder_channels, bottleneck, in_channels, stride)
            width = encoder_channels[-1]
        else:
            options = encoder_options or {}
            self.encoder = Backbone(encoder, in_channels, shallowest=stride, deepest=stride, **options)
            width = self.encoder.channels[-1]
        outputs = hidden_channels + context_channels
        self.feature_projection: nn.Module = nn.Identity()
        if shared_encoder:
            self.feature_projection = nn.Conv2d(width, encoder_channels[-1], 1)
            self.context_encoder: nn.Module = nn.Conv2d(width, outputs, 1)
        else:
            channels = (*encoder_channels[:-1], outputs)
            norm = nn.BatchNorm2d if context_norm else no_norm
            self.context_encoder = ConvEncoder(channels, bottleneck, norm, in_channels, stride)
        samples = correlation_levels * (2 * correlation_radius + 1) ** 2
        self.motion_encoder = MotionEncoder(samples, correlation_channels, flow_channels, motion_channels)
        motion = motion_channels + occlusion
        self.update_block = UpdateBlock(hidden_channels, context_channels, motion, separable_gru)
        self.flow_head = PredictionHead(hidden_channels, head_channels, 2)
        self.occlusion_head = PredictionHead(hidden_channels, head_channels // 2, 1) if occlusion else None
        self.occlusion_refiner = OcclusionRefiner() if occlusion else None
        self.upsampler = (
            ConvexUpsampler(hidden_channels, head_channels, stride) if convex_upsampling else BilinearUpsampler(stride)
        )

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        iterations: int | None = None,
        initial_flow: Tensor | None = None,
        forward_backward: bool = False,
    ) -> Tensors:
        """Estimates the flow; only the last iteration is upsampled.

        Args:
            first: (B, C, H, W) float RGB in [0, 1]; sides are multiples of the stride.
            second: Same shape.
            iterations: Number of iterations; the constructor's by default.
            initial_flow: (B, 2, H / stride, W / stride) in cells; zero by default.
            forward_backward: Also estimate the backward flow, and return the occlusion by their consistency.

        Returns:
            "flow": (B, 2, H, W) float32 in pixels. "occlusion": (B, H, W) logits, if it is predicted or found.
        """
        levels = self.encoder(first), self.encoder(second)
        count = iterations or self.iterations
        *_, state = self.iterate(*levels, count, initial_flow)
        outputs = self.upsample(state)
        if not forward_backward:
            return self.refine_occlusion(outputs, first, second)
        *_, backward = self.iterate(*levels[::-1], count)
        inconsistent = find_inconsistent(outputs["flow"], self.upsample(backward)["flow"])
        return {**outputs, "occlusion": torch.where(inconsistent, CERTAIN_LOGIT, -CERTAIN_LOGIT)}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of the last iteration; `compute_losses` trains on all of them."""
        return self.criterion.compute_step_losses(outputs, targets)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Losses over all iterations; see the criterion for the targets.

        Args:
            inputs: "first" and "second".
            targets: As `losses.collate_targets` makes them; unused by criteria without ground truth.
        """
        first, second = inputs["first"], inputs["second"]
        levels = self.encoder(first), self.encoder(second)
        steps = [self.upsample(state) for state in self.iterate(*levels, self.training_iterations)]
        final = self.refine_occlusion(steps[-1], first, second)
        backward_flow = None
        if self.criterion.needs_backward_flow:
            with torch.no_grad():
                *_, backward = self.iterate(*levels[::-1], self.training_iterations)
                backward_flow = self.upsample(backward)["flow"]
        features = self._project_features(*levels) if self.criterion.needs_features else None
        return self.criterion(Iterations(steps, final, features, backward_flow), inputs, targets)

    def iterate(
        self, first: Sequence[Tensor], second: Sequence[Tensor], iterations: int, initial_flow: Tensor | None = None
    ) -> Iterator[State]:
        """Yields the state after every iteration; no gradient flows between their flows, as in the paper.

        Args:
            first: Levels of the first image: the image itself, and its features.
            second: Levels of the second one.
            iterations: How many.
            initial_flow: (B, 2, h, w) in cells.
        """
        features1, features2 = self._project_features(first, second)
        look_up = correlate(features1, features2, self.correlation_levels, self.correlation_radius, self.correlation)
        context = self.context_encoder(first[-1] if self.is_shared else 2 * first[0] - 1)
        hidden, context = context.split(self.state_channels, 1)
        hidden, update = torch.tanh(hidden), self.update_block.prepare(torch.relu(context))
        batch, _, height, width = features1.shape
        grid = pixel_grid(height, width, features1.new_zeros(1, dtype=torch.float32))
        flow = grid.new_zeros(batch, 2, height, width) if initial_flow is None else initial_flow
        occlusion = None
        if self.occlusion_head is not None:
            occlusion = grid.new_full((batch, 1, height, width), -CERTAIN_LOGIT)
        for _ in range(iterations):
            flow = flow.detach()
            motion = self.motion_encoder(look_up(grid + flow).to(hidden.dtype), flow.to(hidden.dtype))
            if occlusion is not None:
                motion = torch.cat([motion, occlusion.detach().sigmoid().to(motion.dtype)], 1)
            hidden = update(hidden, motion)
            flow = flow + self.flow_head(hidden).float()
            occlusion = None if self.occlusion_head is None else self.occlusion_head(hidden).float()
            yield State(hidden, flow, occlusion)

    def upsample(self, state: State) -> Tensors:
        """Upsamples a state to pixels: "flow", and the cells' "occlusion" if it is predicted."""
        flow = self.stride * state.flow
        if state.occlusion is None:
            return {"flow": self.upsampler(flow, state.hidden)}
        maps = self.upsampler(torch.cat([flow, state.occlusion], 1), state.hidden)
        return {"flow": maps[:, :2], "occlusion": maps[:, 2]}

    def refine_occlusion(self, outputs: Tensors, first: Tensor, second: Tensor) -> Tensors:
        """The outputs with their occlusion refined at every pixel, if it is predicted."""
        if self.occlusion_refiner is None:
            return outputs
        return {**outputs, "occlusion": self.occlusion_refiner(outputs["occlusion"], outputs["flow"], first, second)}

    def postprocess(self, outputs: Tensors) -> Tensors:
        """ "flow" (B, 2, H, W) in pixels, and "occlusion" (B, 1, H, W) as a probability, if there is one."""
        if "occlusion" not in outputs:
            return {"flow": outputs["flow"]}
        return {"flow": outputs["flow"], "occlusion": outputs["occlusion"].sigmoid()[:, None]}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The targets as outputs; without occlusion where that is unknown."""
        if not targets["occlusion_valid"].any():
            return {"flow": targets["flow"]}
        epsilon = torch.sigmoid(torch.tensor(-CERTAIN_LOGIT)).item()
        return {"flow": targets["flow"], "occlusion": targets["occlusion"].logit(epsilon)}

    def train(self, mode: bool = True) -> RAFT:
        """Sets the mode of everything but frozen batch norms."""
        super().train(mode)
        for module in self.modules() if self.freeze_batch_norm else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _project_features(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The features that are correlated, (B, D, h, w) of both images."""
        return self.feature_projection(first[-1]), self.feature_projection(second[-1])
