"""Parts of a model, and statistics of batch norms, that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densevision.errors import UsageError, did_you_mean

__all__ = ["freeze_parts", "set_training_mode"]


def freeze_parts(model: nn.Module, names: Sequence[str]) -> None:
    """Stops the gradients of the named modules or parameters.

    Args:
        model: The model.
        names: Their dotted names, e.g. "backbone.stem".

    Raises:
        UsageError: The model has no such part, or nothing is left to train.
    """
    parts: dict[str, nn.Module | nn.Parameter] = {**dict(model.named_modules()), **dict(model.named_parameters())}
    for name in names:
        if not name or name not in parts:
            children = [child for child, _ in model.named_children()]
            hint = did_you_mean(name, [known for known in parts if known]) or f"Its parts are {', '.join(children)}."
            raise UsageError("the model has no such part", field="train.freeze", value=name, hint=hint)
        parts[name].requires_grad_(False)
    if names and not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("leaves nothing to train", field="train.freeze", value=list(names))


def set_training_mode(model: nn.Module, frozen: Sequence[str] = (), freeze_norm_statistics: bool = False) -> None:
    """Sets a model to training mode, but frozen parts, and all batch norms if asked to, to evaluation mode.

    Args:
        model: The model.
        frozen: Names that `freeze_parts` was given.
        freeze_norm_statistics: Keep the mean and variance of all batch norms; their scale and bias are trained.
    """
    model.train()
    modules = dict(model.named_modules())
    for name in frozen:
        if name in modules:
            modules[name].eval()
    for module in modules.values() if freeze_norm_statistics else ():
        if isinstance(module, _BatchNorm):
            module.eval()
