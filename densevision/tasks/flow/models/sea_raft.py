"""SEA-RAFT: iterative optical flow with a regressed first estimate and a mixture-of-Laplace output.

Source: Wang, Lipson and Deng, SEA-RAFT: Simple, Efficient, Accurate RAFT for Optical Flow, ECCV 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.sample import InputSpec
from densevision.tasks.flow.models.correlation import correlate
from densevision.tasks.flow.models.sea_raft_layers import (
    MotionEncoder,
    TruncatedResNet,
    UpdateBlock,
    laplace_mixture_nll,
)

__all__ = ["SIZES", "SeaRaft", "convert_state_dict"]

STRIDE = 8
"""Pixels per cell of the flow that is refined."""
NEIGHBORS = 9
LOGIT_SCALE = 0.25
"""Factor of the upsampling logits, which balances their gradients with those of the flow."""

SIZES: dict[str, dict[str, Any]] = {
    "s": {"encoder": "resnet18", "iterations": 4},
    "m": {"encoder": "resnet34", "iterations": 4},
    "l": {"encoder": "resnet34", "iterations": 12},
}
"""Constructor arguments of the published sizes. L is M with more iterations, and uses M's weights."""

_BLOCKS = {"resnet18": (2, 2, 2), "resnet34": (3, 4, 6)}


