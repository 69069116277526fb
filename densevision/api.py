"""What the command line can do, in Python, with the same words and defaults."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.datasets.checks.report import CheckReport, examine
from densevision.errors import UsageError, WeightsError
from densevision.evaluation.report import Report
from densevision.evaluation.result import EvaluationResult
from densevision.inference.predictor import Model, TorchModel, load_torch, without_weights
from densevision.io.weights import Card
from densevision.metrics.scoring import OnError
from densevision.published_weights import announcement, built_in, opener, resolve
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import SampleSet
from densevision.tasks import known, load_check, load_config, load_task
from densevision.yaml_files import read_yaml

PathLike = str | os.PathLike[str]

UNSEEN = ("loss.", "degrade.", "quality.", "evaluation.", "assign.")
"""Sections of configs that bear on training and judging, and on no answer."""

_loaded: dict[tuple[str, float], Model] = {}


def load(weights: PathLike | None = None, task: str | None = None, set: Mapping[str, Any] | None = None) -> Model:
    """Loads weights, an exported model, or a name, into something that predicts.

    Args:
        weights: A `.safetensors`, `.onnx`, `.xml` (OpenVINO) or `.pt2` (torch.export) file, or a name that
            `densevision models` lists. The starter weights of the task when not given.
        task: Refuse weights of any other task.
        set: Dotted names to values of the weights' own config, such as `{"scale": 3}` for a network that has any scale.

    Raises:
        WeightsError: There is no such file or name, or it is truncated, foreign, newer, or of another task; or it does
            not fit what is set.
    """
    model = _opened(weights, task)
    if set:
        model.configure(set)
    return model


def _opened(weights: PathLike | None, task: str | None) -> Model:
    found = built_in(weights, task)
    if found is not None:
        return without_weights(*found)
    path = resolve(weights, task)
    model = _read(path, task)
    model.file = path
    if weights is None and logging.getLogger("densevision").level <= logging.INFO:  # --quiet leaves warnings alone
        print(announcement(model.card), file=sys.stderr)
    return model


def _read(path: Path, task: str | None) -> Model:
    open_file = opener(path, task)
    if open_file is not None and task is not None:
        config, net = open_file(path)
        card = Card(task=task, config=config.plain(), source=str(path), license="as its publisher says")
        return TorchModel(load_task(task)(config), net.eval(), card)
    if path.suffix in (".onnx", ".xml", ".pt2"):
        from densevision.export.exported_predictor import load_exported

        return load_exported(path, task)
    return load_torch(path, task)


def predict(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    stream: bool = False,
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Answers an image, or many.

    One image gives one record; a list, folder or glob a list; a video or `stream=True` an iterator whose memory
    does not grow. Tasks that look at two images take a pair or a sequence.

    Args:
        source: Path, glob, folder, video; array (RGB, HWC, uint8, uint16, float in [0, 1]), PIL image, tensor (CHW);
            or a list of them.
        task: A name in `TASKS`; needed when no weights are given.
        weights: A file, a name, or a model from `load`; the starter weights when not given.
        stream: Give an iterator.
        set: Dotted names to values of the weights' own config.
        **options: Fields of `densevision.run_config.PredictOptions`.

    Raises:
        UsageError: An unknown option, or one that has no effect on this task or on answers.
        DataError: The source cannot be read.
        WeightsError: The weights cannot be used.

    Example:
        >>> import densevision
        >>> densevision.predict("street.jpg", task="detection").save("street.png")  # doctest: +SKIP
    """
    if isinstance(weights, Model) or set or built_in(weights, task):
        model = _answering(_copy_of(weights, task), set or {})
    else:
        model = _load_once(weights, task)
    return model.predict(source, stream=stream, **options)


def train(
    task: str | None = None,
    data: str | None = None,
    config: PathLike | None = None,
    set: Mapping[str, Any] | None = None,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    quiet: bool = True,
) -> Path:
    """Trains, or continues a run; returns the run folder.

    Args:
        task: A name in `TASKS`; the config, or the run that is resumed, may name it instead.
        data: A dataset, or `scenes[:COUNT[:SEED]]`.
        config: A YAML file.
        set: Dotted names to values, e.g. `{"train.epochs": 3}`; they win over the file.
        out: Run folder; runs/<task>/<number> when not given.
        resume: Folder of a run to continue; all else comes from that run.
        quiet: No bars.
    """
    from densevision.training import train as engine

    if resume is not None:
        if data or config or set or out:
            raise UsageError(
                "a resumed run keeps its own config", field="resume", hint="Leave out data, config, set, out."
            )
        return engine.resume(resume, quiet, task).path
    return engine.train(resolved_config(task, data, config, set), out, quiet).path


