"""The end of an epoch: validation, the best weights, and the files of the run."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from lightning.fabric import Fabric
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from densevision.evaluation.evaluate import Evaluation, evaluate
from densevision.inference.memory import measure_peak_megabytes
from densevision.inference.predictor import TorchPredictor
from densevision.io.weights import Card
from densevision.nn.model import Model
from densevision.run_config import TaskConfig
from densevision.run_folder import RunFolder
from densevision.sample import SampleSet
from densevision.tasks.base import Task
from densevision.training.checkpoint import load_checkpoint, save_checkpoint
from densevision.training.loop import TrainingLoop
from densevision.training.mirror import RunMirror
from densevision.training.preview import EXAMPLES, draw_predictions
from densevision.training.progress import TrainingProgress, format_duration

__all__ = ["BestTracker", "EpochEnd", "OnValidation"]

log = logging.getLogger("densevision")

OnValidation = Callable[[int, float], bool]
"""Takes the epoch, from 1, and the monitored value; returns whether to stop the run."""


@dataclass
class BestTracker:
    """The best validation so far; part of the checkpoint.

    Attributes:
        value: The monitored value, negated where smaller is better.
        epoch: Its epoch, from 0; -1 before the first validation.
        stale: Validations since then.
    """

    value: float = -math.inf
    epoch: int = -1
    stale: int = 0

    def update(self, value: float, epoch: int) -> bool:
        """Adds a validation; returns whether it is the best."""
        if value > self.value:
            self.value, self.epoch, self.stale = value, epoch, 0
            return True
        self.stale += 1
        return False


class EpochEnd:
    """Validates, tracks the best weights, and writes the files of the run after each epoch.

    The checkpoint is written last, so a run that is killed at any moment can be resumed.

    Args:
        loop: The training loop.
        task: The task.
        folder: The run folder.
        card: The card of the weights.
        validation: The validation split.
        progress: Prints the progress.
        on_validation: Called after each validation.
    """

    def __init__(
        self,
        loop: TrainingLoop,
        task: Task,
        folder: RunFolder,
        card: Card,
        validation: SampleSet,
        progress: TrainingProgress,
        on_validation: OnValidation | None = None,
    ):
        self.on_validation = on_validation
        self.loop, self.task, self.folder, self.card = loop, task, folder, card
        self.validation, self.progress = validation, progress
        self.config: TaskConfig = task.config
        self.fabric: Fabric = loop.fabric
        self.best = BestTracker()
        address = self.config.train.mirror
        self.mirror = RunMirror(folder, address) if address and self.fabric.is_global_zero else None
        self.evaluation: Evaluation | None = None
        self._full_model: Model | None = None
        self._start = self._epoch_start = time.monotonic()
        self._longest_epoch = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether early stopping ends the run."""
        patience = self.config.train.early_stopping_patience
        return bool(patience) and self.best.stale >= patience

    def __call__(self, row: dict[str, float]) -> bool:
        """Ends an epoch; returns whether to stop.

        Args:
            row: The numbers of the epoch.
        """
        loop, train = self.loop, self.config.train
        epoch = loop.counters.epochs
        row = {**row, "memory_mb": measure_peak_megabytes(self.fabric.device)}
        model = self._get_full_model()
        is_validated = epoch % train.validate_every == 0 or epoch == train.epochs
        is_best = is_stopped = False
        if is_validated:
            row |= self._validate(model)
            is_best = self._update_best(row, epoch - 1)
            if self.on_validation is not None:
                is_stopped = self.on_validation(epoch, row[self.task.monitor[0]])
        if self.fabric.is_global_zero:
            self._write_weights(model, is_best, is_validated)
            self.folder.add_row(row)
        self.fabric.log_dict({name: value for name, value in row.items() if math.isfinite(value)}, step=epoch)
        self._report(row, epoch - 1, is_validated)
        self.save()
        if self.mirror is not None:
            self.mirror.copy()
        return is_stopped or self.is_stale or self._is_out_of_time()

    def save(self) -> None:
        """Writes the checkpoint."""
        save_checkpoint(self.fabric, self.folder, {**self.loop.get_state(), "best": asdict(self.best)})

    def load(self) -> None:
        """Restores the checkpoint."""
        state = {**self.loop.get_state(), "best": asdict(self.best)}
        load_checkpoint(self.fabric, self.folder, state)
        self.loop.load_state(state)
        self.best = BestTracker(**state["best"])

    def _get_full_model(self) -> Model:
        """The evaluated model with all of its weights, the same on all processes."""
        loop = self.loop
        if self.config.train.strategy == "fsdp" and self.fabric.world_size > 1:
            if self._full_model is None:
                self._full_model = type(self.task)(self.config.replace(backbone__pretrained=False)).build_model()
                self._full_model.to(self.fabric.device).requires_grad_(False)
            options = StateDictOptions(full_state_dict=True)
            state = get_model_state_dict(loop.fabric_module, options=options)
            prefix = "model."
            names = {name[name.index(prefix) + len(prefix) :]: name for name in state if prefix in name}
            self._full_model.load_state_dict({name: state[full_name] for name, full_name in names.items()})
            return self._full_model
        model = loop.evaluated_model
        if self.fabric.world_size > 1:  # each process has batch norm statistics of its own
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)
        return model

    def _validate(self, model: Model) -> dict[str, float]:
        train = self.config.train
        options = self.task.evaluation_options().replace(device=str(self.fabric.device), batch=train.batch)
        predictor = TorchPredictor(self.task, model, self.card)
        # Images of many sizes would be compiled one by one.
        context = torch.compiler.set_stance("force_eager") if train.compile else contextlib.nullcontext()
        with context:
            self.evaluation = evaluate(
                predictor,
                self.validation,
                options,
                self.config.data.workers,
                losses=True,
                progress=self.progress.bar,
                examples=EXAMPLES,
            )
        losses = {f"val/{name}": value for name, value in self.evaluation.losses.items()}
        return {"val/loss": sum(losses.values()), **losses, **self.evaluation.report.metrics}

    def _update_best(self, row: dict[str, float], epoch: int) -> bool:
        name, direction = self.task.monitor
        value = row[name]
        if math.isnan(value):
            log.warning("%s is undefined on the validation split: the last weights count as the best", name)
            return True
        self.loop.schedule.update_plateau(value)
        return self.best.update(value if direction == "max" else -value, epoch)

    def _write_weights(self, model: Model, is_best: bool, is_validated: bool) -> None:
        evaluation = self.evaluation
        report = evaluation.report if evaluation is not None else None
        metrics = {} if report is None else {"metrics": report.metrics, "protocol": report.protocol}
        predictor = TorchPredictor(self.task, model, self.card.replace(metrics=metrics))
        if is_best or not self.folder.best.exists():
            predictor.save(self.folder.best)
            if evaluation is not None:
                evaluation.metric.draw_plots(self.folder.plots)
                draw_predictions(self.folder.plots / "predictions.jpg", evaluation.shown)
        predictor.save(self.folder.last)
        if is_validated and evaluation is not None:
            draw_predictions(self.folder.plots / "predictions_last.jpg", evaluation.shown)

    def _report(self, row: dict[str, float], epoch: int, is_validated: bool) -> None:
        if not self.fabric.is_global_zero:
            return
        name, direction = self.task.monitor
        metric = (name, row[name]) if is_validated else None
        best = (self.best.value if direction == "max" else -self.best.value, self.best.epoch)
        self.progress.report_epoch(epoch, row["train/loss"], metric, best if self.best.epoch >= 0 else None)
        if self.is_stale:
            self.progress.print(f"stopped early: no improvement in {self.best.stale} validations")

    def _is_out_of_time(self) -> bool:
        """Whether another epoch would exceed `train.max_time`; the same on all processes."""
        now = time.monotonic()
        self._longest_epoch = max(self._longest_epoch, now - self._epoch_start)
        self._epoch_start = now
        max_hours, train = self.config.train.max_time, self.config.train
        if max_hours is None or self.loop.counters.epochs >= train.epochs:
            return False
        is_over: bool = self.fabric.broadcast(now - self._start + self._longest_epoch > 3600 * max_hours)
        if is_over and self.fabric.is_global_zero:
            elapsed = format_duration(now - self._start)
            self.progress.print(f"stopped after {elapsed} because of train.max_time; continue with --resume")
        return is_over
