"""Adversarial losses: how far images are from being taken for real, and how well a critic tells them apart.

All take logits of any shape, such as those of patches, and give a scalar.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

KINDS = ("vanilla", "relativistic", "lsgan", "hinge")
"""The losses by name."""


def generator_loss(fake: Tensor, real: Tensor | None, kind: str) -> Tensor:
    """How far the answers are from being taken for real.

    Source: Goodfellow et al., NeurIPS 2014, in its non-saturating form (vanilla); Jolicoeur-Martineau, The relativistic
    discriminator, ICLR 2019, section 4 (relativistic); Mao et al., Least Squares GAN, ICCV 2017, eq. 9 (lsgan); Lim and
    Ye, Geometric GAN, 2017 (hinge).

    Args:
        fake: Logits of the network's answers.
        real: Logits of the targets; only the relativistic loss looks at them.
        kind: One of `KINDS`.
    """
    fake = fake.float()
    if kind == "vanilla":
        return _bce(fake, 1.0)
    if kind == "lsgan":
        return (fake - 1).square().mean()
    if kind == "hinge":
        return -fake.mean()
    true = real.detach().float()
    return (_bce(fake - _mean(true), 1.0) + _bce(true - _mean(fake), 0.0)) / 2


def discriminator_loss(fake: Tensor, real: Tensor, kind: str) -> Tensor:
    """How badly the critic tells answers from targets: half the sum of its errors about each.

    Halved, as Isola et al. do, it learns more slowly than the network. Sources and arguments as in `generator_loss`.
    """
    fake, real = fake.float(), real.float()
    if kind == "vanilla":
        return (_bce(real, 1.0) + _bce(fake, 0.0)) / 2
    if kind == "lsgan":
        return ((real - 1).square().mean() + fake.square().mean()) / 2
    if kind == "hinge":
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
    return (_bce(real - _mean(fake), 1.0) + _bce(fake - _mean(real), 0.0)) / 2


def _mean(logits: Tensor) -> Tensor:
    """The mean over the batches of all processes, so that several learn what one would; gradients flow between them."""
    if not (dist.is_available() and dist.is_initialized()):
        return logits.mean()
    from torch.distributed.nn.functional import all_reduce  # not in every build of PyTorch

    return all_reduce(logits.mean()) / dist.get_world_size()


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
