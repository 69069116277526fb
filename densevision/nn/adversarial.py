"""Adversarial losses of generators and discriminators; all take logits of any shape and return a scalar."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

__all__ = ["KINDS", "discriminator_loss", "generator_loss"]

KINDS = ("vanilla", "relativistic", "lsgan", "hinge")
"""Names of the losses."""


def generator_loss(fake: Tensor, real: Tensor | None, kind: str) -> Tensor:
    """Computes the loss of a generator.

    Source: Goodfellow et al., NeurIPS 2014, in its non-saturating form (vanilla); Jolicoeur-Martineau, The relativistic
    discriminator, ICLR 2019, section 4 (relativistic); Mao et al., Least Squares GAN, ICCV 2017, eq. 9 (lsgan); Lim and
    Ye, Geometric GAN, 2017 (hinge).

    Args:
        fake: Logits of generated images.
        real: Logits of real images; only the relativistic loss needs them.
        kind: One of `KINDS`.
    """
    fake = fake.float()
    if kind == "vanilla":
        return _bce(fake, 1.0)
    if kind == "lsgan":
        return (fake - 1).square().mean()
    if kind == "hinge":
        return -fake.mean()
    if real is None:
        raise ValueError("the relativistic loss needs the logits of real images")
    target = real.detach().float()
    return (_bce(fake - _mean(target), 1.0) + _bce(target - _mean(fake), 0.0)) / 2


def discriminator_loss(fake: Tensor, real: Tensor, kind: str) -> Tensor:
    """Computes the loss of a discriminator: half the sum of its losses for generated and for real images.

    It is halved like that of Isola et al., so that the discriminator learns more slowly than the generator. Sources and
    arguments as in `generator_loss`.
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
    """The mean over the batches of all processes, with gradients between them: several train like a single one."""
    if not (dist.is_available() and dist.is_initialized()):
        return logits.mean()
    from torch.distributed.nn.functional import all_reduce  # not in every build of PyTorch

    return all_reduce(logits.mean()) / dist.get_world_size()


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
