"""What a depth network is trained on where the truth is known; pixels of unknown truth count nowhere."""

from __future__ import annotations

import torch
from torch import Tensor

from densevision.tasks.depth.config import LossConfig

Tensors = dict[str, Tensor]

SCALES = 4
"""Resolutions at which gradients are compared."""
TRIMMED = 0.2
"""Part of the largest residuals of an image that the scale-and-shift-invariant loss leaves out."""
KNEE = 0.2
"""Part of the batch's largest error from which berHu is quadratic."""
LEAST = 1e-6
"""Smallest number whose logarithm is taken."""


def supervised_losses(depth: Tensor, image: Tensor, targets: Tensors, config: LossConfig) -> Tensors:
    """Weighted losses of a batch.

    Args:
        depth: (B, 1, H, W), positive.
        image: (B, C, H, W) in [0, 1].
        targets: "depth" and "valid" of `units.stack`, (B, 1, H, W).
        config: The weights.

    Returns:
        A scalar for every loss with a weight, finite for any truth, also none.
    """
    depth, truth, valid = depth.float(), targets["depth"], targets["valid"]
    losses = {
        "silog": lambda: silog(depth, truth, valid, config.silog_variance),
        "l1": lambda: l1(depth, truth, valid),
        "log_l1": lambda: l1(_log(depth), _log(truth), valid),
        "berhu": lambda: berhu(depth, truth, valid),
        "invariant": lambda: invariant(depth, truth, valid),
        "gradient": lambda: gradient(depth, truth, valid),
    }
    # Without truth each is zero, but has a gradient.
    told = bool(valid.any())
    wanted = {name: loss for name, loss in losses.items() if getattr(config, name)}
    found = {name: getattr(config, name) * (loss() if told else 0 * depth.sum()) for name, loss in wanted.items()}
    if config.smoothness:
        found["smoothness"] = config.smoothness * smoothness(depth, image)
    return found


def silog(depth: Tensor, truth: Tensor, valid: Tensor, variance: float) -> Tensor:
    """Root of the mean square of log differences, less `variance` times the square of their mean.

    Source: Eigen et al., Depth Map Prediction from a Single Image, NeurIPS 2014, eq. 4; the root as in Lee et al., From
    Big to Small, 2019, eq. 3.
    """
    error = (_log(depth) - _log(truth))[valid]
    return (error.square().mean() - variance * error.mean().square()).clamp(min=LEAST).sqrt()


def l1(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (depth - truth)[valid].abs().mean()


def berhu(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Absolute for small differences, quadratic from a fifth of the batch's largest.

    Source: Laina et al., Deeper Depth Prediction with Fully Convolutional Residual Networks, 3DV 2016, eq. 2.
    """
    error = (depth - truth)[valid].abs()
    knee = (KNEE * error.detach().max()).clamp(min=LEAST)
    return torch.where(error <= knee, error, (error.square() + knee.square()) / (2 * knee)).mean()


def invariant(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Absolute difference after median and mean deviation of both are made alike, without the largest residuals.

    Source: Ranftl et al., Towards Robust Monocular Depth Estimation (MiDaS), TPAMI 2020, eq. 5 to 7.
    """
    losses = []
    for one, other, known in zip(depth, truth, valid):
        if known.any():
            residual = (_normalized(one, known) - _normalized(other, known))[known].abs()
            kept = max(1, round((1 - TRIMMED) * residual.numel()))
            losses.append(residual.topk(kept, largest=False).values.sum() / (2 * residual.numel()))
    return torch.stack(losses).mean()


def gradient(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """How differently the normalized residual changes from pixel to pixel, at four scales.

    Source: Ranftl et al., MiDaS, TPAMI 2020, eq. 11.
    """
    total = depth.new_zeros(())
    counted = valid.flatten(1).any(1)
    pairs = zip(depth[counted], truth[counted], valid[counted])
    residual = torch.stack([(_normalized(one, known) - _normalized(other, known)) for one, other, known in pairs])
    known = valid[counted]
    for scale in range(SCALES):
        step = 2**scale
        here, sure = residual[..., ::step, ::step], known[..., ::step, ::step]
        for axis in (2, 3):
            if here.shape[axis] > 1:
                both = sure.narrow(axis, 1, sure.shape[axis] - 1) & sure.narrow(axis, 0, sure.shape[axis] - 1)
                change = here.diff(dim=axis).abs() * both
                total = total + change.sum() / sure.sum().clamp(min=1)
    return total


def smoothness(depth: Tensor, image: Tensor) -> Tensor:
    """Mean change of the depth, relative to its mean, where the image does not change: a scalar.

    Source: Godard et al., CVPR 2017, eq. 3; divided by the mean as in Wang et al., Learning Depth from Monocular Videos
    using Direct Methods, CVPR 2018, section 3.2, because otherwise smaller numbers would be smoother.
    """
    relative = depth / depth.mean((2, 3), keepdim=True).clamp(min=LEAST)
    total = depth.new_zeros(())
    for axis in (2, 3):
        if depth.shape[axis] > 1:
            edge = image.diff(dim=axis).abs().mean(1, keepdim=True)
            total = total + (relative.diff(dim=axis).abs() * torch.exp(-edge)).mean()
    return total


def _normalized(depth: Tensor, known: Tensor) -> Tensor:
    """Less its median over the known pixels, divided by the mean distance to it."""
    median = depth[known].median()
    deviation = (depth[known] - median).abs().mean().clamp(min=LEAST)
    return (depth - median) / deviation


def _log(depth: Tensor) -> Tensor:
    return depth.clamp(min=LEAST).log()