def evaluate(
    weights: Any = None,
    data: str | None = None,
    task: str | None = None,
    set: Mapping[str, Any] | None = None,
    split: str = "val",
    out: PathLike | None = None,
    quiet: bool = True,
    report: PathLike | None = None,
    **options: Any,
) -> Report:
    """Judges weights on a dataset by the path that `predict` runs.

    Args:
        weights: A file, a name, or a model from `load`; the starter weights when not given.
        data: A dataset; the one that the weights were trained on when not given.
        task: Refuse weights of any other task.
        set: Dotted names to values of the weights' own config, e.g. `{"data.val": "test.json"}`.
        split: "train" or "val".
        out: Folder for report.json and plots.
        quiet: No bars.
        report: Folder for a page to look at: numbers with intervals, plots, tables, best and worst images.
        **options: Fields of `PredictOptions`.
    """
    evaluation_result = judge(weights, data, task, set, split, quiet, **options)
    if out is not None:
        evaluation_result.report.write(Path(out) / "report.json")
        evaluation_result.metric.plots(Path(out) / "plots")
    if report is not None:
        from densevision.evaluation.report_page import command_line, write_report

        named = weights if isinstance(weights, (str, os.PathLike)) else None
        settings = [f"{name}={value}" for name, value in (set or {}).items()]
        told = {"weights": named, "data": data, "split": split, "set": settings, **options, "report": report}
        write_report(evaluation_result, Path(report), command_line(evaluation_result.report.task, "evaluate", told))
    return evaluation_result.report


def judge(
    weights: Any = None,
    data: str | None = None,
    task: str | None = None,
    set: Mapping[str, Any] | None = None,
    split: str = "val",
    quiet: bool = True,
    **options: Any,
) -> EvaluationResult:
    """Judges weights as `evaluate` does, and keeps what is needed to look at single images; takes the same words."""
    from densevision.evaluation.evaluate import evaluate_model
    from densevision.inference.progress import bar, silent
    from densevision.io.progress import progress_context

    progress = silent if quiet else bar
    with progress_context(progress):
        model, samples, chosen = open_for_evaluation(weights, data, task, set, split, **options)
    return evaluate_model(model, samples, chosen, model.task.config.data.workers, progress)


def open_for_evaluation(
    weights: Any = None,
    data: str | None = None,
    task: str | None = None,
    set: Mapping[str, Any] | None = None,
    split: str = "val",
    **options: Any,
) -> tuple[Model, SampleSet, PredictOptions]:
    """The model, the samples and the options that `evaluate` would use; takes the same words."""
    from densevision.inference.predict import checked_options

    model = _copy_of(weights, task)
    # The names of splits belong to the data that the weights were trained on.
    elsewhere = {"data.path": data, "data.train": None, "data.val": None} if data else {}
    model.configure({**elsewhere, **(set or {})})
    if model.task.config.data.path is None:
        raise UsageError("no data to evaluate on", field="data", hint="Give --data FOLDER, or --data scenes.")
    model.options = model.task.evaluation_options()
    chosen = checked_options(model, options)
    return model, model.task.dataset(split), chosen


def score(
    task: str,
    truth: PathLike,
    predictions: PathLike,
    on_error: OnError = "fail",
    report: PathLike | None = None,
    images: PathLike | None = None,
    set: Mapping[str, Any] | None = None,
) -> Report:
    """Judges prediction files of any tool against truth files, without a model.

    Args:
        task: A name in `TASKS`.
        truth: For boxes, masks and keypoints a COCO json; otherwise a folder of files, or one file.
        predictions: A COCO result json; otherwise a folder of files of the same names but for the suffixes, or one
            file. Images without prediction are not judged, but counted and named.
        on_error: "fail" stops at files that cannot be read or compared, "skip" counts and names them.
        report: Folder for a page to look at: numbers with intervals, plots, tables, best and worst images.
        images: With `report`: folder of the images, to be drawn on; found by the names of the truth.
        set: Dotted names of the task's config to values, where they bear on files: depth supports `evaluation` and
            `data.scale`, semantic `classes` and `data.unknown`.

    Raises:
        DataError: Something cannot be read or compared.
        UsageError: An option has no effect.
    """
    from densevision.evaluation.score import score as score_files

    return score_files(known(task), truth, predictions, on_error, report, images, set)


