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
from densevision.tasks.flow.models.correlation import Kind, correlate
from densevision.tasks.flow.models.encoders import ConvEncoder, no_norm
from densevision.tasks.flow.models.occlusion import OcclusionHead, OcclusionRefiner, forward_backward_inconsistent
from densevision.tasks.flow.models.update_block import Memory, MotionEncoder, Predictor
from densevision.tasks.flow.models.upsample import BilinearUpsampler, ConvexUpsampler

CERTAIN = 20.0
"""Logit of what is certain."""


@dataclass(frozen=True)
class RaftConfig:
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
        shared: Whether the context is taken from the feature encoder, which then runs on two images in all instead of
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


RAFT_CONFIGS = {
    "tiny": RaftConfig((32, 32, 48, 64, 64), False, False, 48, 48, 4, 3, (64,), (32, 16), 48, False, 64, True, 4, True),
    "small": RaftConfig((32, 32, 64, 96, 128), True, False, 96, 64, 4, 3, (96,), (64, 32), 82, False, 128, False),
    "large": RaftConfig(
        (64, 64, 96, 128, 256), False, True, 128, 128, 4, 4, (256, 192), (128, 64), 128, True, 256, True
    ),
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
    """Features of two images to the flow from the first to the second.

    Args:
        channels: Channels of the encoder's levels; level 0 is the image.
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
        raft_config: RaftConfig,
        iterations: int = 12,
        occlusion: bool = False,
        correlation: Kind = "auto",
        frozen_norms: bool = False,
    ):
        super().__init__()
        if raft_config.stride not in strides:
            hint = "Choose a backbone with that level, such as mobilenetv2_100 or resnet50."
            raise UsageError(
                f"RAFT reads a level of stride {raft_config.stride}; there are", value=list(strides), hint=hint
            )
        self.raft_config, self.iterations, self.correlation, self.frozen_norms = (
            raft_config,
            iterations,
            correlation,
            frozen_norms,
        )
        self.level = list(strides).index(raft_config.stride)
        width, both = channels[self.level], raft_config.hidden + raft_config.context
        self.features = nn.Conv2d(width, raft_config.encoder[-1], 1) if raft_config.shared else nn.Identity()
        self.context = nn.Conv2d(width, both, 1) if raft_config.shared else _context_encoder(raft_config, channels[0])
        self.motion = MotionEncoder(raft_config.samples, raft_config.correlation, raft_config.flow, raft_config.motion)
        self.memory = Memory(
            raft_config.hidden, raft_config.context, raft_config.motion + occlusion, raft_config.separable
        )
        self.change = Predictor(raft_config.hidden, raft_config.predictor, 2)
        self.occlusion = OcclusionHead(raft_config.hidden, raft_config.predictor // 2) if occlusion else None
        self.refine = OcclusionRefiner() if occlusion else None
        self.upsample = (
            ConvexUpsampler(raft_config.hidden, raft_config.predictor, raft_config.stride)
            if raft_config.convex
            else BilinearUpsampler(raft_config.stride)
        )

    def forward(
        self,
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        iterations: int | None = None,
        start: Tensor | None = None,
        forward_backward: bool = False,
    ) -> dict[str, Tensor]:
        """The flow after the last step; only that one is brought to the pixels.

        Args:
            first: Levels of the first image, level 0 the image in [0, 1].
            second: Levels of the second one.
            iterations: Steps.
            start: (B, 2, H / stride, W / stride) flow to start from, in cells; standing still when not given.
            forward_backward: Also go back, and call occluded what does not return, whatever the head itself thinks.

        Returns:
            "flow" (B, 2, H, W) float32 in pixels; and "occlusion" (B, H, W) logits, where it is predicted or found.
        """
        *_, last = self.steps(first, second, iterations, start)
        outputs = self.outputs(last)
        if forward_backward:
            *_, back = self.steps(second, first, iterations)
            lost = forward_backward_inconsistent(outputs["flow"], self.outputs(back)["flow"])
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
        look_up = correlate(here, there, self.raft_config.levels, self.raft_config.radius, self.correlation)
        memory, context = self._context(first).split([self.raft_config.hidden, self.raft_config.context], 1)
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
        """What the correlation compares: features (B, D, H / stride, W / stride) of both images."""
        return self.features(first[self.level]), self.features(second[self.level])

    def outputs(self, state: State) -> dict[str, Tensor]:
        """A state brought to the pixels: the flow, and the occlusion as the cells think of it."""
        flow = self.raft_config.stride * state.flow
        if state.occlusion is None:
            return {"flow": self.upsample(flow, state.memory)}
        both = self.upsample(torch.cat([flow, state.occlusion], 1), state.memory)
        return {"flow": both[:, :2], "occlusion": both[:, 2]}

    def refined(self, outputs: dict[str, Tensor], first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """The outputs with their occlusion decided at every pixel, where it is predicted; the images are level 0."""
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
        return self.context(first[self.level]) if self.raft_config.shared else self.context(2 * first[0] - 1)


def _context_encoder(raft_config: RaftConfig, channels: int) -> ConvEncoder:
    widths = (*raft_config.encoder[:-1], raft_config.hidden + raft_config.context)
    norm = nn.BatchNorm2d if raft_config.context_norm else no_norm
    return ConvEncoder(widths, raft_config.bottleneck, norm, channels, raft_config.stride)
