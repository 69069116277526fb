"""The one LightningModule: any task's phases, one optimizer each, with a moving average of the weights."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from densevision.errors import DenseVisionError
from densevision.inference.predictor import start_from
from densevision.inference.processes import rank_and_world
from densevision.inference.seed import seed_everything
from densevision.run_config import TrainConfig
from densevision.sample import Batch
from densevision.tasks.base import DenseModel, Task
from densevision.training.optimizer import Schedule, build_optimizer

log = logging.getLogger("densevision")
HEALTHY = (1e-5, 1e-1)
"""Range of update norm / weight norm, at the peak of the rate, outside which a group is named in a warning."""


class Module(LightningModule):
    """Trains the net (phase "net") and the critic (any other phase) of a task.

    Attributes:
        net: The network that is trained.
        critic: The task's critic, or None.
        average: Moving average of the net, or None.
        schedule: The rate as a function of the step.
        images: Images that this process has seen in this epoch.
    """

    def __init__(self, task: Task, train: TrainConfig, steps_per_epoch: int):
        super().__init__()
        self.automatic_optimization = False
        self.task, self.train_config, self.steps_per_epoch = task, train, steps_per_epoch
        # One memory format from start to end: convolutions in another would round differently after a resume.
        self.net: DenseModel = self._first_net().to(memory_format=torch.channels_last)
        self.training_modules: nn.Module | None = task.training_modules()
        self.average = averaged(self.net, train.ema_decay) if train.ema_decay else None
        updates = -(-steps_per_epoch // train.accumulate_grad_batches)
        self.schedule = Schedule(train, updates, task.monitor[1] == "max")
        self.forward_net: nn.Module = torch.compile(self.net) if train.compile else self.net
        self.updates = 0
        self.measured: dict[str, float] = {}
        self.totals: dict[str, Tensor] = {}
        self.images = 0

    def _first_net(self) -> DenseModel:
        net = self.task.net()
        if self.train_config.init_from is not None:
            anew = start_from(net, self.train_config.init_from, self.task.name)
            if anew:
                shown = ", ".join(anew[:5])
                log.warning("%d tensors are not taken from %s: %s", len(anew), self.train_config.init_from, shown)
        return net

    @property
    def best_net(self) -> DenseModel:
        """The weights that are validated and saved: the average where there is one."""
        return self.average.module if self.average is not None else self.net

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer per phase."""
        # Fused steps unscale half precision's gradients themselves, too late to clip them.
        fused = next(self.net.parameters()).is_cuda and self.trainer.precision != "16-mixed"
        modules = [
            self.net if optimizer_name == "net" else self.training_modules
            for optimizer_name in self.task.optimizer_names
        ]
        return [build_optimizer(module, self.train_config, fused) for module in modules if module is not None]

    def on_train_epoch_start(self) -> None:
        """Makes the epoch's chance a function of (seed, epoch, process)."""
        seed_everything(self.train_config.seed, self.current_epoch, rank_and_world()[0])
        self.measured, self.totals, self.images = {}, {}, 0

    def training_step(self, batch: Batch, index: int) -> None:
        """One batch through every phase; an update after each `accumulate_grad_batches` batches and at the end of the epoch."""
        last = index + 1 == self.steps_per_epoch
        updating = last or (index + 1) % self.train_config.accumulate_grad_batches == 0
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        training_modules = self.training_modules if self.current_epoch >= self.task.generator_warmup_epochs else None
        for optimizer_name, optimizer in zip(self.task.optimizer_names, optimizers):
            if training_modules is None and optimizer_name != "net":
                continue
            self.toggle_optimizer(optimizer)
            losses = self.task.losses(self.forward_net, batch, training_modules, optimizer_name)
            self._refuse_non_finite(losses, batch)
            self.manual_backward(sum(losses.values()) / self._together(index))
            if updating:
                self._update(optimizer, measure=last)
            self.untoggle_optimizer(optimizer)
            self._tally(losses)
        self.images += len(batch)
        if updating:
            self.updates += 1
            if self.average is not None:
                self.average.update_parameters(self.net)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradients, which half precision has scaled until here."""
        if self.train_config.grad_clip_norm:
            self.clip_gradients(optimizer, self.train_config.grad_clip_norm, "norm")

    def epoch_summary(self) -> dict[str, float]:
        """Mean losses of the epoch, its rate, and each group's update ratio."""
        means = {f"train/{name}": float(total) / self.steps_per_epoch for name, total in self.totals.items()}
        return {"train/loss": sum(means.values()), **means, **self.measured}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what resume needs besides weights and optimizers."""
        checkpoint["densevision"] = {"updates": self.updates, "schedule": self.schedule.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what `on_save_checkpoint` added."""
        self.updates = checkpoint["densevision"]["updates"]
        self.schedule.load_state_dict(checkpoint["densevision"]["schedule"])

    def _together(self, index: int) -> int:
        """How many batches make the update that this one is part of: fewer at the end of an epoch."""
        group = self.train_config.accumulate_grad_batches
        return min(group, self.steps_per_epoch - index // group * group)

    def _update(self, optimizer: Any, measure: bool) -> None:
        fraction = self.schedule.apply(optimizer, self.updates)
        before = _copies(optimizer) if measure else None
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if before is not None:
            self._measure(optimizer, before, fraction)

    def _measure(self, optimizer: Any, before: dict[str, list[Tensor]], fraction: float) -> None:
        for group in optimizer.param_groups:
            old = before[group["name"]]
            step = torch.stack([(new.detach() - was).norm() for new, was in zip(group["params"], old)]).norm()
            weight = torch.stack([was.norm() for was in old]).norm()
            ratio = float(step / weight.clamp_min(1e-12))
            self.measured[f"ratio/{group['name']}"] = ratio
            at_peak = ratio / max(fraction, 1e-6)
            if not HEALTHY[0] <= at_peak <= HEALTHY[1] and self.current_epoch > self.train_config.warmup_epochs:
                log.warning(
                    "%s: update / weight norm is %.1e; healthy is near 1e-3, fix train.lr", group["name"], ratio
                )
        self.measured["lr"] = max(group["lr"] for group in optimizer.param_groups)

    def _tally(self, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            value = value.detach().double()
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def _refuse_non_finite(self, losses: dict[str, Tensor], batch: Batch) -> None:
        bad = [name for name, value in losses.items() if not torch.isfinite(value).all()]
        if bad:
            raise DenseVisionError(
                f"the loss is not finite in epoch {self.current_epoch}, images {', '.join(map(str, batch.ids))}",
                field=", ".join(bad),
                value=[float(losses[name].detach()) for name in bad],
                hint="The weights of the last good epoch are kept. Look at these images, or lower train.lr.",
            )


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers that follows quickly at first.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten.
    """

    @torch.no_grad()
    def follow(averages: list[Tensor], currents: list[Tensor], count: Tensor | int) -> None:
        ramped = min(decay, (1 + int(count)) / (10 + int(count)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1 - ramped)
        else:
            torch._foreach_copy_(averages, currents)

    average = AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
    return average.requires_grad_(False)


def _copies(optimizer: Any) -> dict[str, list[Tensor]]:
    return {group["name"]: [weight.detach().clone() for weight in group["params"]] for group in optimizer.param_groups}
