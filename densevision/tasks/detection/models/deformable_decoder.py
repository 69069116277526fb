"""D-FINE's decoder: deformable attention, and boxes refined layer by layer as distributions of their edges.

Source: Peng et al., "D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution Refinement", ICLR 2025.
Deformable attention: Zhu et al., "Deformable DETR", ICLR 2021; with a number of points of its own for each level:
Lv et al., "RT-DETRv2", 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.tasks.detection.models.transformer_layers import MLP, SelfAttention

__all__ = [
    "PRIOR",
    "DecoderLayer",
    "DeformableAttention",
    "DeformableDecoder",
    "Gate",
    "QualityEstimator",
    "expected_distances",
    "inverse_sigmoid",
    "move_edges",
    "weighting_function",
]

OFFSET_SCALE = 0.5
"""A sampling offset of 1 is this part of the reference box's side."""
TOP_PROBABILITIES = 4
"""Largest probabilities of each edge that the location quality is estimated from."""
FLOAT16_MAX = 65504.0
PRIOR = 0.01
"""Score of every class before training (Lin et al., "Focal Loss", ICCV 2017)."""


class DeformableDecoder(nn.Module):
    """Queries and reference boxes to class logits and refined boxes.

    The boxes of all layers are the first layer's box, moved by distances: expectations of `bins + 1` values of a
    weighting function under a distribution per edge, to whose logits every layer adds (fine-grained distribution
    refinement, equations 1 to 4).

    Args:
        num_classes: Number of classes.
        width: Features of a query.
        layers: Number of layers.
        points: Sampling points of every head, one number per level.
        heads: Number of heads.
        feedforward: Hidden features of the layers' MLPs.
        bins: Number of intervals of the distributions.
        reg_scale: Curvature of the weighting function; larger means larger possible corrections.
        up: Bound of the weighting function: the largest correction of an edge is `2 * up` sides of the box.
    """

    up: Tensor
    reg_scale: Tensor

    def __init__(
        self,
        num_classes: int,
        width: int = 256,
        layers: int = 6,
        points: Sequence[int] = (4, 4, 4),
        heads: int = 8,
        feedforward: int = 1024,
        bins: int = 32,
        reg_scale: float = 4.0,
        up: float = 0.5,
    ):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, points, heads, feedforward) for _ in range(layers))
        self.query_position = MLP(4, 2 * width, width, 2)
        self.initial_box = MLP(width, width, 4, 3)
        self.score = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(layers))
        self.box = nn.ModuleList(MLP(width, width, 4 * (bins + 1), 3) for _ in range(layers))
        self.quality = nn.ModuleList(QualityEstimator(bins) for _ in range(layers))
        self.bins, self.heads = bins, heads
        # They travel with the weights: published files differ in them, and not in any shape.
        self.register_buffer("up", torch.tensor([float(up)]))
        self.register_buffer("reg_scale", torch.tensor([float(reg_scale)]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Boxes start as the reference boxes, scores as the prior."""
        self.query_position.init_xavier()
        self.initial_box.init_zero_output()
        for head in self.box:
            cast(MLP, head).init_zero_output()
        for score in self.score:
            nn.init.constant_(score.get_parameter("bias"), -math.log((1 - PRIOR) / PRIOR))

    def forward(
        self,
        queries: Tensor,
        reference_logits: Tensor,
        levels: Sequence[Tensor],
        mask: Tensor | None = None,
        every_layer: bool = False,
    ) -> dict[str, Tensor]:
        """Refines boxes.

        Args:
            queries: (B, Q, width).
            reference_logits: (B, Q, 4), logits of normalized cxcywh.
            levels: Feature maps (B, width, H, W), one for each entry of `points`.
            mask: (Q, Q) bool, True where a query may attend to another; None for all.
            every_layer: Whether all layers classify, as the training losses need.

        Returns:
            "logits" (L, B, Q, C), "boxes" (L, B, Q, 4) normalized cxcywh, "corners" (L, B, Q, 4 * (bins + 1)) logits of
            the edges' distributions, for every layer or only the last (L = 1); and of the first layer, before the
            distributions: "initial_boxes" (B, Q, 4) and, with `every_layer`, "initial_logits" (B, Q, C).
        """
        # In float32 even under autocast: half precision would place samples and edges on a grid of pixels.
        values = [_split_heads(level.float(), self.heads) for level in levels]
        weights = weighting_function(self.bins, self.up, self.reg_scale)
        reference = reference_logits.float().sigmoid()
        outputs: dict[str, list[Tensor]] = {"logits": [], "boxes": [], "corners": []}
        first: dict[str, Tensor] = {}
        x, previous, corners = queries, torch.zeros_like(queries), None
        for index, layer in enumerate(self.layers):
            positions = self.query_position(reference.to(queries.dtype)).clamp(-10, 10)
            x = layer(x, positions, reference, values, mask)
            if index == 0:
                start = (self.initial_box(x).float() + inverse_sigmoid(reference)).sigmoid()
                first["initial_boxes"] = start
                if every_layer:
                    first["initial_logits"] = self.score[0](x)
                start = start.detach()
            change = self.box[index](x + previous).float()
            corners = change if corners is None else corners + change
            boxes = move_edges(start, expected_distances(corners, weights), self.reg_scale)
            if every_layer or index == len(self.layers) - 1:
                outputs["logits"].append(self.quality[index](self.score[index](x), corners))
                outputs["boxes"].append(boxes)
                outputs["corners"].append(corners)
            reference, previous = boxes.detach(), x.detach()
        return {name: torch.stack(tensors) for name, tensors in outputs.items()} | first


class DecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the levels through a gate, and an MLP."""

    def __init__(self, width: int, points: Sequence[int], heads: int, feedforward: int):
        super().__init__()
        self.self_attention = SelfAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attention = DeformableAttention(width, points, heads)
        self.gateway = Gate(width)
        self.feedforward = MLP(width, feedforward, width, 2)
        self.norm2 = nn.LayerNorm(width)
        self.feedforward.init_xavier()

    def forward(
        self, x: Tensor, positions: Tensor, reference: Tensor, values: Sequence[Tensor], mask: Tensor | None
    ) -> Tensor:
        """Queries (B, Q, width), their position embeddings and reference boxes (B, Q, 4) to (B, Q, width)."""
        x = self.norm1(x + self.self_attention(x, positions, mask))
        x = self.gateway(x, self.cross_attention(x + positions, reference, values))
        return self.norm2((x + self.feedforward(x)).clamp(-FLOAT16_MAX, FLOAT16_MAX))


class Gate(nn.Module):
    """Weighs two inputs feature by feature before their norm, in place of a residual (D-FINE, section 4.3)."""

    def __init__(self, width: int):
        super().__init__()
        self.gate = nn.Linear(2 * width, 2 * width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two (B, Q, width) to one."""
        weight1, weight2 = self.gate(torch.cat([first, second], -1)).sigmoid().chunk(2, -1)
        return self.norm(weight1 * first + weight2 * second)


class DeformableAttention(nn.Module):
    """Every head samples a few points about the reference box from each level; values are the levels as they are.

    Args:
        width: Features of a query and channels of a level.
        points: Points of a head, one number per level.
        heads: Number of heads.
    """

    num_points_scale: Tensor

    def __init__(self, width: int, points: Sequence[int], heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"width of attention must be a multiple of heads; width={width}, heads={heads}")
        self.heads = heads
        self.points = tuple(points)
        total = heads * sum(self.points)
        self.sampling_offsets = nn.Linear(width, 2 * total)
        self.attention_weights = nn.Linear(width, total)
        scale = torch.tensor([1 / count for count in self.points for _ in range(count)])
        self.register_buffer("num_points_scale", scale)
        self.register_load_state_dict_pre_hook(_adopt_points)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Heads start with a direction each, their points at growing distances and with equal weights."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        distances = torch.cat([torch.arange(1.0, count + 1) for count in self.points])
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_((directions[:, None] * distances[:, None]).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)

    def forward(self, queries: Tensor, reference: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Samples the levels.

        Args:
            queries: (B, Q, width).
            reference: (B, Q, 4), normalized cxcywh.
            values: One (B * heads, width / heads, H, W) float32 per level.

        Returns:
            (B, Q, width).
        """
        batch, count = queries.shape[:2]
        offsets = self.sampling_offsets(queries).view(batch, count, self.heads, -1, 2)
        weights = self.attention_weights(queries).view(batch, count, self.heads, -1).softmax(-1)
        reference = reference[:, :, None, None]
        steps = offsets.float() * self.num_points_scale[:, None].float() * OFFSET_SCALE
        grid = 2 * (reference[..., :2] + steps * reference[..., 2:]) - 1
        grid = grid.transpose(1, 2).flatten(0, 1)
        samples = [
            F.grid_sample(value, part, mode="bilinear", padding_mode="zeros", align_corners=False)
            for value, part in zip(values, grid.split(list(self.points), 2))
        ]
        weights = weights.transpose(1, 2).flatten(0, 1)[:, None]
        attended = (torch.cat(samples, -1) * weights).sum(-1)
        return attended.view(batch, -1, count).transpose(1, 2).to(queries.dtype)


def _adopt_points(module: DeformableAttention, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Takes the points per level from the weights: two divisions of one total have the same shapes everywhere."""
    scale = state.get(f"{prefix}num_points_scale")
    if scale is None or scale.shape != module.num_points_scale.shape:
        return
    points: list[int] = []
    while sum(points) < len(scale):
        points.append(round(1 / float(scale[sum(points)])))
    if sum(points) == len(scale) and len(points) == len(module.points):
        module.points = tuple(points)


class QualityEstimator(nn.Module):
    """Adds to class logits an estimate of the box's quality, from the sharpness of its edges' distributions."""

    def __init__(self, bins: int, hidden: int = 64):
        super().__init__()
        self.bins = bins
        self.estimate = MLP(4 * (TOP_PROBABILITIES + 1), hidden, 1, 2)
        self.estimate.init_zero_output()

    def forward(self, logits: Tensor, corners: Tensor) -> Tensor:
        """Class logits (B, Q, C) and edge logits (B, Q, 4 * (bins + 1)) to class logits (B, Q, C)."""
        largest = corners.unflatten(-1, (4, self.bins + 1)).softmax(-1).topk(TOP_PROBABILITIES, -1).values
        statistics = torch.cat([largest, largest.mean(-1, keepdim=True)], -1).flatten(2)
        return logits + self.estimate(statistics.to(logits.dtype))


def weighting_function(bins: int, up: Tensor, reg_scale: Tensor) -> Tensor:
    """The values that the edges' distributions are over, dense about 0 (D-FINE, equation 2).

    Args:
        bins: Even number of intervals.
        up: (1,) bound.
        reg_scale: (1,) curvature.

    Returns:
        (bins + 1,) float32, increasing, odd about the center; the outermost are `2 * up * reg_scale`, the next
        `up * reg_scale`.
    """
    bound = (up.abs() * reg_scale.abs()).float()
    powers = torch.arange(1, bins // 2, device=bound.device) * (2 / (bins - 2))
    side = torch.cat([(bound + 1) ** powers - 1, 2 * bound])
    return torch.cat([-side.flip(0), torch.zeros_like(bound), side])


def expected_distances(corners: Tensor, weights: Tensor) -> Tensor:
    """Edge logits (..., 4 * (bins + 1)) to the expectations (..., 4) of the weighting function's values."""
    return (corners.unflatten(-1, (4, -1)).softmax(-1) * weights).sum(-1)


def move_edges(reference: Tensor, distances: Tensor, reg_scale: Tensor) -> Tensor:
    """Moves the edges of boxes; distances of 0 leave them as they are.

    Args:
        reference: Boxes (..., 4), cxcywh.
        distances: (..., 4), left, top, right, bottom, outwards; `reg_scale` of them are a side of the box.
        reg_scale: (1,).

    Returns:
        Boxes (..., 4), cxcywh.
    """
    center, side = reference.chunk(2, -1)
    scale = reg_scale.abs()
    left_top, right_bottom = ((0.5 * scale + part) * (side / scale) for part in distances.chunk(2, -1))
    return torch.cat([center + (right_bottom - left_top) / 2, left_top + right_bottom], -1)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of numbers in [0, 1], finite at the ends."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def _split_heads(level: Tensor, heads: int) -> Tensor:
    """(B, width, H, W) to (B * heads, width / heads, H, W)."""
    return level.unflatten(1, (heads, -1)).flatten(0, 1)
