"""RAFT: flow refined step by step by looking up correlations around the current match.

Source: Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.ops.warp import pixel_grid
from densevision.tasks.flow.correlation import Kind, correlate
from densevision.tasks.flow.features import ConvEncoder, no_norm
from densevision.tasks.flow.occlusion import OcclusionHead, OcclusionRefiner, unreturned
from densevision.tasks.flow.update import Memory, MotionEncoder, Predictor
from densevision.tasks.flow.upsample import BilinearUpsampler, ConvexUpsampler

CERTAIN = 20.0
"""Logit of what is certain."""


@dataclass(frozen=True)
class Plan:
    """The widths of a RAFT.

    Attributes:
        encoder: Channels of the feature encoder's stem, stages and output; the context encoder has the same but for
            its output.
        bottleneck: Whether the encoders' blocks are bottlenecks.
        context_norm: Whether the context encoder has batch norms, or none.
        hidden: Channels of the memory.
        context: Channels of the context.
        levels: Scales of the correlation.
        radius: Cells to each side that are looked at.
        correlation: Channels of the convolutions over the correlation.
        flow: Channels of the convolutions over the flow.
        motion: Channels of what is known of the motion.
        separable: Whether the memory is two units, along rows and columns.
        predictor: Channels between the memory and what it says.
        convex: Whether the flow is upsampled by learned weights.
        stride: Pixels per cell.
        shared: Whether the context is taken from the feature encoder, which then runs on two pictures in all instead of
            three.
    """

    encoder: tuple[int, int, int, int, int]
    bottleneck: bool
    context_norm: bool
    hidden: int
    context: int
    levels: int
    radius: int
    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    separable: bool
    predictor: int
    convex: bool
    stride: int = 8
    shared: bool = False

    @property
    def least(self) -> int:
        """Least side of the canvas: the coarsest scale of the correlation needs two cells."""
        return 2 * self.stride * 2 ** (self.levels - 1)

    @property
    def samples(self) -> int:
        """Channels of the correlation."""
        return self.levels * (2 * self.radius + 1) ** 2


PLANS = {
    "tiny": Plan((32, 32, 48, 64, 64), False, False, 48, 48, 4, 3, (64,), (32, 16), 48, False, 64, True, 4, True),
    "small": Plan((32, 32, 64, 96, 128), True, False, 96, 64, 4, 3, (96,), (64, 32), 82, False, 128, False),
    "large": Plan((64, 64, 96, 128, 256), False, True, 128, 128, 4, 4, (256, 192), (128, 64), 128, True, 256, True),
}
"""`small` and `large` are RAFT's own; `tiny` learns in an hour on a processor: narrow, but with cells of half the side,
because the error of a match grows with the cell."""


class State(NamedTuple):
    """What one step leaves behind, per cell.

    Attributes:
        memory: (B, hidden, H, W).
        flow: (B, 2, H, W) in cells.
        occlusion: (B, 1, H, W) logits, or None.
    """

    memory: Tensor
    flow: Tensor
    occlusion: Tensor | None


class RaftHead(nn.Module):
    """Features of two pictures to the flow from the first to the second.

    Args:
        channels: Channels of the encoder's levels; level 0 is the picture.
        strides: Their strides, among them 8.
        plan: The widths.
        iterations: Steps, where a call asks for no other number.
        occlusion: Whether occlusion is predicted too, and fed back.
        correlation: How pairs are compared; see `correlation.correlate`.
        frozen_norms: Keep the statistics of the batch norms as they are, as in fine-tuning.

    Raises:
        UsageError: The encoder has no level of the plan's stride.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        plan: Plan,
        iterations: int = 12,
        occlusion: bool = False,
        correlation: Kind = "auto",
        frozen_norms: bool = False,
    ):
        super().__init__()
        if plan.stride not in strides:
            mend = "Choose a backbone with that level, such as mobilenetv2_100 or resnet50."
            raise UsageError(f"RAFT reads a level of stride {plan.stride}; there are", value=list(strides), mend=mend)
        self.plan, self.iterations, self.correlation, self.frozen_norms = plan, iterations, correlation, frozen_norms
        self.level = list(strides).index(plan.stride)
        width, both = channels[self.level], plan.hidden + plan.context
        self.features = nn.Conv2d(width, plan.encoder[-1], 1) if plan.shared else nn.Identity()
        self.context = nn.Conv2d(width, both, 1) if plan.shared else _context_encoder(plan, channels[0])
        self.motion = MotionEncoder(plan.samples, plan.correlation, plan.flow, plan.motion)
        self.memory = Memory(plan.hidden, plan.context, plan.motion + occlusion, plan.separable)
        self.change = Predictor(plan.hidden, plan.predictor, 2)
        self.occlusion = OcclusionHead(plan.hidden, plan.predictor // 2) if occlusion else None
        self.refine = OcclusionRefiner() if occlusion else None
        self.upsample = (
            ConvexUpsampler(plan.hidden, plan.predictor, plan.stride) if plan.convex else BilinearUpsampler(plan.stride)
        )

    def forward(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        iterations: int | None = None,
        start: Tensor | None = None,
        consistency: bool = False,
    ) -> dict[str, Tensor]:
        """The flow after the last step; only that one is brought to the pixels.

        Args:
            first: Levels of the first picture, level 0 the picture in [0, 1].
            second: Levels of the second one.
            iterations: Steps.
            start: (B, 2, H / stride, W / stride) flow to start from, in cells; standing still when not given.
            consistency: Also go back, and call occluded what does not return, whatever the head itself thinks.

        Returns:
            "flow" (B, 2, H, W) float32 in pixels; and "occlusion" (B, H, W) logits, where it is predicted or found.
        """
        *_, last = self.steps(first, second, iterations, start)
        outputs = self.outputs(last)
        if consistency:
            *_, back = self.steps(second, first, iterations)
            lost = unreturned(outputs["flow"], self.outputs(back)["flow"])
            return {**outputs, "occlusion": torch.where(lost, CERTAIN, -CERTAIN)}
        return self.refined(outputs, first[0], second[0])

    def steps(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        iterations: int | None = None,
        start: Tensor | None = None,
    ) -> Iterator[State]:
        """The state after every step; the flow that a step starts from carries no gradient, as in the paper."""
        here, there = self.compared(first, second)
        look_up = correlate(here, there, self.plan.levels, self.plan.radius, self.correlation)
        memory, context = self._context(first).split([self.plan.hidden, self.plan.context], 1)
        memory, step = torch.tanh(memory), self.memory.given(torch.relu(context))
        batch, _, height, width = here.shape
        grid = pixel_grid(height, width, here.new_zeros(1, dtype=torch.float32))
        flow = grid.new_zeros(batch, 2, height, width) if start is None else start
        occlusion = None if self.occlusion is None else grid.new_full((batch, 1, height, width), -CERTAIN)
        for _ in range(iterations or self.iterations):
            flow = flow.detach()
            motion = self.motion(look_up(grid + flow).to(memory.dtype), flow.to(memory.dtype))
            if occlusion is not None:
                motion = torch.cat([motion, occlusion.detach().sigmoid().to(motion.dtype)], 1)
            memory = step(memory, motion)
            flow = flow + self.change(memory).float()
            occlusion = None if self.occlusion is None else self.occlusion(memory).float()
            yield State(memory, flow, occlusion)

    def compared(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What the correlation compares: features (B, D, H / stride, W / stride) of both pictures."""
        return self.features(first[self.level]), self.features(second[self.level])

    def outputs(self, state: State) -> dict[str, Tensor]:
        """A state brought to the pixels: the flow, and the occlusion as the cells think of it."""
        flow = self.plan.stride * state.flow
        if state.occlusion is None:
            return {"flow": self.upsample(flow, state.memory)}
        both = self.upsample(torch.cat([flow, state.occlusion], 1), state.memory)
        return {"flow": both[:, :2], "occlusion": both[:, 2]}

    def refined(self, outputs: dict[str, Tensor], first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """The outputs with their occlusion decided at every pixel, where it is predicted; the pictures are level 0."""
        if self.refine is None:
            return outputs
        return {**outputs, "occlusion": self.refine(outputs["occlusion"], outputs["flow"], first, second)}

    def train(self, mode: bool = True) -> RaftHead:
        """Sets the mode of everything but frozen norms."""
        super().train(mode)
        for module in self.modules() if self.frozen_norms else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def _context(self, first: Sequence[Tensor]) -> Tensor:
        return self.context(first[self.level]) if self.plan.shared else self.context(2 * first[0] - 1)


def _context_encoder(plan: Plan, channels: int) -> ConvEncoder:
    widths = (*plan.encoder[:-1], plan.hidden + plan.context)
    norm = nn.BatchNorm2d if plan.context_norm else no_norm
    return ConvEncoder(widths, plan.bottleneck, norm, channels, plan.stride)
