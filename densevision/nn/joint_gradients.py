"""Gradients of several heads on one encoder: how far they agree, and their projection by PCGrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from densevision.nn.joint_model import JointModel, split_names

__all__ = ["accumulate_gradients", "measure_gradients"]


def measure_gradients(model: JointModel, losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Norms of the heads' gradients on the encoder, and the cosines between them; one backward pass per head.

    The graph of the losses and the gradients of the parameters stay as they are.

    Args:
        model: The joint model.
        losses: Of `model.compute_losses`.

    Returns:
        "norm/HEAD": norm of the head's gradient on the encoder. "cosine/HEAD/OTHER": cosine of the angle between two of
        them; 0 where one is zero.
    """
    shared = _list_shared(model)
    totals = _sum_by_head(losses)
    return _measure({name: _flatten(shared, _compute_gradients(total, shared)) for name, total in totals.items()})


def accumulate_gradients(
    model: JointModel, losses: Mapping[str, Tensor], project: bool = True, generator: torch.Generator | None = None
) -> dict[str, float]:
    """Adds the gradients of the losses to those of the parameters, as `sum(losses.values()).backward()` does.

    With `project`, the gradient of every head on the encoder loses its component against that of each other head, in
    random order, where the two point in opposite directions (PCGrad, algorithm 1 of Yu et al., Gradient Surgery for
    Multi-Task Learning, NeurIPS 2020). The gradients of the heads themselves do not change. One backward pass per head.

    Args:
        model: The joint model.
        losses: Of `model.compute_losses`.
        project: False only measures.
        generator: Draws the order of the projections; torch's global one if None.

    Returns:
        As `measure_gradients`, before projections.
    """
    shared = _list_shared(model)
    in_encoder = {id(weight) for weight in shared}
    others = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in in_encoder]
    gradients: dict[str, Tensor] = {}
    for name, total in _sum_by_head(losses).items():
        parts = _compute_gradients(total, [*shared, *others])
        gradients[name] = _flatten(shared, parts[: len(shared)])
        for weight, part in zip(others, parts[len(shared) :]):
            _add(weight, part)
    rest = [value for name, value in losses.items() if "/" not in name]
    if rest:
        for weight, part in zip(others, torch.autograd.grad(sum(rest), others, allow_unused=True)):  # type: ignore[arg-type]
            _add(weight, part)
    measurements = _measure(gradients)
    combined = torch.stack(list((_project(gradients, generator) if project else gradients).values())).sum(0)
    for weight, part in zip(shared, combined.split([weight.numel() for weight in shared])):
        _add(weight, part.view_as(weight))
    return measurements


def _list_shared(model: JointModel) -> list[nn.Parameter]:
    return [weight for weight in model.encoder.parameters() if weight.requires_grad]


def _sum_by_head(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.stack(list(values.values())).sum() for name, values in split_names(losses).items()}


def _compute_gradients(total: Tensor, weights: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(total, weights, retain_graph=True, allow_unused=True)


def _flatten(weights: list[nn.Parameter], gradients: Sequence[Tensor | None]) -> Tensor:
    """One vector; zero where a head does not use a weight."""
    parts = (torch.zeros_like(weight) if part is None else part for weight, part in zip(weights, gradients))
    return torch.cat([part.reshape(-1) for part in parts])


def _add(weight: nn.Parameter, gradient: Tensor | None) -> None:
    if gradient is not None:
        weight.grad = gradient.detach().clone() if weight.grad is None else weight.grad + gradient


def _measure(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    cosines = {
        f"cosine/{first}/{second}": float(gradients[first] @ gradients[second])
        / max(norms[first] * norms[second], torch.finfo(torch.float32).tiny)
        for first, second in combinations(gradients, 2)
    }
    return {f"norm/{name}": norm for name, norm in norms.items()} | cosines


def _project(gradients: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
    names = list(gradients)
    projected = {}
    for name in names:
        vector = gradients[name].clone()
        for index in torch.randperm(len(names), generator=generator).tolist():
            other = gradients[names[index]]
            product = vector @ other
            if names[index] != name and product < 0:  # negative only where the other is not zero
                vector -= product / (other @ other) * other
        projected[name] = vector
    return projected
