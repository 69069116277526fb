"""Training: a config in, a run folder out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from lightning.fabric import Fabric

from densevision.errors import DenseVisionError, UsageError
from densevision.inference.allocator import keep_all_freed_memory
from densevision.inference.device import pick_device, pick_precision
from densevision.inference.joint_files import load_matching_parts
from densevision.inference.loader import make_training_loader
from densevision.inference.predictor import load_matching_weights
from densevision.inference.processes import (
    RUN_VARIABLE,
    connect_processes,
    find_run_to_join,
    get_launch_rank,
    get_launch_world_size,
    is_restarted,
)
from densevision.inference.progress import hide_progress, show_progress
from densevision.inference.seed import seed_everything
from densevision.io.progress import progress_context
from densevision.io.remote import has_scheme
from densevision.io.weights import Card
from densevision.nn.joint_model import JointModel
from densevision.nn.model import Model
from densevision.run_config import TaskConfig
from densevision.run_folder import RunFolder, collect_versions
from densevision.sample import SampleSet
from densevision.tasks import TASKS, load_config, load_task
from densevision.tasks.base import Task
from densevision.training.autoscale import autoscale_defaults, count_cores
from densevision.training.batch_size import find_batch_size
from densevision.training.checkpoint import check_checkpoint
from densevision.training.loggers import build_loggers, check_loggers
from densevision.training.loop import TrainingLoop
from densevision.training.mirror import fetch_run
from densevision.training.preview import draw_batches, draw_curves
from densevision.training.progress import TrainingProgress
from densevision.training.starting_weights import choose_starting_weights
from densevision.training.unfolding import unfold_model_norms
from densevision.training.validation import EpochEnd, OnValidation
from densevision.yaml_files import read_yaml

__all__ = ["Interrupted", "make_card", "resume", "train"]

log = logging.getLogger("densevision")

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
"""Precision -> its name in Fabric."""


class Interrupted(DenseVisionError):
    """A run that was interrupted by a signal, and can be resumed."""

    exit_code = 130


def train(
    config: TaskConfig,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    on_validation: OnValidation | None = None,
) -> RunFolder:
    """Trains from a config into a new run folder.

    Args:
        config: All options of the run.
        out: The folder; numbered under runs/<task>/ by default.
        quiet: Print no progress.
        on_validation: Called with epoch, from 1, and monitored value; stops the run where it returns True.

    Raises:
        UsageError: The config names no dataset, or the folder already holds a run.
    """
    if config.dataset is None:
        raise UsageError("no dataset to train on", field="data.path", hint="Pass --data FOLDER, or --data scenes.")
    run_to_join = find_run_to_join()
    if run_to_join is not None:
        return resume(run_to_join, quiet)
    if get_launch_world_size() > 1:
        if out is None:
            hint = "Give --out, a folder that all machines share."
            raise UsageError("several processes need one folder", field="out", value=None, hint=hint)
        if is_restarted() and RunFolder(Path(out)).config.exists():
            return resume(out, quiet, config.task, on_validation)
    check_loggers(config.train.loggers)
    if config.train.mirror is not None and not has_scheme(config.train.mirror):
        hint = "Write an address, such as s3://bucket/run; file:///folder is one, too."
        raise UsageError("is not an address", field="train.mirror", value=config.train.mirror, hint=hint)
    folder = RunFolder.create(out, config.task)
    task_class = load_task(config.task)
    seed_everything(config.train.seed)
    given = config.list_given()
    config = task_class.infer_from_data(config)
    with progress_context(hide_progress if quiet else show_progress):
        samples = task_class(config).open_dataset("train")
    report = TrainingProgress(config.train.epochs, quiet).print
    config, changes = autoscale_defaults(config, given, len(samples))
    if changes:
        values = ", ".join(f"{name}={value}" for name, value in changes.items())
        report(f"defaults for {len(samples)} samples and {count_cores()} cores: {values}")
    if config.train.batch == "auto":
        batch_size = find_batch_size(task_class(config), samples, pick_device(config.train.device))
        report(f"train.batch=auto: using {batch_size}")
        config = config.replace(train__batch=batch_size)
    config = choose_starting_weights(task_class(config), config, given, report)
    folder.write_config(config)
    os.environ[RUN_VARIABLE] = str(folder.path.resolve())
    return _fit(folder, task_class(config), quiet, samples, on_validation)


def resume(
    path: str | os.PathLike[str],
    quiet: bool = False,
    task: str | None = None,
    on_validation: OnValidation | None = None,
) -> RunFolder:
    """Continues a run from its last finished epoch; the weights equal those of an uninterrupted run.

    Args:
        path: Folder of the run, or the address of its copy in remote storage (`train.mirror`).
        quiet: Print no progress.
        task: Refuse runs of any other task.
        on_validation: As for `train`.

    Raises:
        DataError: The folder holds no run, or its checkpoint is damaged.
        UsageError: The run is of another task, or its config describes another model than its checkpoint.
    """
    folder = RunFolder.open(fetch_run(os.fspath(path)) if has_scheme(os.fspath(path)) else path)
    task_name = str(read_yaml(folder.config).get("task"))
    if task_name not in TASKS or task not in (None, task_name):
        problem, hint = (
            f"is not the config of a run of {task or 'any task'}",
            "Pass the folder that was given to --out.",
        )
        raise UsageError(problem, file=folder.config, field="task", value=task_name, hint=hint)
    config = load_config(task_name).resolve(folder.config)
    if not folder.checkpoint.exists():
        TrainingProgress(0, quiet).print("the run has finished no epoch: starting from the beginning")
    return _fit(folder, load_task(task_name)(config), quiet, on_validation=on_validation)


def make_card(config: TaskConfig, images: int) -> Card:
    """Makes the card of weights that are trained with a config.

    Args:
        config: All options of the run.
        images: Samples in the training split.
    """
    return Card(
        task=config.task,
        config=config.to_dict(),
        classes=getattr(config, "classes", None),
        data={"path": config.dataset, "train": config.data.train, "images": images},
        license="as the training data and the pretrained weights allow",
        versions=collect_versions(),
    )


def _fit(
    folder: RunFolder,
    task: Task,
    quiet: bool,
    training: SampleSet | None = None,
    on_validation: OnValidation | None = None,
) -> RunFolder:
    config = task.config
    is_resumed = folder.checkpoint.exists()
    if get_launch_rank() > 0:
        quiet = True
    fabric = _build_fabric(task, folder)
    is_on_cpu = fabric.device.type == "cpu"
    with _convert_interrupts(folder), keep_all_freed_memory() if is_on_cpu else nullcontext():
        fabric.launch()
        with progress_context(hide_progress if quiet else show_progress):
            training = task.open_dataset("train") if training is None else training
            validation = task.open_dataset("val")
        for note in dict.fromkeys((*training.notes, *validation.notes)) if fabric.is_global_zero else ():
            log.warning("%s", note)
        loader = make_training_loader(task, training, config.data.workers, fabric.global_rank, fabric.world_size)
        if fabric.is_global_zero and not is_resumed:
            draw_batches(folder.batches, task, loader)
        seed_everything(config.train.seed)
        model = _build_model(task, is_resumed)
        if not is_resumed:
            unfold_model_norms(task, model, training, fabric.device)
        loop = TrainingLoop(fabric, task, model, config.train, len(loader), task.monitor[1] == "max")
        progress = TrainingProgress(config.train.epochs, quiet)
        card = make_card(config, len(training))
        end_epoch = EpochEnd(loop, task, folder, card, validation, progress, on_validation)
        if is_resumed:
            check_checkpoint(folder, loop.module, len(training))
            end_epoch.load()
        if not end_epoch.is_stale:
            loop.run(loader, end_epoch, progress)
    if fabric.is_global_zero:
        draw_curves(folder)
        if end_epoch.evaluation is not None:
            end_epoch.evaluation.report.write(folder.report)
    if end_epoch.mirror is not None and not end_epoch.mirror.copy():
        problem = "the run is complete in its folder, and its copy is not"
        raise DenseVisionError(problem, file=config.train.mirror, hint=f"Copy {folder.path} there.")
    return folder


def _build_model(task: Task, is_resumed: bool) -> Model:
    """Builds the model with its first weights; all weights of a resumed run come from its checkpoint."""
    if is_resumed:
        return type(task)(task.config.replace(backbone__pretrained=False)).build_model()
    model = task.build_model()
    weights = task.config.train.init_from
    if weights is not None:
        if isinstance(model, JointModel):
            skipped = load_matching_parts(model, task, weights)
        else:
            skipped = load_matching_weights(model, weights, task.name, getattr(task.config, "classes", None))
        if skipped:
            log.warning("%d tensors are not loaded from %s: %s", len(skipped), weights, ", ".join(skipped[:5]))
    return model


def _build_fabric(task: Task, folder: RunFolder) -> Fabric:
    train = task.config.train
    _silence_lightning()
    device = pick_device(train.device)
    strategy = train.strategy
    has_several_optimizers = len(task.optimizer_names) > 1
    if strategy == "fsdp" and has_several_optimizers:
        problem = "does not support adversarial training"
        raise UsageError(problem, field="train.strategy", value=strategy, hint="Use train.strategy=ddp.")
    strategy_name = strategy if train.devices * train.nodes > 1 or strategy == "fsdp" else "auto"
    if strategy_name in ("auto", "ddp") and train.devices * train.nodes > 1:
        # Heads of a joint model without labels in a batch are not used.
        has_unused_parameters = has_several_optimizers or len(task.parts) > 1
        strategy_name = "ddp_find_unused_parameters_true" if has_unused_parameters else "ddp"
    if is_restarted():  # Fabric uses a connection that it finds
        connect_processes("nccl" if device.type == "cuda" else "gloo")
    return Fabric(
        accelerator=device.type,
        devices=[device.index] if device.index is not None and train.devices == 1 else train.devices,
        num_nodes=train.nodes,
        strategy=strategy_name,
        precision=PRECISIONS[pick_precision(train.precision, device)],  # type: ignore[arg-type]
        loggers=build_loggers(train.loggers, folder.path),
    )


@contextmanager
def _convert_interrupts(folder: RunFolder) -> Iterator[None]:
    """Turns Ctrl-C and SIGTERM into an error that says how to continue the run."""
    try:
        yield
    except KeyboardInterrupt:
        raise _make_interrupted(folder, 130) from None
    except SystemExit as error:  # raised by the command line on SIGTERM
        if error.code != 143:
            raise
        raise _make_interrupted(folder, 143) from None


def _make_interrupted(folder: RunFolder, exit_code: int) -> Interrupted:
    task = read_yaml(folder.config).get("task")
    epochs = len(folder.read_rows())
    hint = f"Continue with: densevision {task} train --resume {folder.path}"
    problem = f"interrupted after {epochs} finished epoch{'s' * (epochs != 1)}"
    error = Interrupted(problem, file=folder.path, hint=hint)
    error.exit_code = exit_code
    return error


def _silence_lightning() -> None:
    """Hides Lightning's tips and hardware lists, and its warnings about data loaders, which do not apply."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    torch.set_float32_matmul_precision("high")