def check(
    task: str,
    data: PathLike,
    set: Mapping[str, Any] | None = None,
    fix: PathLike | None = None,
    quiet: bool = True,
) -> CheckReport:
    """Looks for faults in a dataset: in files, labels, and what they say of each other.

    Args:
        task: A name in `TASKS`.
        data: A dataset, as `train` takes it.
        set: Dotted names to values of the task's config, e.g. `{"data.val": "test"}`.
        fix: Write a cleaned copy into this new folder; the dataset itself is never changed.
        quiet: No bars.

    Raises:
        DataError: The dataset is not recognized, or so broken that nothing in it can be read.
    """
    from densevision.inference.progress import bar, silent

    config = resolved_config(task, os.fspath(data), None, set)
    return examine(task, config, load_check(task).check, fix, silent if quiet else bar)


def export(
    weights: Any,
    out: PathLike | None = None,
    task: str | None = None,
    format: str = "onnx",
    set: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Writes a model that other runtimes can run, and verifies that it answers alike.

    Args:
        weights: A file, a name, or a model from `load`.
        out: The file to write; beside the weights when not given, or in the working folder when they came by name.
        task: Refuse weights of any other task.
        format: "onnx", "openvino" or "torch".
        set: Dotted names to values of the weights' own config, such as `{"scale": 3}`; the file holds them for good.
        **options: See `densevision.export.export.export`.
    """
    from densevision.export.export import SUFFIXES
    from densevision.export.export import export as write

    model = _copy_of(weights, task)
    model.configure(set or {})
    if out is None and isinstance(weights, (str, os.PathLike)) and Path(weights).is_file() and format in SUFFIXES:
        out = Path(weights).with_suffix(SUFFIXES[format])
    return write(model, out, format, **options)


def resolved_config(
    task: str | None, data: str | None, config: PathLike | None, set: Mapping[str, Any] | None
) -> TaskConfig:
    """The config of a run from what a person gave: default < YAML < settings < data."""
    settings = dict(set or {})
    if data is not None:
        settings["data.path"] = data
    named = read_yaml(config).get("task") if config is not None else None
    task = task or named
    if task is None:
        raise UsageError("which task?", hint="Give task=, or a config that names it.")
    if named is not None and named != task:
        raise UsageError(f"is a config for {named}, not for {task}", file=config, field="task")
    return load_config(known(task)).resolve(None if config is None else Path(config), settings)


def _copy_of(weights: Any, task: str | None) -> Model:
    """A model that can be configured: of a file or a name, or one beside the given one, which stays as it is."""
    if not isinstance(weights, Model):
        return load(weights, task)
    _check_task(weights, task, weights.file)
    return copy.copy(weights)


def _answering(model: Model, settings: Mapping[str, Any]) -> Model:
    """The model with these options.

    Raises:
        UsageError: One of them bears on no answer: those of losses, and those of data that leave the canvas as it is.
    """
    config, canvas = model.task.config, model.task.inputs
    model.configure(settings)
    void = (*UNSEEN, "data.") if model.task.inputs == canvas and model.task.config != config else UNSEEN
    for name, value in settings.items():
        if name.startswith(void):
            problem, hint = f"has no effect on answers of {model.task.name}", "Leave it out."
            raise UsageError(problem, field=name, value=value, hint=hint)
    return model


def _check_task(model: Model, task: str | None, file: Path | None) -> None:
    if task is not None and model.task.name != known(task):
        raise WeightsError(f"these weights are for {model.task.name}, not for {task}", file=file, field="task")


def _load_once(weights: Any, task: str | None) -> Model:
    """Loads each file once per process, so that a loop over `predict` costs only predictions."""
    path = resolve(weights, task)
    key = (str(path.resolve()), path.stat().st_mtime)
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load(weights, task)
    _check_task(_loaded[key], task, path)
    return _loaded[key]
