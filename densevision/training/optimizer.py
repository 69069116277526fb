"""Optimizer groups and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from densevision.run_config import TrainConfig


def build_optimizer(net: nn.Module, config: TrainConfig, fused: bool = False) -> torch.optim.Optimizer:
    """The optimizer of one phase, in up to four named groups.

    Weights of one dimension (norms, biases, scales) are not decayed; the encoder's rate is scaled by `backbone_lr_scale`.

    Args:
        net: The module to train; parameters that need no gradient are left out.
        config: The training options.
        fused: Use the fused kernel of the device.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder = name.startswith("encoder.")
        decayed = parameter.ndim > 1
        key = f"{'encoder' if encoder else 'head'}/{'decayed' if decayed else 'plain'}"
        rate = config.lr * (config.backbone_lr_scale if encoder else 1.0)
        decay = config.weight_decay if decayed else 0.0
        group = groups.setdefault(key, {"name": key, "params": [], "lr": rate, "weight_decay": decay, "peak": rate})
        group["params"].append(parameter)
    parameters = list(groups.values())
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=config.lr, betas=(config.momentum, 0.999), fused=fused or None)


class Schedule:
    """Sets the rate of every group before each step: its peak x the shape at this step x the plateau's factor.

    The shape is a pure function of the step; only the plateau remembers anything, in `state_dict`.
    """

    def __init__(self, config: TrainConfig, steps_per_epoch: int, maximise: bool):
        self.config = config
        self.total = max(1, config.epochs * steps_per_epoch)
        self.warmup = min(config.warmup * steps_per_epoch, self.total / 2)
        self.maximise = maximise
        self.factor = 1.0
        self.best = -math.inf
        self.bad = 0

    def shape(self, step: int) -> float:
        """The rate at a step (from 0) as a fraction of the peak."""
        config = self.config
        if (
            config.schedule == "onecycle"
        ):  # Smith and Topin 2018, linear as in RAFT: rise over the warm-up, then fall to 0
            rise = max(self.warmup, 1.0)
            return min((step + 1) / rise, max(0.0, (self.total - step) / max(self.total - rise, 1.0)))
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1.0, self.total - self.warmup)
        if config.schedule == "cosine":
            return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        if config.schedule == "linear":
            return min(1.0, max(0.0, 2.0 * (1.0 - step / self.total)))
        return 1.0

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Sets the rates for this step; returns the fraction of the peak."""
        fraction = self.shape(step) * self.factor
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * fraction
        return fraction

    def validated(self, value: float) -> None:
        """Under `plateau`: divides the rate after `patience` validations without improvement."""
        if self.config.schedule != "plateau":
            return
        value = value if self.maximise else -value
        if value > self.best:
            self.best, self.bad = value, 0
            return
        self.bad += 1
        if self.bad >= self.config.patience:
            self.factor, self.bad = self.factor / self.config.factor, 0

    def state_dict(self) -> dict[str, float]:
        """What the plateau remembers."""
        return {"factor": self.factor, "best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores what the plateau remembered."""
        self.factor, self.best, self.bad = state["factor"], state["best"], int(state["bad"])
