"""The training loop, explicitly: epochs, batches, optimizer steps, validation, checkpoints.

Lightning Fabric does what depends on the machine: devices, processes, precision and gradient scaling, sharding.
Everything that affects the numbers is here or in `optimizer.py` and `ema.py`.

A run that is stopped at any moment and resumed equals an uninterrupted run bit for bit: randomness is a function of
(seed, epoch, rank), and the checkpoint, which holds all other state, is the last file that an epoch writes.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from densevision.errors import DenseVisionError
from densevision.inference.seed import seed_everything
from densevision.nn.depthwise_gradients import FastDepthwiseGradients
from densevision.nn.model import Model, Tensors
from densevision.run_config import TrainConfig
from densevision.sample import Batch
from densevision.training.ema import build_average
from densevision.training.freezing import freeze_parts, set_training_mode
from densevision.training.optimizer import Schedule, build_optimizer, find_decayed_names
from densevision.training.progress import TrainingProgress

__all__ = ["Counters", "TrainableTask", "TrainingLoop"]

log = logging.getLogger("densevision")

NUM_NAMED = 5
"""Damaged images that a warning names."""
HEALTHY_RATIOS = (1e-5, 1e-1)
"""Range of update norm / weight norm at the peak learning rate; a group outside of it is named in a warning."""


class TrainableTask(Protocol):
    """The part of a `Task` that the loop needs."""

    @property
    def optimizer_names(self) -> Sequence[str]:
        """The optimizers of a step, in order."""

    @property
    def generator_warmup_epochs(self) -> int:
        """First epochs in which only the optimizer "net" runs."""

    def build_training_modules(self) -> nn.Module | None:
        """Builds what exists only for training."""

    def compute_losses(
        self, model: Any, batch: Batch, training_modules: nn.Module | None, optimizer_name: str, /
    ) -> Tensors:
        """Computes the weighted losses of one optimizer."""

    def backward(
        self, model: Any, losses: Tensors, batches: int, backward: Callable[[], None], is_measured: bool, /
    ) -> dict[str, float]:
        """Adds the gradients of the losses divided by `batches`; returns measurements for the log."""


@dataclass
class Counters:
    """The counters of a run; part of its checkpoint.

    Attributes:
        epochs: Finished epochs.
        steps: Optimizer steps.
    """

    epochs: int = 0
    steps: int = 0


class LossModule(nn.Module):
    """Model and training modules under one `forward`, so that DDP and FSDP wrap a single module."""

    def __init__(self, model: Model, training_modules: nn.Module | None, is_compiled: bool = False):
        super().__init__()
        self.is_compiled = is_compiled
        self.model = model
        self.training_modules = training_modules
        self.losses: Tensors = {}

    def forward(self, compute_losses: Callable[[Model], Tensors]) -> Tensors:
        """Calls the losses of one step with the model.

        Strategies and Fabric put hooks on what is returned, which only `fabric.backward` may pass. `losses` keeps the
        same values without them, for gradients of single losses.
        """
        with nullcontext() if self.is_compiled else FastDepthwiseGradients():
            self.losses = compute_losses(self.model)
        return {name: loss.view_as(loss) for name, loss in self.losses.items()}


class TrainingLoop:
    """Trains the model of a task.

    Attributes:
        model: The model that is trained.
        average: Exponential moving average of the model, or None.
        schedule: The learning rate.
        counters: Finished epochs and steps.
        images: Images of this process in the current epoch.
    """

    def __init__(
        self,
        fabric: Fabric,
        task: TrainableTask,
        model: Model,
        config: TrainConfig,
        steps_per_epoch: int,
        maximize: bool,
    ):
        self.fabric, self.task, self.config, self.steps_per_epoch = fabric, task, config, steps_per_epoch
        freeze_parts(model, config.freeze)
        # One memory format for the whole run: convolutions in another one would round differently after a resume.
        self.model: Model = model.to(memory_format=torch.channels_last)
        if config.compile:
            self.model.compile()
        self.training_modules = task.build_training_modules()
        self.module = LossModule(self.model, self.training_modules, config.compile)
        trained = {name: self.model if name == "net" else self.training_modules for name in task.optimizer_names}
        decayed = {name: find_decayed_names(module) for name, module in trained.items() if module is not None}
        self.fabric_module = fabric.setup_module(self.module)
        # Fused steps would unscale the gradients of half precision themselves, too late for clipping.
        fused = fabric.device.type == "cuda" and config.precision != "float16"
        self.optimizers: dict[str, Any] = {
            name: fabric.setup_optimizers(build_optimizer(module, config, fused, decayed[name]))
            for name, module in trained.items()
            if module is not None
        }
        self.average = build_average(self.model, config.ema_decay) if config.ema_decay else None
        self.schedule = Schedule(config, -(-steps_per_epoch // config.accumulate_grad_batches), maximize)
        self.counters = Counters()
        self.images = 0
        self._loss_sums: dict[str, Tensor] = {}
        self._measurements: dict[str, float] = {}

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(
        self, loader: Iterable[Batch], on_epoch_end: Callable[[dict[str, float]], bool], progress: TrainingProgress
    ) -> None:
        """Trains until the last epoch, or until `on_epoch_end` returns True.

        Args:
            loader: The batches of an epoch.
            on_epoch_end: Validates and saves; takes the epoch's row of numbers, returns whether to stop.
            progress: Shows the steps.
        """
        progress.start(self.counters.epochs)
        while self.counters.epochs < self.config.epochs:
            start = time.monotonic()
            with progress.track_epoch(self.counters.epochs, self.steps_per_epoch) as report_loss:
                self.train_epoch(loader, report_loss)
            seconds = time.monotonic() - start
            self.counters.epochs += 1
            rate = self.images * self.fabric.world_size / max(seconds, 1e-9)
            row = {"epoch": self.counters.epochs, "seconds": seconds, "images_per_second": rate}
            if on_epoch_end(row | self.summarize_epoch()):
                break

    def train_epoch(self, loader: Iterable[Batch], report_loss: Callable[[float], None] = lambda loss: None) -> None:
        """Trains one epoch."""
        seed_everything(self.config.seed, self.counters.epochs, self.fabric.global_rank)
        sampler = getattr(loader, "batch_sampler", None)
        if sampler is not None:
            sampler.set_epoch(self.counters.epochs)
        self._loss_sums, self._measurements, self.images = {}, {}, 0
        set_training_mode(self.model, self.config.freeze, self.config.freeze_norm_statistics)
        damaged: list[str] = []
        for index, batch in enumerate(loader):
            damaged += batch.damaged
            loss = self.train_batch(batch.to(self.fabric.device, non_blocking=True), index)
            report_loss(loss)
            self.images += len(batch)
        if damaged:
            names, epoch = sorted(set(damaged)), self.counters.epochs + 1
            message = "epoch %d: %d samples were replaced because %d images are damaged: %s"
            log.warning(message, epoch, len(damaged), len(names), ", ".join(names[:NUM_NAMED]))

    def train_batch(self, batch: Batch, index: int) -> float:
        """Runs all optimizers on one batch; steps after `accumulate_grad_batches` batches and at the epoch's end.

        Args:
            batch: The batch, on the device.
            index: Number of the batch in the epoch.

        Returns:
            The sum of all losses.
        """
        if isinstance(self.model, Model):
            self.model.on_progress(self.counters.steps / self.schedule.total_steps)
        group = self.config.accumulate_grad_batches
        is_last = index + 1 == self.steps_per_epoch
        is_step = is_last or (index + 1) % group == 0
        batches_in_step = min(group, self.steps_per_epoch - index // group * group)
        has_modules = self.counters.epochs >= self.task.generator_warmup_epochs
        training_modules = self.training_modules if has_modules else None
        total = 0.0
        for name, optimizer in self.optimizers.items():
            if training_modules is None and name != "net":
                continue
            with self._freeze_others(name), self.fabric.no_backward_sync(self.fabric_module, enabled=not is_step):
                losses = self.fabric_module(
                    lambda model, name=name: self.task.compute_losses(model, batch, training_modules, name)
                )
                self._check_finite(losses, batch)
                mean = functools.reduce(torch.add, losses.values()) / batches_in_step
                self._measurements |= self.task.backward(
                    self.model,
                    self.module.losses,
                    batches_in_step,
                    functools.partial(self.fabric.backward, mean),
                    is_last,
                )
                self.module.losses = {}
            if is_step:
                self._step(optimizer, is_measured=is_last)
            self._add_losses(losses)
            total += float(functools.reduce(torch.add, losses.values()).detach())
        if is_step:
            self.counters.steps += 1
            if self.average is not None:
                self.average.update_parameters(self.model)
        return total

    def _step(self, optimizer: Any, is_measured: bool) -> None:
        fraction = self.schedule.apply(optimizer, self.counters.steps)
        previous = _copy_weights(optimizer) if is_measured else None
        if self.config.grad_clip_norm:  # unscales the gradients of half precision first
            self.fabric.clip_gradients(
                self.fabric_module, optimizer, max_norm=self.config.grad_clip_norm, error_if_nonfinite=False
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if previous is not None:
            self._measure_update(optimizer, previous, fraction)

    @contextmanager
    def _freeze_others(self, name: str) -> Iterator[None]:
        """Keeps the parameters of the other optimizers without gradients within the block."""
        frozen = [
            parameter
            for other, optimizer in self.optimizers.items()
            if other != name
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def evaluated_model(self) -> Model:
        """The model that is validated and saved: the moving average where there is one."""
        return self.model if self.average is None else self.average.module  # type: ignore[return-value]

    def get_state(self) -> dict[str, Any]:
        """The objects of a checkpoint: Fabric saves and restores modules and optimizers, the rest is plain data."""
        state: dict[str, Any] = {"module": self.fabric_module, "counters": asdict(self.counters)}
        state |= {f"optimizer_{name}": optimizer for name, optimizer in self.optimizers.items()}
        if self.average is not None:
            state["average"] = self.average
        return state | {
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores the plain data of a checkpoint; modules and optimizers are restored in place by Fabric."""
        self.counters = Counters(**state["counters"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])

    # -- measurements --------------------------------------------------------------------------------------------------

    def summarize_epoch(self) -> dict[str, float]:
        """Mean losses of the epoch, the learning rate, and the update ratio of each parameter group."""
        means = {f"train/{name}": float(total) / self.steps_per_epoch for name, total in self._loss_sums.items()}
        return {"train/loss": sum(means.values()), **means, **self._measurements}

    def _add_losses(self, losses: Tensors) -> None:
        for name, value in losses.items():
            value = value.detach().double()
            self._loss_sums[name] = self._loss_sums[name] + value if name in self._loss_sums else value

    def _measure_update(self, optimizer: Any, previous: dict[str, list[Tensor]], fraction: float) -> None:
        for group in optimizer.param_groups:
            weights = previous[group["name"]]
            update = torch.stack([(new.detach() - old).norm() for new, old in zip(group["params"], weights)]).norm()
            ratio = float(update / torch.stack([old.norm() for old in weights]).norm().clamp_min(1e-12))
            self._measurements[f"ratio/{group['name']}"] = ratio
            ratio_at_peak = ratio / max(fraction, 1e-6)
            is_healthy = HEALTHY_RATIOS[0] <= ratio_at_peak <= HEALTHY_RATIOS[1]
            if not is_healthy and self.counters.epochs > self.config.warmup_epochs:
                log.warning(
                    "%s: update / weight norm is %.1e; around 1e-3 is healthy: adjust train.lr", group["name"], ratio
                )
        self._measurements["lr"] = max(group["lr"] for group in optimizer.param_groups)

    def _check_finite(self, losses: Tensors, batch: Batch) -> None:
        names = [name for name, value in losses.items() if not torch.isfinite(value).all()]
        if names:
            raise DenseVisionError(
                f"the loss is not finite in epoch {self.counters.epochs + 1}, images {', '.join(map(str, batch.ids))}",
                field=", ".join(names),
                value=[float(losses[name].detach()) for name in names],
                hint="The weights of the last good epoch are kept. Check these images, or lower train.lr.",
            )


def _copy_weights(optimizer: Any) -> dict[str, list[Tensor]]:
    return {group["name"]: [weight.detach().clone() for weight in group["params"]] for group in optimizer.param_groups}