class SeaRaft(Model):
    """SEA-RAFT: two truncated ResNets, a direct regression of the flow, and ConvNeXt blocks that refine it.

    The context network sees both images and gives the hidden state, the context and, through the flow head, the first
    estimate. Every iteration looks up the correlation of the two feature maps around the current matches and updates
    the hidden state. The output of a pixel is a mixture of two Laplace distributions per axis with the flow as common
    mean: one of scale 1 px (`min_log_scale` 0), one of a predicted larger scale.

    Args:
        encoder: `resnet18` or `resnet34`: depth of both encoders, which end at stride 8.
        iterations: Refinements at inference, unless `forward` is given another number.
        training_iterations: Refinements in training.
        in_channels: Channels of each image.
        hidden_channels: Channels of the hidden state and of the context.
        blocks: ConvNeXt blocks of an update.
        correlation_levels: Scales of the second feature map.
        correlation_radius: Cells on each side of a match that are looked up, at every scale.
        gamma: The loss of a step is weighted by gamma to the number of steps that follow it.
        max_flow: Pixels whose true flow is longer than this are left out of the loss.
        min_log_scale: Smallest log scale of the narrow component; 0 fixes its scale at 1 px.
        max_log_scale: Largest log scale of the wide component.
        pretrained: Initialize both encoders with timm's ImageNet weights of the same ResNet.

    Raises:
        ValueError: The encoder is unknown.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        iterations: int = 4,
        training_iterations: int = 4,
        in_channels: int = 3,
        hidden_channels: int = 128,
        blocks: int = 2,
        correlation_levels: int = 4,
        correlation_radius: int = 4,
        gamma: float = 0.85,
        max_flow: float = 400.0,
        min_log_scale: float = 0.0,
        max_log_scale: float = 10.0,
        pretrained: bool = False,
    ):
        super().__init__()
        if encoder not in _BLOCKS:
            raise ValueError(f"encoder: unknown value {encoder!r}; choose one of {', '.join(_BLOCKS)}")
        self.iterations = iterations
        self.training_iterations = training_iterations
        self.hidden_channels = hidden_channels
        self.correlation_levels = correlation_levels
        self.correlation_radius = correlation_radius
        self.gamma = gamma
        self.max_flow = max_flow
        self.min_log_scale = min_log_scale
        self.max_log_scale = max_log_scale
        self.min_side = STRIDE * 2 ** (correlation_levels - 1)
        spec = InputSpec(in_channels, "center", multiple_of=STRIDE, min_side=self.min_side, fill="edge")
        self.input_spec = {"first": spec, "second": spec}

        width = hidden_channels
        self.context_encoder = TruncatedResNet(2 * in_channels, 2 * width, _BLOCKS[encoder])
        self.feature_encoder = TruncatedResNet(in_channels, 2 * width, _BLOCKS[encoder])
        self.initial = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        samples = correlation_levels * (2 * correlation_radius + 1) ** 2
        self.motion_encoder = MotionEncoder(samples, width)
        self.updates = nn.ModuleList(UpdateBlock(3 * width, width) for _ in range(blocks))
        self.flow_head = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(2 * width, 6, 3, padding=1)
        )
        self.upsample_weights = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, STRIDE * STRIDE * NEIGHBORS, 1),
        )
        if pretrained:
            weights = timm.create_model(encoder, pretrained=True, in_chans=in_channels).state_dict()
            self.feature_encoder.load_resnet(weights)
            self.context_encoder.load_resnet(weights)

    def forward(self, first: Tensor, second: Tensor, iterations: int | None = None) -> Tensors:
        """Estimates where each pixel of the first image lies in the second.

        Images of any size are padded by their border, half on each side, to multiples of 8, and the outputs cropped.

        Args:
            first: (B, C, H, W) float RGB in [0, 1].
            second: Same shape.
            iterations: Refinements; the constructor's when not given. 0 gives the regressed estimate.

        Returns:
            "flow": (B, 2, H, W) float32, x and y in pixels. "mixture": (B, 4, H, W) float32: logits of the wide and the
            narrow component, then their log scales in log pixels, before clamping.
        """
        count = self.iterations if iterations is None else iterations
        outputs: Tensors = {}
        for number, step in enumerate(self._refine(first, second, count)):
            if number == count:
                outputs = self._upsample(*step, first.shape[-2:])
        return outputs

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Mean negative log-likelihood of the last step alone; `compute_losses` trains on all of them."""
        return {"flow": self._step_loss(outputs, targets)}

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Sums the negative log-likelihood over the steps, the first estimate included.

        Args:
            inputs: "first" and "second".
            targets: "flow" (B, 2, H, W) px; "valid" (B, H, W) bool. Flow at invalid pixels may hold anything.

        Returns:
            "flow": 0 for batches without a valid pixel.
        """
        first, second = inputs["first"], inputs["second"]
        count = self.training_iterations
        total = first.new_zeros((), dtype=torch.float32)
        for number, step in enumerate(self._refine(first, second, count)):
            outputs = self._upsample(*step, first.shape[-2:])
            total = total + self.gamma ** (count - number) * self._step_loss(outputs, targets)
        return {"flow": total}

    def postprocess(self, outputs: Tensors) -> Tensors:
        """The flow, and how far it is expected to be off.

        Returns:
            "flow": (B, 2, H, W) px. "uncertainty": (B, H, W) px, expected absolute error per axis: the mean of the
            components' scales under their weights.
        """
        logits, log_scales = self._split_mixture(outputs["mixture"])
        return {"flow": outputs["flow"], "uncertainty": (logits.softmax(1) * log_scales.exp()).sum(1)}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The targets' flow with narrow distributions."""
        flow = targets["flow"]
        return {"flow": flow, "mixture": flow.new_zeros(len(flow), 4, *flow.shape[2:])}

    def _refine(self, first: Tensor, second: Tensor, iterations: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields flow in cells (B, 2, h, w), mixture (B, 4, h, w) and hidden state, first and after every iteration."""
        first, second = (self._pad(2 * image - 1) for image in (first, second))
        context = self.initial(self.context_encoder(torch.cat([first, second], 1)))
        state, context = context.split(self.hidden_channels, 1)
        flow, mixture = self.flow_head(state).float().split([2, 4], 1)
        yield flow, mixture, state
        if iterations == 0:
            return
        features = self.feature_encoder(first), self.feature_encoder(second)
        correlation = correlate(*features, self.correlation_levels, self.correlation_radius)
        cells = _cell_grid(flow)
        for _ in range(iterations):
            flow = flow.detach()
            samples = correlation(cells + flow)
            motion = self.motion_encoder(flow.to(state.dtype), samples.to(state.dtype))
            context_and_motion = torch.cat([context, motion], 1)
            for update in self.updates:
                state = update(torch.cat([state, context_and_motion], 1))
            change, mixture = self.flow_head(state).float().split([2, 4], 1)
            flow = flow + change
            yield flow, mixture, state

    def _upsample(self, flow: Tensor, mixture: Tensor, state: Tensor, size: Sequence[int]) -> Tensors:
        """Convex combinations of the nine cells around each pixel (RAFT, section 3.3), cropped to the image."""
        field = torch.cat([STRIDE * flow, mixture], 1)
        batch, channels, height, width = field.shape
        weights = LOGIT_SCALE * self.upsample_weights(state).float()
        weights = weights.view(batch, 1, NEIGHBORS, STRIDE, STRIDE, height, width).softmax(2)
        patches = F.unfold(field, 3, padding=1).view(batch, channels, NEIGHBORS, 1, 1, height, width)
        fine = (weights * patches).sum(2).permute(0, 1, 4, 2, 5, 3)
        fine = fine.reshape(batch, channels, STRIDE * height, STRIDE * width)
        top, left = ((fine.shape[axis - 2] - size[axis]) // 2 for axis in (0, 1))
        fine = fine[..., top : top + size[0], left : left + size[1]]
        return {"flow": fine[:, :2], "mixture": fine[:, 2:]}

    def _pad(self, image: Tensor) -> Tensor:
        padding: list[int] = []
        for side in (image.shape[-1], image.shape[-2]):
            total = max(self.min_side, side + -side % STRIDE) - side
            padding += [total // 2, total - total // 2]
        return F.pad(image, padding, mode="replicate") if any(padding) else image

    def _step_loss(self, outputs: Tensors, targets: Tensors) -> Tensor:
        valid = targets["valid"] & (targets["flow"].norm(dim=1) < self.max_flow)
        target = torch.where(valid[:, None], targets["flow"], 0)
        likelihood = laplace_mixture_nll(outputs["flow"], target, *self._split_mixture(outputs["mixture"]))
        return torch.where(valid[:, None], likelihood, 0).sum() / (2 * valid.sum()).clamp(min=1)

    def _split_mixture(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        logits, wide, narrow = mixture.split([2, 1, 1], 1)
        return logits, torch.cat([wide.clamp(0, self.max_log_scale), narrow.clamp(self.min_log_scale, 0)], 1)


_RULES: tuple[tuple[str, str], ...] = (
    # The norm of a shortcut has two names in the published files; files without duplicates hold only one of them.
    (r"^(cnet|fnet)\.(.*)\.bn3\.", r"\1.\2.downsample.1."),
    (r"^(cnet|fnet)\.final_conv\.", r"\1.project."),
    (r"^cnet\.", "context_encoder."),
    (r"^fnet\.", "feature_encoder."),
    (r"^init_conv\.", "initial."),
    (r"^upsample_weight\.", "upsample_weights."),
    (r"^update_block\.encoder\.convc1\.", "motion_encoder.correlation.0."),
    (r"^update_block\.encoder\.convc2\.", "motion_encoder.correlation.2."),
    (r"^update_block\.encoder\.convf1\.", "motion_encoder.flow.0."),
    (r"^update_block\.encoder\.convf2\.", "motion_encoder.flow.2."),
    (r"^update_block\.encoder\.conv\.", "motion_encoder.fuse.0."),
    (r"^update_block\.refine\.(\d+)\.final\.", r"updates.\1.project."),
    (r"^update_block\.refine\.(\d+)\.dwconv\.", r"updates.\1.block.conv_dw."),
    (r"^update_block\.refine\.(\d+)\.pwconv([12])\.", r"updates.\1.block.mlp.fc\2."),
    (r"^update_block\.refine\.(\d+)\.", r"updates.\1.block."),
)


def convert_state_dict(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Renames published weights to `SeaRaft`'s names; tensors that no rule fits keep their name.

    Args:
        weights: State dict of the authors' `RAFT` class (`.pth` or safetensors, with or without `module.`), of
            ptlflow's `sea_raft_*`, or a checkpoint that holds one under "state_dict" or "model".

    Returns:
        The state dict for `load_state_dict(..., strict=True)`.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(weights.get(wrapper), Mapping):
            weights = weights[wrapper]
    converted = {}
    for name, tensor in weights.items():
        name = name.removeprefix("module.")
        for pattern, replacement in _RULES:
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    return converted


def _cell_grid(like: Tensor) -> Tensor:
    """(1, 2, h, w): x and y of every cell."""
    rows = torch.arange(like.shape[2], device=like.device, dtype=like.dtype)
    columns = torch.arange(like.shape[3], device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y])[None]
