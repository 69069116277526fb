"""One step of refinement: what is seen at the current match moves a memory, and the memory moves the match.

Source: Teed and Deng, RAFT, ECCV 2020, section 3.3 and figure 8; Cho et al., GRU, EMNLP 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], Tensor]


class MotionEncoder(nn.Module):
    """What is known of the motion: the correlation around the match, and the flow that led there.

    Args:
        correlation: Channels of the correlation.
        correlation_widths: Channels of its one or two convolutions.
        flow_widths: Channels of the two convolutions of the flow.
        width: Channels of the answer.
    """

    def __init__(self, correlation: int, correlation_widths: Sequence[int], flow_widths: Sequence[int], width: int):
        super().__init__()
        kernels = (1, 3)
        channels = [correlation, *correlation_widths]
        self.correlation = nn.Sequential(
            *(_activated(before, after, kernel) for before, after, kernel in zip(channels, channels[1:], kernels))
        )
        self.flow = nn.Sequential(_activated(2, flow_widths[0], 7), _activated(flow_widths[0], flow_widths[1], 3))
        self.join = _activated(channels[-1] + flow_widths[1], width - 2, 3)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        """(B, C, H, W) and (B, 2, H, W) to (B, width, H, W), whose last two channels are the flow itself."""
        joined = self.join(torch.cat([self.correlation(correlation), self.flow(flow)], 1))
        return torch.cat([joined, flow], 1)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose gates are convolutions over memory, context and motion.

    Args:
        hidden: Channels of the memory.
        context: Channels of the context, which stays the same from step to step.
        motion: Channels of the motion.
        kernel: Height and width of the convolutions.
    """

    def __init__(self, hidden: int, context: int, motion: int, kernel: tuple[int, int]):
        super().__init__()
        self.parts = [hidden, context, motion]
        self.padding = (kernel[0] // 2, kernel[1] // 2)
        self.update, self.reset, self.candidate = (
            nn.Conv2d(sum(self.parts), hidden, kernel, padding=self.padding) for _ in range(3)
        )

    def given(self, context: Tensor) -> Step:
        """The step (memory, motion) -> memory under a context.

        A convolution of joined channels is the sum of convolutions of its parts. That of the context is the same in
        every step, so it is computed once, and the three gates read the motion together.
        """
        gates = (self.update, self.reset, self.candidate)
        parts = [gate.weight.split(self.parts, 1) for gate in gates]
        of_context, of_motion = (torch.cat([part[place] for part in parts]) for place in (1, 2))
        of_memory = torch.cat([parts[0][0], parts[1][0]])
        of_candidate = parts[2][0]
        constant = F.conv2d(context, of_context, torch.cat([gate.bias for gate in gates]), padding=self.padding)

        def step(memory: Tensor, motion: Tensor) -> Tensor:
            seen = constant + F.conv2d(motion, of_motion, padding=self.padding)
            update, reset, candidate = seen.chunk(3, 1)
            from_update, from_reset = F.conv2d(memory, of_memory, padding=self.padding).chunk(2, 1)
            update, reset = torch.sigmoid(update + from_update), torch.sigmoid(reset + from_reset)
            candidate = torch.tanh(candidate + F.conv2d(reset * memory, of_candidate, padding=self.padding))
            return memory + update * (candidate - memory)

        return step


class Memory(nn.Module):
    """RAFT's recurrent block: one unit of 3 x 3 (small), or one along the rows and then one along the columns (large).

    Args:
        hidden: Channels of the memory.
        context: Channels of the context.
        motion: Channels of the motion.
        separable: Whether there are two units.
    """

    def __init__(self, hidden: int, context: int, motion: int, separable: bool):
        super().__init__()
        kernels = ((1, 5), (5, 1)) if separable else ((3, 3),)
        self.units = nn.ModuleList(ConvGRU(hidden, context, motion, kernel) for kernel in kernels)

    def given(self, context: Tensor) -> Step:
        """The step (memory, motion) -> memory under a context (B, context, H, W)."""
        steps = [unit.given(context) for unit in self.units]

        def step(memory: Tensor, motion: Tensor) -> Tensor:
            for one in steps:
                memory = one(memory, motion)
            return memory

        return step


class Predictor(nn.Sequential):
    """Two convolutions from the memory to what it says: the change of the flow, or the occlusion."""

    def __init__(self, hidden: int, width: int, outputs: int):
        super().__init__(
            nn.Conv2d(hidden, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, outputs, 3, padding=1)
        )


def _activated(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(inplace=True))
