"""Layers of SEA-RAFT: its encoder, its update, its correlation, and the likelihood that it is trained with.

Source: Wang, Lipson and Deng, SEA-RAFT: Simple, Efficient, Accurate RAFT for Optical Flow, ECCV 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from densevision.tasks.flow.models.correlation import disable_autocast

__all__ = [
    "AllPairsCorrelation",
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


class AllPairsCorrelation:
    """Dot products of all pairs of cells, sampled around any matches (RAFT, section 3.2).

    Memory grows with the square of the cells: 4/3 * (h * w)^2 float32 numbers per image pair.

    Args:
        first: (B, D, h, w) features of the first image.
        second: Same shape, of the second.
        levels: Scales; the second map is halved from one to the next.
        radius: Cells on each side of a match.
    """

    def __init__(self, first: Tensor, second: Tensor, levels: int, radius: int):
        self.radius = radius
        self.volumes: list[Tensor] = []
        batch, depth, height, width = first.shape
        with disable_autocast(first.device):
            volume = first.float().flatten(2).transpose(1, 2) @ second.float().flatten(2) / math.sqrt(depth)
            volume = volume.reshape(batch * height * width, 1, height, width)
            for level in range(levels):
                volume = volume if level == 0 else F.avg_pool2d(volume, 2)
                self.volumes.append(volume)

    def __call__(self, matches: Tensor) -> Tensor:
        """Looks up the neighborhoods of the matches; no gradient flows to their positions.

        Args:
            matches: (B, 2, h, w) x and y in cells of the second map, (0, 0) the center of its first cell.

        Returns:
            (B, levels * (2 * radius + 1)^2, h, w) float32, 0 outside the map: level by level, column by column.
        """
        batch, _, height, width = matches.shape
        with disable_autocast(matches.device):
            centers = matches.detach().float().permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
            steps = torch.arange(-self.radius, self.radius + 1, device=matches.device, dtype=torch.float32)
            offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
            samples = []
            for level, volume in enumerate(self.volumes):
                x, y = (2 * (centers / 2**level + offsets) + 1).unbind(-1)
                # Without aligned corners the formula also holds for maps of a single cell.
                grid = torch.stack([x / volume.shape[3] - 1, y / volume.shape[2] - 1], -1)
                sampled = F.grid_sample(volume, grid, align_corners=False)
                samples.append(sampled.view(batch, height, width, -1))
            return torch.cat(samples, -1).permute(0, 3, 1, 2)


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
