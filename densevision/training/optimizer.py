"""Optimizers with parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from densevision.errors import UsageError
from densevision.run_config import TrainConfig

__all__ = ["Schedule", "build_optimizer", "find_decayed_names"]


def find_decayed_names(module: nn.Module) -> set[str]:
    """Names of the parameters that get weight decay: all but one-dimensional ones (norms, biases, scales)."""
    return {name for name, parameter in module.named_parameters() if parameter.ndim > 1}


def build_optimizer(
    module: nn.Module, config: TrainConfig, fused: bool = False, decayed_names: set[str] | None = None
) -> torch.optim.Optimizer:
    """Builds an optimizer with named groups: encoder (with `layer_decay`, each of its layers) or head, decayed or not.

    Args:
        module: The module to train; parameters that require no gradient are left out. What its attribute
            `backbone_name` names ("encoder" without it) is the encoder.
        config: The training options. The learning rate of the encoder is scaled by `backbone_lr_scale`, and that of
            its layers by powers of `layer_decay` (Clark et al., ELECTRA, ICLR 2020, as timm computes them).
        fused: Use the fused kernel of the device.
        decayed_names: Parameters with weight decay. Give those of the module before it was sharded, since sharding
            flattens parameters; `find_decayed_names` of the module by default.

    Raises:
        UsageError: `layer_decay` for a model without a backbone.
    """
    decayed_names = find_decayed_names(module) if decayed_names is None else decayed_names
    groups: dict[str, dict[str, Any]] = {}
    prefix = f"{getattr(module, 'backbone_name', 'encoder')}."
    layers = _number_layers(module, prefix) if config.layer_decay < 1 else {}
    if config.layer_decay < 1 and not layers and hasattr(module, "backbone_name"):
        raise UsageError("the model has no backbone", field="train.layer_decay", value=config.layer_decay)
    deepest = max(layers.values(), default=0)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_encoder, is_decayed = name.startswith(prefix), name in decayed_names
        part = "head" if not is_encoder else f"encoder/{layers[name]}" if layers else "encoder"
        key = f"{part}/{'decayed' if is_decayed else 'plain'}"
        lr = config.lr
        if is_encoder:
            lr *= config.backbone_lr_scale * config.layer_decay ** (deepest - layers.get(name, deepest))
        weight_decay = config.weight_decay if is_decayed else 0.0
        group = {"name": key, "params": [], "lr": lr, "weight_decay": weight_decay, "peak_lr": lr}
        groups.setdefault(key, group)["params"].append(parameter)
    parameters = list(groups.values())
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    optimizer_class = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return optimizer_class(parameters, lr=config.lr, betas=config.betas, fused=fused or None)


def _number_layers(module: nn.Module, prefix: str) -> dict[str, int]:
    """Depth of each parameter of the backbone, from 0: timm's layers, or the children of another network in order."""
    try:
        backbone = module.get_submodule(prefix[:-1])
    except AttributeError:
        return {}
    names = [name for name, _ in backbone.named_parameters()]
    networks: list[tuple[str, Any]] = [
        (n, part) for n, part in backbone.named_modules() if hasattr(part, "group_matcher")
    ]
    if networks:
        path, network = networks[0]
        start = f"{path}." if path else ""
        layers = group_parameters(network, network.group_matcher(), reverse=True)
        numbers = {f"{start}{name}": number for name, number in layers.items()}
    else:
        children = {child: number for number, (child, _) in enumerate(backbone.named_children())}
        numbers = {name: children.get(name.partition(".")[0], 0) for name in names}
    deepest = max(numbers.values(), default=0)  # what follows timm's network, such as a pyramid
    return {f"{prefix}{name}": numbers.get(name, deepest) for name in names}


class Schedule:
    """Sets the learning rate of every group before each step: peak x shape at the step x plateau factor.

    The shape is a pure function of the step; only the plateau has a state.

    Args:
        config: The training options.
        steps_per_epoch: Optimizer steps in an epoch.
        maximize: Whether larger values of the monitored metric are better.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int, maximize: bool):
        self.config = config
        self.total_steps = max(1, config.epochs * steps_per_epoch)
        self.warmup_steps = min(config.warmup_epochs * steps_per_epoch, self.total_steps / 2)
        self.maximize = maximize
        self.factor = 1.0
        self.best = -math.inf
        self.bad_validations = 0

    def compute_shape(self, step: int) -> float:
        """The learning rate at a step (from 0) as a fraction of the peak."""
        config = self.config
        if config.schedule == "onecycle":  # Smith and Topin, 2018, linear as in RAFT: up over the warm-up, down to 0
            rise = max(self.warmup_steps, 1.0)
            return min((step + 1) / rise, max(0.0, (self.total_steps - step) / max(self.total_steps - rise, 1.0)))
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1.0, self.total_steps - self.warmup_steps)
        if config.schedule == "cosine":
            return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        if config.schedule == "linear":
            return min(1.0, max(0.0, 2.0 * (1.0 - step / self.total_steps)))
        return 1.0

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Sets the learning rates for a step; returns the fraction of the peak."""
        fraction = self.compute_shape(step) * self.factor
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * fraction
        return fraction

    def update_plateau(self, value: float) -> None:
        """With `plateau`: multiplies the learning rate by `plateau_factor` after `plateau_patience` bad validations."""
        if self.config.schedule != "plateau":
            return
        value = value if self.maximize else -value
        if value > self.best:
            self.best, self.bad_validations = value, 0
            return
        self.bad_validations += 1
        if self.bad_validations >= self.config.plateau_patience:
            self.factor, self.bad_validations = self.factor * self.config.plateau_factor, 0

    def state_dict(self) -> dict[str, float]:
        """The state of the plateau."""
        return {"factor": self.factor, "best": self.best, "bad_validations": self.bad_validations}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores the state of the plateau."""
        self.factor, self.best = state["factor"], state["best"]
        self.bad_validations = int(state["bad_validations"])
