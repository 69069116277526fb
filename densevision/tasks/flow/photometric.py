"""Self-supervision of flow: a pixel should look the same where its flow leads.

Source: Meister, Hur and Roth, UnFlow: Unsupervised Learning of Optical Flow with a Bidirectional Census Loss, AAAI
2018; Jonschkowski et al., What Matters in Unsupervised Optical Flow, ECCV 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.warp import sample_along_flow
from densevision.tasks.flow.losses import Iterations, IterativeCriterion, occlusion_loss, visibility_loss
from densevision.tasks.flow.models.occlusion import find_inconsistent

__all__ = ["PhotometricCriterion", "census_distance", "photometric_losses", "smoothness_loss"]

Tensors = dict[str, Tensor]

SOFT_SIGN, SOFT_HAMMING = 0.81, 0.1
"""Constants of the soft census: of the sign of a gray-level difference, and of the distance of two signs."""
EDGE_SHARPNESS = 150.0
"""How strongly smoothness is weighted down at edges of the image."""


class PhotometricCriterion(IterativeCriterion):
    """Photometric losses over the iterations; pixels that are not forward-backward consistent are ignored.

    Predicted occlusion is trained on that inconsistency.

    Args:
        gamma: Weight of an iteration's loss relative to the next one's.
        occlusion: Weight of the occlusion losses, if occlusion is predicted.
        smoothness: Weight of the edge-aware smoothness.
        census_radius: Pixels to each side that describe a pixel.
    """

    needs_backward_flow = True

    def __init__(self, gamma: float = 0.8, occlusion: float = 0.5, smoothness: float = 2.0, census_radius: int = 3):
        super().__init__()
        self.gamma, self.occlusion, self.smoothness = gamma, occlusion, smoothness
        self.census_radius = census_radius

    def forward(self, iterations: Iterations, inputs: Tensors, targets: Tensors) -> Tensors:
        """Computes the losses of a batch.

        Args:
            iterations: What the network predicts, with the backward flow.
            inputs: "first" and "second", (B, C, H, W) in [0, 1].
            targets: Unused.

        Returns:
            "census" and "smoothness"; "occlusion" and "visibility", if occlusion is predicted.
        """
        steps, final, _, backward_flow = iterations
        assert backward_flow is not None
        inconsistent = find_inconsistent(steps[-1]["flow"].detach(), backward_flow)
        known = inconsistent.float(), torch.ones_like(inconsistent)
        totals: Tensors = {}
        for number, step in enumerate(steps):
            losses = photometric_losses(
                inputs["first"], inputs["second"], step["flow"], inconsistent, self.census_radius
            )
            losses["smoothness"] = self.smoothness * losses["smoothness"]
            if "occlusion" in step and self.occlusion:
                losses["occlusion"] = self.occlusion * occlusion_loss(step["occlusion"], *known)
            for name, loss in losses.items():
                weighted = self.gamma ** (len(steps) - 1 - number) * loss
                totals[name] = totals[name] + weighted if name in totals else weighted
        if "occlusion" in final and self.occlusion:
            totals["visibility"] = self.occlusion * visibility_loss(final["occlusion"], *known)
        return totals


def photometric_losses(first: Tensor, second: Tensor, flow: Tensor, occluded: Tensor, radius: int) -> Tensors:
    """Census distance of visible pixels, and edge-aware smoothness of the flow.

    Args:
        first: (B, 3, H, W) in [0, 1].
        second: (B, 3, H, W).
        flow: (B, 2, H, W) from the first to the second, in pixels.
        occluded: (B, H, W) bool, pixels to ignore.
        radius: Pixels to each side that describe a pixel.

    Returns:
        "census" and "smoothness", scalars.
    """
    fetched, inside = sample_along_flow(second, flow)
    weight = (inside & ~occluded)[:, None].to(flow.dtype) * _make_interior_mask(flow, radius)
    robust = (census_distance(first, fetched, radius) + 0.01) ** 0.4
    census = (robust * weight).sum() / weight.sum().clamp(min=1)
    return {"census": census, "smoothness": smoothness_loss(first, flow)}


def census_distance(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """How differently two images (B, 3, H, W) order the gray levels around each pixel: (B, 1, H, W).

    Unlike a color difference it is nearly invariant to changes of illumination.
    """
    codes = []
    for image in (first, second):
        gray = 255 * image.mean(1, keepdim=True)
        side = 2 * radius + 1
        patches = F.unfold(F.pad(gray, [radius] * 4, mode="replicate"), side).unflatten(2, gray.shape[2:])
        difference = patches - gray
        codes.append(difference / torch.sqrt(SOFT_SIGN + difference.square()))
    squared = (codes[0] - codes[1]).square()
    return (squared / (SOFT_HAMMING + squared)).mean(1, keepdim=True)


def smoothness_loss(image: Tensor, flow: Tensor) -> Tensor:
    """Mean change of the flow between neighbors, weighted down at edges of the image: a scalar."""
    total = flow.new_zeros(())
    for axis in (2, 3):
        if flow.shape[axis] > 1:
            edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
            total = total + (flow.diff(dim=axis).abs() * torch.exp(-EDGE_SHARPNESS * edge)).mean()
    return total


def _make_interior_mask(flow: Tensor, radius: int) -> Tensor:
    """1 where the neighborhood of a pixel lies inside the image: (1, 1, H, W)."""
    mask = flow.new_zeros(1, 1, *flow.shape[2:])
    mask[..., radius:-radius, radius:-radius] = 1
    return mask
