"""RAFT's update: correlation and flow update a hidden state, from which the change of the flow is predicted.

Source: Teed and Deng, RAFT, ECCV 2020, section 3.3 and figure 8; Cho et al., GRU, EMNLP 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvGRU", "MotionEncoder", "PredictionHead", "UpdateBlock"]

Step = Callable[[Tensor, Tensor], Tensor]
"""(hidden state, motion features) -> hidden state."""


class MotionEncoder(nn.Module):
    """Encodes the correlation around the match, and the flow that led there.

    Args:
        samples: Channels of the correlation.
        correlation_channels: Channels of its one or two convolutions.
        flow_channels: Channels of the two convolutions of the flow.
        width: Channels of the output.
    """

    def __init__(self, samples: int, correlation_channels: Sequence[int], flow_channels: Sequence[int], width: int):
        super().__init__()
        kernels = (1, 3)
        channels = [samples, *correlation_channels]
        self.correlation = nn.Sequential(
            *(_conv_relu(before, after, kernel) for before, after, kernel in zip(channels, channels[1:], kernels))
        )
        self.flow = nn.Sequential(_conv_relu(2, flow_channels[0], 7), _conv_relu(flow_channels[0], flow_channels[1], 3))
        self.join = _conv_relu(channels[-1] + flow_channels[1], width - 2, 3)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        """(B, samples, H, W) and (B, 2, H, W) to (B, width, H, W), whose last two channels are the flow itself."""
        joined = self.join(torch.cat([self.correlation(correlation), self.flow(flow)], 1))
        return torch.cat([joined, flow], 1)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose gates are convolutions over hidden state, context and motion features.

    Args:
        hidden: Channels of the hidden state.
        context: Channels of the context, which is the same in all iterations.
        motion: Channels of the motion features.
        kernel: Height and width of the convolutions.
    """

    def __init__(self, hidden: int, context: int, motion: int, kernel: tuple[int, int]):
        super().__init__()
        self.channels = [hidden, context, motion]
        self.padding = (kernel[0] // 2, kernel[1] // 2)
        self.update, self.reset, self.candidate = (
            nn.Conv2d(sum(self.channels), hidden, kernel, padding=self.padding) for _ in range(3)
        )

    def prepare(self, context: Tensor) -> Step:
        """Returns the update for a context.

        A convolution of concatenated channels is the sum of convolutions of its parts: that of the context is computed
        only once, and the three gates share one convolution of the motion features.
        """
        gates = (self.update, self.reset, self.candidate)
        parts = [gate.weight.split(self.channels, 1) for gate in gates]
        context_weight, motion_weight = (torch.cat([part[index] for part in parts]) for index in (1, 2))
        hidden_weight = torch.cat([parts[0][0], parts[1][0]])
        candidate_weight = parts[2][0]
        constant = F.conv2d(
            context,
            context_weight,
            torch.cat([gate.bias for gate in gates if gate.bias is not None]),
            padding=self.padding,
        )

        def step(hidden: Tensor, motion: Tensor) -> Tensor:
            inputs = constant + F.conv2d(motion, motion_weight, padding=self.padding)
            update, reset, candidate = inputs.chunk(3, 1)
            from_update, from_reset = F.conv2d(hidden, hidden_weight, padding=self.padding).chunk(2, 1)
            update, reset = torch.sigmoid(update + from_update), torch.sigmoid(reset + from_reset)
            candidate = torch.tanh(candidate + F.conv2d(reset * hidden, candidate_weight, padding=self.padding))
            return hidden + update * (candidate - hidden)

        return step


class UpdateBlock(nn.Module):
    """RAFT's recurrent block: a 3x3 GRU (small), or one along the rows and then one along the columns (large).

    Args:
        hidden: Channels of the hidden state.
        context: Channels of the context.
        motion: Channels of the motion features.
        separable: Whether there are two GRUs.
    """

    def __init__(self, hidden: int, context: int, motion: int, separable: bool):
        super().__init__()
        kernels = ((1, 5), (5, 1)) if separable else ((3, 3),)
        self.grus = nn.ModuleList(ConvGRU(hidden, context, motion, kernel) for kernel in kernels)

    def prepare(self, context: Tensor) -> Step:
        """Returns the update for a context (B, context, H, W)."""
        steps = [gru.prepare(context) for gru in self.grus]  # type: ignore[operator]

        def step(hidden: Tensor, motion: Tensor) -> Tensor:
            for gru_step in steps:
                hidden = gru_step(hidden, motion)
            return hidden

        return step


class PredictionHead(nn.Sequential):
    """Two convolutions from the hidden state to a prediction: the change of the flow, or the occlusion.

    Args:
        hidden: Channels of the hidden state.
        width: Channels of the intermediate layer.
        outputs: Channels of the prediction.
    """

    def __init__(self, hidden: int, width: int, outputs: int):
        super().__init__(
            nn.Conv2d(hidden, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, outputs, 3, padding=1)
        )


def _conv_relu(before: int, after: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU(inplace=True))
