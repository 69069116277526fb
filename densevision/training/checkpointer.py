"""At the end of each epoch: validate, write the row, keep the weights, save what resume needs."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback, Trainer

from densevision.evaluation.evaluate import evaluate
from densevision.evaluation.report import Report
from densevision.inference.memory import peak_megabytes
from densevision.inference.predictor import TorchModel
from densevision.inference.processes import rank_and_world
from densevision.inference.progress import Progress
from densevision.io.atomic_write import whole
from densevision.io.weights import Card
from densevision.results import Result
from densevision.run_config import TaskConfig
from densevision.run_folder import RunFolder
from densevision.sample import Sample, SampleSet
from densevision.tasks.base import Metric
from densevision.training.module import Module
from densevision.training.preview import EXAMPLES, draw_answers

log = logging.getLogger("densevision")


class ValidationCallback(Callback):
    """Keeps a run: its numbers, its best and last weights, and its checkpoint.

    The order in which the files are written lets a kill at any moment be resumed: the checkpoint comes last.
    """

    def __init__(self, folder: RunFolder, config: TaskConfig, card: Card, validation: SampleSet, progress: Progress):
        self.folder, self.config, self.card = folder, config, card
        self.validation, self.progress = validation, progress
        self.best = -math.inf
        self.stale = 0
        self.started = time.monotonic()
        self.report: Report | None = None
        self.metric: Metric | None = None
        self.shown: list[tuple[Sample, Result]] = []

    def state_dict(self) -> dict[str, Any]:
        """What resume needs to know of the best validation."""
        return {"best": self.best, "stale": self.stale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.best, self.stale = state["best"], state["stale"]

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Ends a resumed run at once that had stopped early."""
        trainer.should_stop = self._is_stale()

    def _is_stale(self) -> bool:
        most = self.config.train.early_stopping_patience
        return bool(most) and self.stale >= most

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """Starts the epoch's clock."""
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Validates when it is time to, then writes everything."""
        seconds = time.monotonic() - self.started
        world = rank_and_world()[1]
        row: dict[str, float] = {
            "epoch": trainer.current_epoch,
            "seconds": seconds,
            "images_per_second": module.images * world / max(seconds, 1e-9),
            "memory_mb": peak_megabytes(module.device),
            **module.epoch_summary(),
        }
        epoch = trainer.current_epoch + 1
        improved = False
        if epoch % self.config.train.validate_every == 0 or epoch == self.config.train.epochs:
            row |= self._validate(module)
            improved = self._judge(module, row)
        if trainer.is_global_zero:
            self._write_weights(module, improved)
            self.folder.add_row(row)
        for logger in trainer.loggers:
            logger.log_metrics({name: value for name, value in row.items() if math.isfinite(value)}, step=epoch)
        if self._is_stale():
            trainer.should_stop = True
        self._save_checkpoint(trainer)

    def _save_checkpoint(self, trainer: Trainer) -> None:
        """All processes take part in gathering the state; only the first writes the file."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.folder.checkpoint, weights_only=False)
            return
        with whole(self.folder.checkpoint) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)

    def _validate(self, module: Module) -> dict[str, float]:
        train = self.config.train
        options = module.task.evaluation_options().changed(device=module.device.type, batch=train.batch)
        model = TorchModel(module.task, module.best_net, self.card)
        evaluation = evaluate(
            model,
            self.validation,
            options,
            self.config.data.workers,
            losses=True,
            progress=self.progress,
            examples=EXAMPLES,
        )
        self.report, self.metric, self.shown = evaluation.report, evaluation.metric, evaluation.shown
        losses = {f"val/{name}": value for name, value in evaluation.losses.items()}
        return {"val/loss": sum(losses.values()), **losses, **self.report.metrics}

    def _judge(self, module: Module, row: dict[str, float]) -> bool:
        name, direction = module.task.monitor
        value = row[name]
        if math.isnan(value):
            log.warning("%s is undefined on the validation split: the last weights count as the best", name)
            return True
        module.schedule.validated(value)
        signed = value if direction == "max" else -value
        improved = signed > self.best
        self.best, self.stale = (signed, 0) if improved else (self.best, self.stale + 1)
        return improved

    def _write_weights(self, module: Module, improved: bool) -> None:
        metrics = {} if self.report is None else {"metrics": self.report.metrics, "protocol": self.report.protocol}
        card = self.card.changed(metrics=metrics)
        model = TorchModel(module.task, module.best_net, card)
        if improved or not self.folder.best.exists():
            model.save(self.folder.best)
            if self.metric is not None:
                self.metric.plots(self.folder.plots)
                draw_answers(self.folder.plots / "answers.jpg", self.shown)
        model.save(self.folder.last)
        if self.shown:  # only after a validation
            draw_answers(self.folder.plots / "answers_last.jpg", self.shown)
            self.shown = []
