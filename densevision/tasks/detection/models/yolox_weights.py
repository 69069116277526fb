"""State dicts of Megvii's YOLOX in the names of ours, and norms that a deployment has folded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["convert_state_dict", "has_folded_batch_norms", "unfold_batch_norms"]


def convert_state_dict(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """State dict of Megvii's YOLOX (any release; also of pixeltable-yolox) to that of `YOLOX`.

    Args:
        state: The loaded checkpoint, {"model": state dict, ...}, or the state dict itself.

    Raises:
        ValueError: It is not the state dict of a YOLOX on CSPDarknet.
    """
    state = state.get("model", state)
    stem = "backbone.backbone.stem.conv."
    if f"{stem}conv.weight" not in state:
        raise ValueError(f"not a state dict of YOLOX: it has no '{stem}conv.weight'; give Megvii's .pth file as it is")
    rules = ((stem, "backbone.stem."), ("backbone.backbone.", "backbone."), ("backbone.", "neck."), ("", ""))
    converted = {}
    for name, value in state.items():
        old, new = next(rule for rule in rules if name.startswith(rule[0]))
        converted[new + name.removeprefix(old)] = value
    weight = converted["backbone.stem.conv.weight"]
    # Focus orders its channels by column and row within 2x2 pixels, then by color: spread them over a 6x6 kernel.
    spread = weight.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 2, 5, 1)
    converted["backbone.stem.conv.weight"] = spread.flatten(4, 5).flatten(2, 3).contiguous()
    return converted


def has_folded_batch_norms(model: nn.Module) -> bool:
    """Whether every batch norm only adds its bias, as in checkpoints made from a deployed network."""
    norms: list[Any] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return bool(norms) and all(
        bool((norm.running_mean == 0).all() and ((norm.running_var + norm.eps - 1).abs() < 1e-6).all())
        for norm in norms
    )


@torch.no_grad()
def unfold_batch_norms(model: nn.Module, images: Tensor | Iterable[Tensor]) -> None:
    """Gives batch norms the statistics of images, in place, and scales and shifts that keep the evaluation outputs.

    Folded norms have lost their statistics: in training mode such a network would compute something else. Afterwards it
    behaves alike in both modes, and can be fine-tuned.

    Args:
        model: Takes `image`; it stays in the mode that it is in.
        images: (B, C, H, W) as the model takes them, or batches of them; a hundred images or more.
    """
    moments: dict[Any, list[Tensor]] = {}

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)
        count = torch.full_like(x[:, 0], x.shape[1])
        new = [count, x.sum(1), x.square().sum(1)]
        moments[norm] = [a + b for a, b in zip(moments[norm], new)] if norm in moments else new

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    is_training = model.training
    model.eval()
    try:
        for batch in images.split(8) if isinstance(images, Tensor) else images:
            model(image=batch)
    finally:
        model.train(is_training)
        for handle in handles:
            handle.remove()
    for norm, (count, total, squares) in moments.items():
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
