"""Self-supervision by rectified stereo pairs: each image is reconstructed from the other one by its disparity.

Source: Godard, Mac Aodha and Brostow, Unsupervised Monocular Depth Estimation with Left-Right Consistency, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.ops.warp import sample_along_flow
from densevision.tasks.depth.losses import smoothness_loss

__all__ = ["StereoCriterion", "compute_ssim", "find_occlusion", "photometric_difference"]

Tensors = dict[str, Tensor]

SSIM_CONSTANTS = (0.01**2, 0.03**2)
"""Stabilizers of the structural similarity for images in [0, 1]."""
OCCLUSION_MARGIN = (1.0, 0.05)
"""A point is occluded if the other image shows something nearer by more than these pixels plus this fraction."""


class StereoCriterion(nn.Module):
    """A weighted sum of losses between the images of a rectified pair.

    Args:
        photometric: Weight of the difference between an image and its reconstruction.
        consistency: Weight of the difference between the left and the right disparity.
        smoothness: Weight of the edge-aware smoothness.
        ssim: Share of the structural similarity in `photometric`; the rest is the absolute difference.
    """

    def __init__(self, photometric: float = 1.0, consistency: float = 1.0, smoothness: float = 0.1, ssim: float = 0.85):
        super().__init__()
        self.weights = {"photometric": photometric, "consistency": consistency, "smoothness": smoothness}
        self.ssim = ssim

    def forward(self, scales: Sequence[Tensor], left: Tensor, right: Tensor) -> Tensors:
        """Computes the losses of a batch: means over both images and all scales.

        Args:
            scales: Disparities (B, 2, h, w) of the left and the right image in pixels of the full images, the finest
                scale first.
            left: (B, C, H, W) in [0, 1].
            right: Same shape.

        Returns:
            "photometric", "consistency" and "smoothness": weighted scalars.
        """
        totals = {name: left.new_zeros(()) for name in self.weights}
        for number, disparities in enumerate(scales):
            for name, value in self._compute_at_scale(disparities.float(), (left, right)).items():
                # Coarser maps are smoothed less: one of their pixels spans more of the image (eq. 3 and section 4.1).
                factor = 0.5**number if name == "smoothness" else 1.0
                totals[name] = totals[name] + factor * value / len(scales)
        return {name: weight * totals[name] for name, weight in self.weights.items()}

    def _compute_at_scale(self, disparities: Tensor, images: tuple[Tensor, Tensor]) -> Tensors:
        size = disparities.shape[-2:]
        resized = [_resize(image, size) for image in images]
        maps = (disparities * (size[1] / images[0].shape[-1])).split(1, 1)
        losses: dict[str, list[Tensor]] = {name: [] for name in self.weights}
        for side, direction in ((0, -1.0), (1, 1.0)):
            disparity, other = maps[side], maps[1 - side]
            flow = torch.cat([direction * disparity, torch.zeros_like(disparity)], 1)
            fetched, inside = sample_along_flow(torch.cat([resized[1 - side], other], 1), flow)
            reconstruction, fetched_disparity = fetched[:, :-1], fetched[:, -1:]
            visible = (inside[:, None] & ~find_occlusion(disparity, fetched_disparity)).float()
            difference = photometric_difference(resized[side], reconstruction, self.ssim)
            losses["photometric"].append(_weighted_mean(difference, visible))
            inconsistency = (disparity - fetched_disparity).abs() / size[1]
            losses["consistency"].append(_weighted_mean(inconsistency, inside[:, None].float()))
            losses["smoothness"].append(smoothness_loss(disparity, resized[side]))
        return {name: torch.stack(values).mean() for name, values in losses.items()}


def photometric_difference(image: Tensor, reconstruction: Tensor, ssim_share: float) -> Tensor:
    """Difference of two images (B, C, H, W) in [0, 1] at each pixel, (B, 1, H, W): eq. 2, with 3x3 blocks.

    Args:
        image: The original.
        reconstruction: What the other image shows there.
        ssim_share: Share of the structural similarity; the rest is the absolute difference.
    """
    dissimilarity = ((1 - compute_ssim(image, reconstruction)) / 2).clamp(0, 1)
    absolute = (image - reconstruction).abs()
    return (ssim_share * dissimilarity + (1 - ssim_share) * absolute).mean(1, keepdim=True)


def compute_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of 3x3 blocks, (B, C, H, W) in [-1, 1].

    Source: Wang et al., Image Quality Assessment, TIP 2004, eq. 13, with the mean in place of a Gaussian.
    """
    padded = [F.pad(image, (1, 1, 1, 1), mode="replicate") for image in (first, second)]
    mean1, mean2, square1, square2, product = (
        F.avg_pool2d(field, 3, 1) for field in (*padded, padded[0].square(), padded[1].square(), padded[0] * padded[1])
    )
    variances = (square1 - mean1.square()) + (square2 - mean2.square())
    covariance = product - mean1 * mean2
    c1, c2 = SSIM_CONSTANTS
    numerator = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return numerator / ((mean1.square() + mean2.square() + c1) * (variances + c2))


@torch.no_grad()
def find_occlusion(disparity: Tensor, fetched: Tensor) -> Tensor:
    """Finds pixels whose point the other camera cannot see because something nearer is in front: bool, same shape.

    Args:
        disparity: Of this image.
        fetched: Disparity of the other image at the position that `disparity` leads to.
    """
    pixels, fraction = OCCLUSION_MARGIN
    return fetched > disparity + pixels + fraction * disparity


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
