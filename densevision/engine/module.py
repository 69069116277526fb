"""The one LightningModule: any task's phases, one optimiser each, with a moving average of the weights."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from densevision.engine.model import start_from
from densevision.engine.optimizer import Schedule, build_optimizer
from densevision.engine.processes import rank_and_world
from densevision.engine.seed import seed_everything
from densevision.errors import DenseVisionError
from densevision.recipe import TrainConfig
from densevision.sample import Batch
from densevision.tasks.contract import Net, Task

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
        pictures: Pictures that this process has seen in this epoch.
    """

    def __init__(self, task: Task, train: TrainConfig, steps_per_epoch: int):
        super().__init__()
        self.automatic_optimization = False
        self.task, self.train_config, self.steps_per_epoch = task, train, steps_per_epoch
        # One memory format from start to end: convolutions in another would round differently after a resume.
        self.net: Net = self._first_net().to(memory_format=torch.channels_last)
        self.critic: nn.Module | None = task.critic()
        self.average = averaged(self.net, train.ema) if train.ema else None
        updates = -(-steps_per_epoch // train.accumulate)
        self.schedule = Schedule(train, updates, task.watch[1] == "max")
        self.forward_net: nn.Module = torch.compile(self.net) if train.compile else self.net
        self.updates = 0
        self.measured: dict[str, float] = {}
        self.totals: dict[str, Tensor] = {}
        self.pictures = 0

    def _first_net(self) -> Net:
        net = self.task.net()
        if self.train_config.start is not None:
            anew = start_from(net, self.train_config.start, self.task.name)
            if anew:
                shown = ", ".join(anew[:5])
                log.warning("%d tensors are not taken from %s: %s", len(anew), self.train_config.start, shown)
        return net

    @property
    def best_net(self) -> Net:
        """The weights that are validated and saved: the average where there is one."""
        return self.average.module if self.average is not None else self.net

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimiser per phase."""
        # Fused steps unscale half precision's gradients themselves, too late to clip them.
        fused = next(self.net.parameters()).is_cuda and self.trainer.precision != "16-mixed"
        modules = [self.net if phase == "net" else self.critic for phase in self.task.phases]
        return [build_optimizer(module, self.train_config, fused) for module in modules if module is not None]

    def on_train_epoch_start(self) -> None:
        """Makes the epoch's chance a function of (seed, epoch, process)."""
        seed_everything(self.train_config.seed, self.current_epoch, rank_and_world()[0])
        self.measured, self.totals, self.pictures = {}, {}, 0

    def training_step(self, batch: Batch, index: int) -> None:
        """One batch through every phase; an update after each `accumulate` batches and at the end of the epoch."""
        last = index + 1 == self.steps_per_epoch
        updating = last or (index + 1) % self.train_config.accumulate == 0
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        critic = self.critic if self.current_epoch >= self.task.alone else None
        for phase, optimizer in zip(self.task.phases, optimizers):
            if critic is None and phase != "net":
                continue
            self.toggle_optimizer(optimizer)
            losses = self.task.losses(self.forward_net, batch, critic, phase)
            self._refuse_non_finite(losses, batch)
            self.manual_backward(sum(losses.values()) / self._together(index))
            if updating:
                self._update(optimizer, measure=last)
            self.untoggle_optimizer(optimizer)
            self._tally(losses)
        self.pictures += len(batch)
        if updating:
            self.updates += 1
            if self.average is not None:
                self.average.update_parameters(self.net)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clips the gradients, which half precision has scaled until here."""
        if self.train_config.clip:
            self.clip_gradients(optimizer, self.train_config.clip, "norm")

    def epoch_summary(self) -> dict[str, float]:
        """Mean losses of the epoch, its rate, and each group's update ratio."""
        means = {f"train/{name}": float(total) / self.steps_per_epoch for name, total in self.totals.items()}
        return {"train/loss": sum(means.values()), **means, **self.measured}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what resume needs besides weights and optimisers."""
        checkpoint["densevision"] = {"updates": self.updates, "schedule": self.schedule.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what `on_save_checkpoint` added."""
        self.updates = checkpoint["densevision"]["updates"]
        self.schedule.load_state_dict(checkpoint["densevision"]["schedule"])

    def _together(self, index: int) -> int:
        """How many batches make the update that this one is part of: fewer at the end of an epoch."""
        group = self.train_config.accumulate
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
            if not HEALTHY[0] <= at_peak <= HEALTHY[1] and self.current_epoch > self.train_config.warmup:
                log.warning(
                    "%s: update / weight norm is %.1e; healthy is near 1e-3, mend train.lr", group["name"], ratio
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
                mend="The weights of the last good epoch are kept. Look at these images, or lower train.lr.",
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
