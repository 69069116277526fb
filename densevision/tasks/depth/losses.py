"""Supervised depth losses; pixels whose ground truth is unknown are ignored."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DepthCriterion", "berhu_loss", "l1_loss", "silog_loss", "smoothness_loss", "ssi_gradient_loss", "ssi_loss"]

Tensors = dict[str, Tensor]

GRADIENT_SCALES = 4
TRIMMED_FRACTION = 0.2
"""Fraction of an image's largest residuals that the scale-and-shift-invariant loss ignores."""
BERHU_FRACTION = 0.2
"""Fraction of the batch's largest error above which berHu is quadratic."""
EPSILON = 1e-6
"""Smallest number whose logarithm is taken, and smallest divisor."""


class DepthCriterion(nn.Module):
    """A weighted sum of supervised losses; a weight of 0 leaves one out.

    Args:
        silog: Weight of the scale-invariant logarithmic loss.
        l1: Weight of the absolute difference.
        log_l1: Weight of the absolute difference of logarithms.
        berhu: Weight of the reverse Huber loss.
        ssi: Weight of the scale-and-shift-invariant loss.
        ssi_gradient: Weight of the same for differences between neighboring pixels.
        smoothness: Weight of the edge-aware smoothness.
        silog_variance: Share of a common factor that `silog` ignores; 1 ignores all of it.
    """

    def __init__(
        self,
        silog: float = 1.0,
        l1: float = 0.0,
        log_l1: float = 0.0,
        berhu: float = 0.0,
        ssi: float = 0.0,
        ssi_gradient: float = 0.0,
        smoothness: float = 0.0,
        silog_variance: float = 0.85,
    ):
        super().__init__()
        weights = {
            "silog": silog,
            "l1": l1,
            "log_l1": log_l1,
            "berhu": berhu,
            "ssi": ssi,
            "ssi_gradient": ssi_gradient,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.smoothness, self.silog_variance = smoothness, silog_variance

    def forward(self, depth: Tensor, targets: Tensors, image: Tensor | None = None) -> Tensors:
        """Computes the losses of a batch.

        Args:
            depth: (B, 1, H, W), positive.
            targets: "depth" (B, 1, H, W) and "valid" (B, 1, H, W) bool.
            image: (B, C, H, W) in [0, 1], for the smoothness.

        Returns:
            Weighted scalars; finite, and with gradients, even without any valid pixel.
        """
        depth, target, valid = depth.float(), targets["depth"], targets["valid"]
        functions = {
            "silog": lambda: silog_loss(depth, target, valid, self.silog_variance),
            "l1": lambda: l1_loss(depth, target, valid),
            "log_l1": lambda: l1_loss(_log(depth), _log(target), valid),
            "berhu": lambda: berhu_loss(depth, target, valid),
            "ssi": lambda: ssi_loss(depth, target, valid),
            "ssi_gradient": lambda: ssi_gradient_loss(depth, target, valid),
        }
        has_target = bool(valid.any())
        losses = {
            name: weight * (functions[name]() if has_target else 0 * depth.sum())
            for name, weight in self.weights.items()
        }
        if self.smoothness and image is not None:
            losses["smoothness"] = self.smoothness * smoothness_loss(depth, image)
        return losses


def silog_loss(depth: Tensor, target: Tensor, valid: Tensor, variance: float) -> Tensor:
    """Root of the mean square of log differences, less `variance` times the square of their mean.

    Source: Eigen et al., Depth Map Prediction from a Single Image, NeurIPS 2014, eq. 4; the root as in Lee et al., From
    Big to Small, 2019, eq. 3.
    """
    error = (_log(depth) - _log(target))[valid]
    return (error.square().mean() - variance * error.mean().square()).clamp(min=EPSILON).sqrt()


def l1_loss(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (depth - target)[valid].abs().mean()


def berhu_loss(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Reverse Huber loss: absolute for small differences, quadratic above a fifth of the batch's largest.

    Source: Laina et al., Deeper Depth Prediction with Fully Convolutional Residual Networks, 3DV 2016, eq. 2.
    """
    error = (depth - target)[valid].abs()
    threshold = (BERHU_FRACTION * error.detach().max()).clamp(min=EPSILON)
    return torch.where(error <= threshold, error, (error.square() + threshold.square()) / (2 * threshold)).mean()


def ssi_loss(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Trimmed absolute difference after median and mean absolute deviation of both are normalized.

    Source: Ranftl et al., Towards Robust Monocular Depth Estimation (MiDaS), TPAMI 2020, eq. 5 to 7.
    """
    losses = []
    for prediction, reference, mask in zip(depth, target, valid):
        if mask.any():
            residual = (_normalize(prediction, mask) - _normalize(reference, mask))[mask].abs()
            count = max(1, round((1 - TRIMMED_FRACTION) * residual.numel()))
            losses.append(residual.topk(count, largest=False).values.sum() / (2 * residual.numel()))
    return torch.stack(losses).mean()


def ssi_gradient_loss(depth: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Absolute differences between neighbors of the normalized residual, at four scales.

    Source: Ranftl et al., MiDaS, TPAMI 2020, eq. 11.
    """
    total = depth.new_zeros(())
    has_target = valid.flatten(1).any(1)
    triples = zip(depth[has_target], target[has_target], valid[has_target])
    residual = torch.stack(
        [_normalize(prediction, mask) - _normalize(truth, mask) for prediction, truth, mask in triples]
    )
    valid = valid[has_target]
    for scale in range(GRADIENT_SCALES):
        step = 2**scale
        coarse, mask = residual[..., ::step, ::step], valid[..., ::step, ::step]
        for axis in (2, 3):
            if coarse.shape[axis] > 1:
                both = mask.narrow(axis, 1, mask.shape[axis] - 1) & mask.narrow(axis, 0, mask.shape[axis] - 1)
                total = total + (coarse.diff(dim=axis).abs() * both).sum() / mask.sum().clamp(min=1)
    return total


def smoothness_loss(depth: Tensor, image: Tensor) -> Tensor:
    """Mean change of the depth relative to its mean, weighted down at edges of the image: a scalar.

    Source: Godard et al., CVPR 2017, eq. 3; divided by the mean as in Wang et al., Learning Depth from Monocular Videos
    using Direct Methods, CVPR 2018, section 3.2, because otherwise smaller numbers would be smoother.
    """
    relative = depth / depth.mean((2, 3), keepdim=True).clamp(min=EPSILON)
    total = depth.new_zeros(())
    for axis in (2, 3):
        if depth.shape[axis] > 1:
            edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
            total = total + (relative.diff(dim=axis).abs() * torch.exp(-edge)).mean()
    return total


def _normalize(depth: Tensor, mask: Tensor) -> Tensor:
    """Subtracts the median over the masked pixels, and divides by the mean distance to it."""
    median = depth[mask].median()
    deviation = (depth[mask] - median).abs().mean().clamp(min=EPSILON)
    return (depth - median) / deviation


def _log(depth: Tensor) -> Tensor:
    return depth.clamp(min=EPSILON).log()
