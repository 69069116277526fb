"""Learning from rectified pairs: each image should be found again in the other, moved by its disparity.

Source: Godard, Mac Aodha and Brostow, Unsupervised Monocular Depth Estimation with Left-Right Consistency, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.warp import fetch_along
from densevision.tasks.depth.config import LossConfig
from densevision.tasks.depth.losses import smoothness

Tensors = dict[str, Tensor]

STABLE = (0.01**2, 0.03**2)
"""Constants of structural similarity for images in [0, 1]."""
HIDING = (1.0, 0.05)
"""A point is hidden when what the other eye sees there is nearer by more than these pixels and this part."""


def stereo_losses(scales: Sequence[Tensor], left: Tensor, right: Tensor, config: LossConfig) -> Tensors:
    """Weighted losses of a batch of pairs, the mean over both eyes and all scales.

    Args:
        scales: Disparities (B, 2, h, w) of the left and the right image, in pixels of the images, the finest first.
        left: (B, C, H, W) in [0, 1].
        right: The same.
        config: The weights.

    Returns:
        "photometric", "consistency" and "smoothness": scalars.
    """
    total = {name: left.new_zeros(()) for name in ("photometric", "consistency", "smoothness")}
    for number, disparities in enumerate(scales):
        for loss, value in _at_scale(disparities.float(), (left, right), config.ssim).items():
            # Coarser maps are smoothed less: one of their pixels spans more of the image (eq. 3 and section 4.1).
            share = 0.5**number if loss == "smoothness" else 1.0
            total[loss] = total[loss] + share * value / len(scales)
    return {name: getattr(config, name) * value for name, value in total.items()}


def _at_scale(disparities: Tensor, images: tuple[Tensor, Tensor], share: float) -> Tensors:
    size = disparities.shape[-2:]
    shrunk = [_resized(image, size) for image in images]
    # Disparities are in pixels of the full images.
    maps = (disparities * (size[1] / images[0].shape[-1])).split(1, 1)
    losses: dict[str, list[Tensor]] = {"photometric": [], "consistency": [], "smoothness": []}
    for eye, direction in ((0, -1.0), (1, 1.0)):
        own, other = maps[eye], maps[1 - eye]
        flow = torch.cat([direction * own, torch.zeros_like(own)], 1)
        fetched, inside = fetch_along(torch.cat([shrunk[1 - eye], other], 1), flow)
        seen, answered = fetched[:, :-1], fetched[:, -1:]
        visible = (inside[:, None] & ~hidden(own, answered)).float()
        losses["photometric"].append(_mean(photometric(shrunk[eye], seen, share), visible))
        losses["consistency"].append(_mean((own - answered).abs() / size[1], inside[:, None].float()))
        losses["smoothness"].append(smoothness(own, shrunk[eye]))
    return {name: torch.stack(values).mean() for name, values in losses.items()}


def photometric(image: Tensor, fetched: Tensor, share: float) -> Tensor:
    """How differently two images look at each pixel, (B, 1, H, W): eq. 2, with 3x3 blocks.

    Args:
        image: (B, C, H, W) in [0, 1].
        fetched: The same.
        share: Of the structural similarity, beside absolute differences.
    """
    absolute = (image - fetched).abs()
    unlike = ((1 - structure(image, fetched)) / 2).clamp(0, 1)
    return (share * unlike + (1 - share) * absolute).mean(1, keepdim=True)


def structure(one: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of 3x3 blocks, (B, C, H, W) in [-1, 1].

    Source: Wang et al., Image Quality Assessment, TIP 2004, eq. 13, with the mean in place of a Gaussian.
    """
    padded = [F.pad(image, (1, 1, 1, 1), mode="replicate") for image in (one, other)]
    mean_one, mean_other, square_one, square_other, product = (
        F.avg_pool2d(field, 3, 1) for field in (*padded, padded[0].square(), padded[1].square(), padded[0] * padded[1])
    )
    spread = (square_one - mean_one.square()) + (square_other - mean_other.square())
    common = product - mean_one * mean_other
    light, contrast = STABLE
    above = (2 * mean_one * mean_other + light) * (2 * common + contrast)
    return above / ((mean_one.square() + mean_other.square() + light) * (spread + contrast))


@torch.no_grad()
def hidden(disparity: Tensor, answered: Tensor) -> Tensor:
    """Pixels whose point the other eye cannot see, because something nearer stands before it: bool of the same shape.

    Args:
        disparity: Of this eye.
        answered: Of the other eye, fetched from where the disparity leads.
    """
    pixels, part = HIDING
    return answered > disparity + pixels + part * disparity


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
