"""What the checks of a task work with: the task, its model, its batches, and its commands."""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.inference.seed import seed_everything
from densevision.nn.model import Model, Tensors
from densevision.run_config import TaskConfig
from densevision.sample import Batch, Sample
from densevision.tasks.base import Task
from densevision.training.train import make_card

__all__ = ["TaskBench", "assert_exit_code"]


class TaskBench:
    """A task with its model and batches of its samples."""

    def __init__(self, task_class: type[Task], config: TaskConfig, files: tuple[Any, Any] | None = None):
        self.task_class, self.files = task_class, files
        self.config = task_class.infer_from_data(config)
        self.task = task_class(self.config)
        self.samples = self.task.open_dataset("train")

    def make_batch(self, count: int = 2) -> Batch:
        """Makes a batch of augmented training samples."""
        indices = range(count)
        return Collate(self.task)(
            [self.task.augment(self.samples, i % len(self.samples), np.random.default_rng(i), 0) for i in indices]
        )

    def build_model(self) -> Model:
        """Builds the model with the same initial weights each time."""
        seed_everything(self.config.train.seed)
        return self.task.build_model()

    def build_predictor(self) -> TorchPredictor:
        """Builds a predictor of that model."""
        return TorchPredictor(self.task, self.build_model().eval(), make_card(self.config, len(self.samples)))

    def compute_losses(self, model: Model, batch: Batch, modules: nn.Module | None, name: str = "net") -> Tensors:
        """Computes the losses of one optimizer."""
        return self.task.compute_losses(model, batch, modules, name)

    def make_noise(self, size: tuple[int, int]) -> Sample:
        """Makes a sample of noise images of a (height, width)."""
        rng = np.random.default_rng(0)
        images = {
            name: rng.integers(0, 256, (*size, spec.channels), np.uint8)
            for name, spec in self.task.input_spec.items()
            if spec.kind == "image"
        }
        return Sample(images)

    def import_sibling(self, name: str) -> ModuleType:
        """Imports a module of the task's package."""
        package = self.task_class.__module__.rpartition(".")[0]
        try:
            return import_module(f"{package}.{name}")
        except ImportError as error:
            raise AssertionError(f"{package}.{name} cannot be imported: {error}") from error


def assert_exit_code(code: int, command: list[str]) -> None:
    """Runs a command of densevision in this process and compares its exit code."""
    from densevision.cli.main import run

    output, found = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            run(command)
        except SystemExit as ending:
            found = int(ending.code or 0)
    assert found == code, f"{' '.join(command)} exits with {found}, not {code}: {output.getvalue()[-300:]}"
