"""Adversarial losses beside their formulas, and where their gradients lead."""

from __future__ import annotations

import pytest
import torch

from densevision.nn.adversarial import KINDS, discriminator_loss, generator_loss


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64).float() for _ in range(2))


def test_losses__by_their_formulas(logits):
    fake, real = logits
    generators = {
        "vanilla": -fake.sigmoid().log().mean(),
        "lsgan": ((fake - 1) ** 2).mean(),
        "hinge": -fake.mean(),
        "relativistic": -(
            (fake - real.mean()).sigmoid().log().mean() + (1 - (real - fake.mean()).sigmoid()).log().mean()
        )
        / 2,
    }
    discriminators = {
        "vanilla": -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()) / 2,
        "lsgan": (((real - 1) ** 2).mean() + (fake**2).mean()) / 2,
        "hinge": ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()) / 2,
        "relativistic": -(
            (real - fake.mean()).sigmoid().log().mean() + (1 - (fake - real.mean()).sigmoid()).log().mean()
        )
        / 2,
    }
    assert generators.keys() == discriminators.keys() == set(KINDS)
    for kind in KINDS:
        torch.testing.assert_close(generator_loss(fake, real, kind), generators[kind])
        torch.testing.assert_close(discriminator_loss(fake, real, kind), discriminators[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients__pull_fake_and_real_apart(logits, kind: str):
    fake, real = (one.mul(0.1).add(0.5).requires_grad_() for one in logits)  # between what all losses want of the two
    for_fake, for_real = torch.autograd.grad(discriminator_loss(fake, real, kind), (fake, real))
    assert (for_fake > 0).all() and (for_real < 0).all()
    (pull,) = torch.autograd.grad(generator_loss(fake, real, kind), fake)
    assert (pull < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_losses__in_half_precision_are_computed_in_full(logits, kind: str):
    fake, real = (one.bfloat16() for one in logits)
    assert generator_loss(fake, real, kind).dtype == discriminator_loss(fake, real, kind).dtype == torch.float32
