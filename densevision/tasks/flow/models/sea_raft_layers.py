"""Layers of SEA-RAFT: its encoder, its update, and the likelihood that it is trained with.

Source: Wang, Lipson and Deng, SEA-RAFT: Simple, Efficient, Accurate RAFT for Optical Flow, ECCV 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

__all__ = [
    "MotionEncoder",
    "ResidualBlock",
    "TruncatedResNet",
    "UpdateBlock",
    "laplace_mixture_nll",
]


class TruncatedResNet(nn.Module):
    """The first three stages of ResNet-18 or -34 without max pooling, and a projection.

    It differs from torchvision's ResNet in that convolutions have biases, and that a second ReLU stands before the
    addition.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, at stride 8.
        blocks: Residual blocks of each stage.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: tuple[int, int, int]):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _make_stage(64, 64, 1, blocks[0])
        self.layer2 = _make_stage(64, 128, 2, blocks[1])
        self.layer3 = _make_stage(128, 256, 2, blocks[2])
        self.project = nn.Conv2d(256, out_channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / 8, W / 8)."""
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        return self.project(self.layer3(self.layer2(self.layer1(x))))

    def load_resnet(self, weights: Mapping[str, Tensor]) -> None:
        """Copies what a classification ResNet of torchvision or timm shares; an image pair gets the stem twice."""
        own = self.state_dict()
        shared = {name: tensor for name, tensor in weights.items() if name in own}
        repeats = own["conv1.weight"].shape[1] // shared["conv1.weight"].shape[1]
        shared["conv1.weight"] = shared["conv1.weight"].repeat(1, repeats, 1, 1)
        self.load_state_dict({**own, **shared})


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which projects where the shape changes.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.downsample(x) + y, inplace=True)


class MotionEncoder(nn.Module):
    """Correlation samples and flow to motion features, the flow itself among them.

    Args:
        samples: Channels of the correlation.
        width: Channels of the output.
    """

    def __init__(self, samples: int, width: int):
        super().__init__()
        self.correlation = nn.Sequential(
            nn.Conv2d(samples, 2 * width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width + width // 2, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.flow = nn.Sequential(
            nn.Conv2d(2, width, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.fuse = nn.Sequential(nn.Conv2d(2 * width, width - 2, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        """(B, 2, h, w) and (B, samples, h, w) to (B, width, h, w)."""
        fused = self.fuse(torch.cat([self.correlation(correlation), self.flow(flow)], 1))
        return torch.cat([fused, flow], 1)


class UpdateBlock(nn.Module):
    """A ConvNeXt block over state, context and motion, projected to the next hidden state.

    Args:
        in_channels: Channels of the three together.
        width: Channels of the hidden state.
    """

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.block = ConvNeXtBlock(in_channels, mlp_ratio=(4 * width + 0.5) / in_channels)
        self.project = nn.Conv2d(in_channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, width, h, w)."""
        return self.project(self.block(x))


def laplace_mixture_nll(flow: Tensor, target: Tensor, logits: Tensor, log_scales: Tensor) -> Tensor:
    """Negative log-likelihood of the target under a mixture of Laplace distributions (SEA-RAFT, section 3.2).

    Args:
        flow: (B, 2, H, W) mean of all components, px.
        target: (B, 2, H, W) px.
        logits: (B, K, H, W) of the components' weights, common to both axes.
        log_scales: (B, K, H, W) log of the components' scales b, in log px; density exp(-|x| / b) / (2 b).

    Returns:
        (B, 2, H, W) in nats.
    """
    error = (target - flow).abs()[:, :, None]
    log_density = logits.log_softmax(1) - math.log(2) - log_scales
    return -(log_density[:, None] - error * (-log_scales).exp()[:, None]).logsumexp(2)


def _make_stage(in_channels: int, out_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))
