"""Batch norms that were folded into their convolutions, and how training gets them back.

Files for inference engines hold convolutions with biases; converted back, each norm adds the bias and nothing else:
mean 0, variance 1, scale 1. The network's predictions are right, but the first training step replaces these statistics
by those of a batch, which is another function: everything that was learned is lost. Measured statistics prevent that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["find_folded_norms", "unfold_norms"]

T = TypeVar("T")

TOLERANCE = 1e-4
"""Largest deviation of the scale from 1. Half precision stores 1 - 1e-3 with an error of 5e-5."""


def find_folded_norms(model: nn.Module) -> list[str]:
    """Names of the batch norms that only add a bias. New norms have none, and are left out.

    Args:
        model: The model, after its weights were loaded.
    """
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm) or module.weight is None:
            continue
        if module.running_mean is None or module.running_var is None or bool((module.bias == 0).all()):
            continue
        scale = module.weight.detach() * (module.running_var + module.eps).rsqrt()
        if bool((module.running_mean == 0).all()) and bool(((scale - 1).abs() <= TOLERANCE).all()):
            names.append(name)
    return names


@torch.no_grad()
def unfold_norms(model: nn.Module, names: Iterable[str], batches: Iterable[T], run: Callable[[T], object]) -> None:
    """Measures the mean and variance that batch norms see, and rewrites the norms around them.

    Scale and bias are changed along, so that the model's predictions stay the same up to rounding. In training mode, a
    batch with the statistics of these batches then gives the same predictions, too.

    Args:
        model: The model; it is run in evaluation mode and in single precision, and keeps its mode.
        names: Names of its batch norms; they need a scale and a bias.
        batches: Inputs on which they are measured; at least one.
        run: Runs the model on one of them.

    Raises:
        ValueError: There are no batches.
    """
    norms = {name: module for name, module in model.named_modules() if name in set(names)}
    sums = {name: _Moments() for name in norms}
    handles = [
        norm.register_forward_pre_hook(lambda _, inputs, name=name: sums[name].add(inputs[0]))
        for name, norm in norms.items()
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        for batch in batches:
            run(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, is_training in modes:
            module.training = is_training
    for name, norm in norms.items():
        if not sums[name].count:
            raise ValueError(f"{name} has seen no input")
        _set_statistics(norm, *sums[name].compute())


class _Moments:
    """Sums from which mean and variance per channel follow, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        channels = x.detach().transpose(0, 1).flatten(1).double()
        self.count += channels.shape[1]
        self.total = self.total + channels.sum(1)
        self.squares = self.squares + channels.square().sum(1)

    def compute(self) -> tuple[Tensor, Tensor]:
        mean = torch.as_tensor(self.total) / self.count
        return mean, (torch.as_tensor(self.squares) / self.count - mean.square()).clamp_min(0)


def _set_statistics(norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
    """Gives a norm these statistics; scale and bias follow, so that it computes what it did."""
    assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    old_scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    shift = norm.bias.double() - norm.running_mean.double() * old_scale
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(old_scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + old_scale * mean)
