"""Training: a config in, a run folder out."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.inference.device import pick_device, pick_precision
from densevision.inference.loader import training_loader
from densevision.inference.processes import RUN, launched_rank, run_to_join
from densevision.inference.progress import Progress, bar, silent
from densevision.inference.seed import seed_everything
from densevision.io.progress import progress_context
from densevision.io.weights import Card, load_card
from densevision.run_config import TaskConfig
from densevision.run_folder import RunFolder, versions
from densevision.sample import SampleSet
from densevision.tasks import TASKS, load_config, load_task
from densevision.tasks.base import Task
from densevision.training.autoscale import autoscale_defaults, cores
from densevision.training.batch_size import find_batch
from densevision.training.loggers import check_loggers, make_loggers
from densevision.training.preview import draw_batches, draw_curves
from densevision.yaml_files import read_yaml

log = logging.getLogger("densevision")


class Interrupted(DenseVisionError):
    """A run that was stopped from outside, and can be continued."""

    exit_code = 130


def train(config: TaskConfig, out: str | Path | None = None, quiet: bool = False) -> RunFolder:
    """Trains from a config into a fresh run folder.

    Args:
        config: The whole run.
        out: The folder; numbered under runs/<task>/ when not given.
        quiet: No bars.
    """
    if config.data.path is None:
        raise UsageError("no data to train on", field="data.path", hint="Give --data FOLDER, or --data scenes.")
    joined = run_to_join()
    if joined is not None:
        return resume(joined, quiet)
    check_loggers(config.train.loggers)
    folder = RunFolder.fresh(out, config.task)
    task_class = load_task(config.task)
    seed_everything(config.train.seed)
    given = config.given()
    config = task_class.infer_from_data(config)
    with progress_context(silent if quiet else bar):
        samples = task_class(config).dataset("train")
    config, changes = autoscale_defaults(config, given, len(samples))
    if changes:
        shown = ", ".join(f"{name}={value}" for name, value in changes.items())
        log.info("suited to %d samples and %d cores: %s", len(samples), cores(), shown)
    if config.train.batch == "auto":
        batch = find_batch(task_class(config), samples, pick_device(config.train.device))
        log.info("batch: auto takes %d", batch)
        config = config.changed(train__batch=batch)
    folder.start(config)
    os.environ[RUN] = str(folder.path.resolve())
    return _fit(folder, task_class(config), None, quiet, samples)


def resume(path: str | Path, quiet: bool = False, task: str | None = None) -> RunFolder:
    """Continues a run from its last whole epoch; the weights come out as if it had never stopped.

    Args:
        path: The run's folder.
        quiet: No bars.
        task: Refuse runs of any other task.

    Raises:
        DataError: There is no run in the folder, or its checkpoint is damaged.
        UsageError: The run is of another task, or its config was changed to that of another network.
    """
    folder = RunFolder.existing(path)
    task_name = str(read_yaml(folder.config).get("task"))
    if task_name not in TASKS or task not in (None, task_name):
        problem, hint = f"is not the config of a run of {task or 'any task'}", "Name the folder given to --out."
        raise UsageError(problem, file=folder.config, field="task", value=task_name, hint=hint)
    config = load_config(task_name).resolve(folder.config)
    checkpoint = folder.checkpoint if folder.checkpoint.exists() else None
    if checkpoint is None:
        log.info("no epoch was finished: starting anew")
    return _fit(folder, load_task(task_name)(config), checkpoint, quiet)


def _fit(
    folder: RunFolder, task: Task, checkpoint: Path | None, quiet: bool, training: SampleSet | None = None
) -> RunFolder:
    _silence_lightning()
    from lightning.pytorch import Trainer

    from densevision.training.checkpointer import ValidationCallback
    from densevision.training.module import Module

    config, train = task.config, task.config.train
    progress: Progress = silent if quiet else bar
    with progress_context(progress):
        training = task.dataset("train") if training is None else training
        validation = task.dataset("val")
    for note in dict.fromkeys((*training.notes, *validation.notes)):
        log.warning("%s", note)
    rank = launched_rank()
    world = train.devices * train.nodes
    validation = ValidationCallback(folder, config, card_of(config, len(training)), validation, progress)
    trainer = Trainer(**_trainer_options(config, folder, quiet), callbacks=[validation])
    loader = training_loader(task, training, config.data.workers, lambda: trainer.current_epoch, rank, world)
    if rank == 0 and checkpoint is None:
        draw_batches(folder.batches, task, loader)
    seed_everything(train.seed)
    module = Module(task, train, len(loader))
    if checkpoint is not None:
        _check_continues(folder, module, len(training))
    try:
        trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as ending:  # how Lightning ends after Ctrl-C, and the command line after SIGTERM
        raise _interrupted(folder, ending.code) from None
    if trainer.interrupted:
        raise _interrupted(folder)
    if trainer.is_global_zero:
        draw_curves(folder)
        if validation.report is not None:
            validation.report.write(folder.path / "report.json")
    return folder


def _check_continues(folder: RunFolder, module: torch.nn.Module, images: int) -> None:
    """Refuses a checkpoint that is damaged or of another network, and tells of data that have changed."""
    file = folder.checkpoint
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError):
        hint = f"Begin a new run from its weights: --set train.init_from={folder.last}"
        raise DataError("the checkpoint is damaged", file=file, hint=hint) from None
    shapes, own = ({name: tensor.shape for name, tensor in found.items()} for found in (saved, module.state_dict()))
    other = sorted(name for name in {*shapes, *own} if shapes.get(name) != own.get(name) and name.startswith("net."))
    if other:
        hint = "Give it back the options that the run began with."
        problem = "describes another network than the run's checkpoint"
        raise UsageError(problem, file=folder.config, value=other[0], hint=hint)
    before = load_card(folder.last).data.get("images") if folder.last.exists() else images
    if before != images:
        log.warning("the run began with %s training samples, and goes on with %d", before, images)


def card_of(config: TaskConfig, images: int) -> Card:
    """The card of weights that are trained under this config."""
    return Card(
        task=config.task,
        config=config.plain(),
        classes=getattr(config, "classes", None),
        data={"path": config.data.path, "train": config.data.train, "images": images},
        license="as the training data and the pretrained weights allow",
        versions=versions(),
    )


def _trainer_options(config: TaskConfig, folder: RunFolder, quiet: bool) -> dict[str, Any]:
    train = config.train
    device = pick_device(train.device)
    precision = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
    strategy = train.strategy
    if strategy == "auto" and train.devices * train.nodes > 1:
        strategy = "ddp_find_unused_parameters_true" if len(optimizer_names_of(config)) > 1 else "ddp"
    return {
        "accelerator": device.type,
        "devices": train.devices,
        "num_nodes": train.nodes,
        "strategy": strategy,
        "precision": precision[pick_precision(train.precision, device)],
        "max_epochs": train.epochs,
        "logger": make_loggers(train.loggers, folder.path) or False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "enable_progress_bar": not quiet,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }


def optimizer_names_of(config: TaskConfig) -> tuple[str, ...]:
    """The optimization phases of the config's task."""
    return load_task(config.task)(config).optimizer_names


def _interrupted(folder: RunFolder, code: Any = None) -> Interrupted:
    task = str(read_yaml(folder.config).get("task"))
    done = len(folder.rows())
    hint = f"Continue with: densevision {task} train --resume {folder.path}"
    failure = Interrupted(f"interrupted after {done} whole epoch{'s' * (done != 1)}", file=folder.path, hint=hint)
    if code == 143:
        failure.exit_code = 143
    return failure


def _silence_lightning() -> None:
    """Lightning's tips and hardware lists say nothing about the run; its warnings about loaders do not apply."""
    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    torch.set_float32_matmul_precision("high")
