"""What the command line can do, in Python, with the same words and defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from densevision.config import set_option
from densevision.datasets.checks.report import CheckReport, check_dataset
from densevision.errors import UsageError, did_you_mean
from densevision.evaluation.report import Report
from densevision.evaluation.result import EvaluationResult
from densevision.inference.card_config import list_ignored_settings
from densevision.inference.predictor import Predictor
from densevision.io.weights import Card, check_task, load_card
from densevision.loading import configure_predictor, copy_predictor, load, load_cached, use_engine
from densevision.metrics.scoring import OnError
from densevision.published_weights import (
    find_builtin_model,
    find_opener,
    resolve_weights,
)
from densevision.resolved_config import check_dataset_path, find_config, resolve_config, start_from_weights
from densevision.results import DepthMap, Detections, FlowField, Image, Instances, JointResult, Result, SemanticMap
from densevision.run_config import Distributor, Engine, PredictOptions
from densevision.sample import SampleSet
from densevision.sequence_options import SequenceOptions
from densevision.tasks import check_task_name, load_check
from densevision.yaml_files import read_yaml

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from densevision.bulk.run import BulkRun
    from densevision.inference.keywords import PredictKeywords
    from densevision.training.tune import TuneResult

__all__ = [
    "check",
    "evaluate",
    "evaluate_detailed",
    "export",
    "load",
    "open_for_evaluation",
    "predict",
    "read_card",
    "resolve_config",
    "score",
    "train",
    "tune",
]

PathLike = str | os.PathLike[str]
Overrides = Mapping[str, Any] | None
Split = Literal["train", "val"]

log = logging.getLogger(__name__)


@overload
def predict(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    *,
    engine: Distributor,
    out: PathLike,
    **options: Any,
) -> BulkRun: ...
@overload
def predict(
    source: Any, task: Literal["detection"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> Detections: ...
@overload
def predict(
    source: Any, task: Literal["semantic"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> SemanticMap: ...
@overload
def predict(
    source: Any, task: Literal["instance"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> Instances: ...
@overload
def predict(
    source: Any, task: Literal["depth"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> DepthMap: ...
@overload
def predict(
    source: Any, task: Literal["flow"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> FlowField: ...
@overload
def predict(
    source: Any, task: Literal["superres", "translation"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> Image: ...
@overload
def predict(
    source: Any, task: Literal["joint"], weights: Any = None, **options: Unpack[PredictKeywords]
) -> JointResult: ...
@overload
def predict(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    *,
    stream: Literal[True],
    **options: Unpack[PredictKeywords],
) -> Iterator[Result]: ...
@overload
def predict(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    *,
    stream: bool = False,
    **options: Unpack[PredictKeywords],
) -> Any: ...


def predict(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    *,
    stream: bool = False,
    overrides: Overrides = None,
    engine: Engine | Distributor | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch: int | None = None,
    tile: int | None = None,
    overlap: float | None = None,
    tta: str | tuple[str, ...] | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    max_detections: int | None = None,
    class_agnostic: bool | None = None,
    classes: str | tuple[str, ...] | None = None,
    probabilities: bool | None = None,
    iterations: int | None = None,
    warm_start: bool | None = None,
    forward_backward: bool | None = None,
    focal_length: float | None = None,
    max_pixels: int | None = None,
    on_error: Literal["fail", "skip"] | None = None,
    track: Literal["bytetrack", "sort", "ocsort", "botsort"] | None = None,
    track_options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    reconnect: int | None = None,
    max_frames: int | None = None,
    **unknown: Any,
) -> Any:
    """Runs inference on one image or many.

    One image gives one result (the overloads name its type for a single image); a list, folder or glob gives a list; a
    video, a stream or `stream=True` an iterator whose memory does not grow. Flow takes a pair or a sequence of images.

    Args:
        source: Path, glob, folder, video; array (RGB, HWC, uint8, uint16, float in [0, 1]), PIL image, tensor (CHW),
            encoded bytes; or a list of them. "webcam:0", or the address of a video or stream: http, https, rtsp, rtsps.
        task: A name in `TASKS`; needed when no weights are given.
        weights: A file, a name, or a predictor from `load`; the bundled demo weights by default.
        stream: Return an iterator.
        overrides: Dotted names to values of the weights' own config.
        engine: What computes the network: "torch" (the default), "onnxruntime" or "openvino"; see `load`. With "ray",
            images are distributed over a cluster, and `out` and further options are those of
            `densevision.bulk.predict_bulk`, which says what is returned.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "auto", "float32", "bfloat16" or "float16".
        batch: Images per forward pass.
        tile: Side in pixels of the tiles that a large image is cut into.
        overlap: Share of a tile that overlaps its neighbor.
        tta: Test-time augmentation: "flip", "scale", "rotate".
        score_threshold: Minimum score of an object.
        iou_threshold: Non-maximum suppression drops the weaker of two boxes of a class above this IoU.
        max_detections: Maximum number of objects per image.
        class_agnostic: Suppress across classes.
        classes: Names of the classes to keep.
        probabilities: Keep the probability of each class at each pixel.
        iterations: Refinement steps of iterative models.
        warm_start: Treat the images as one sequence, and start each from the previous result.
        forward_backward: Also compute the backward flow, and mark inconsistent pixels as occluded.
        focal_length: Focal length of the images in pixels: corrects metric depth for the camera.
        max_pixels: Largest image that is decoded.
        on_error: "fail" stops at an image that cannot be read; "skip" leaves it out with a warning.
        track: Tracker that gives the objects of a video, stream or folder of frames identities, in `track_ids`:
            "bytetrack", "sort", "ocsort" or "botsort"; needs the extra track.
        track_options: Options of the tracker, such as `{"lost_track_buffer": 60}`.
        timeout: Seconds to wait for a stream to open, and for its next frame, 10 by default; with `engine="ray"`, to
            read an image, 60 by default.
        reconnect: Attempts in a row to open a stream again whose connection was lost; none by default.
        max_frames: Stop after this many frames of a video or stream.

    Raises:
        UsageError: An unknown option, or one that the task does not support.
        DataError: The source cannot be read.
        WeightsError: The weights cannot be used.

    Example:
        >>> import densevision
        >>> densevision.predict("street.jpg", task="detection").save("street.png")  # doctest: +SKIP
    """
    arguments = dict(locals())
    names = (*PredictOptions.model_fields, *SequenceOptions.model_fields)
    options = {name: arguments[name] for name in names if name in arguments} | unknown
    options = {name: value for name, value in options.items() if value is not None}
    if engine == "ray":
        return _predict_bulk(source, task, weights, stream, overrides, options)
    if isinstance(weights, Predictor) or overrides or find_builtin_model(weights, task):
        predictor = use_engine(configure_predictor(copy_predictor(weights, task), overrides or {}), engine)
    else:
        predictor = load_cached(weights, task, engine)
    return predictor.predict(source, stream=stream, **options)


def _predict_bulk(
    source: Any, task: str | None, weights: Any, stream: bool, overrides: Overrides, options: dict[str, Any]
) -> BulkRun:
    from densevision.bulk.run import predict_bulk

    if stream:
        hint = "The predictions are in `out`; iterating over what is returned reads them."
        raise UsageError("has no effect with engine=ray", field="stream", value=True, hint=hint)
    if "out" not in options:
        raise UsageError("engine=ray needs a folder for the predictions", field="out", hint="Give out=FOLDER.")
    return predict_bulk(source, task, weights, overrides=overrides, **options)


def train(
    task: str | None = None,
    data: PathLike | None = None,
    *,
    config: PathLike | None = None,
    overrides: Overrides = None,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    quiet: bool = False,
) -> Path:
    """Trains a model, or resumes a run.

    Args:
        task: A name in `TASKS`; the config, or the run that is resumed, may name it instead.
        data: A dataset, or `scenes[:COUNT[:SEED]]`.
        config: A YAML file, or the name of a shipped one such as "detection/coco".
        overrides: Dotted names to values, e.g. `{"train.epochs": 3}`; they win over the file.
        out: Run folder; runs/<task>/<number> by default.
        resume: Folder of a run to continue; everything else comes from that run.
        quiet: Suppress progress bars and log messages.

    Returns:
        The run folder, with `best.safetensors`, `last.safetensors`, `metrics.csv`, `report.json` and plots.

    Raises:
        UsageError: An option is wrong.
        DataError: The dataset cannot be read.
    """
    from densevision.training import train as training

    if resume is not None:
        if data or config or overrides or out:
            hint = "Leave out data, config, overrides and out."
            raise UsageError("a resumed run keeps its own config", field="resume", hint=hint)
        return training.resume(resume, quiet, task).path
    run_config = resolve_config(task, data, config, overrides)
    if run_config.train.init_from is not None:
        run_config = start_from_weights(run_config, data, config, overrides)
    return training.train(run_config, out, quiet).path


def tune(
    task: str | None = None,
    data: PathLike | None = None,
    *,
    config: PathLike | None = None,
    overrides: Overrides = None,
    search: Overrides = None,
    trials: int = 20,
    seed: int | None = None,
    prune: bool | None = None,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    quiet: bool = False,
) -> TuneResult:
    """Searches for the best options of a training with Optuna (extra `tune`).

    Each trial is a run of its own. A trial whose monitored metric is below the median of the others at the same epoch
    is stopped early. The study can be interrupted and resumed at any moment with the same result.

    Args:
        task: A name in `TASKS`; the config may name it instead.
        data: A dataset, or `scenes[:COUNT[:SEED]]`.
        config: A YAML file, or the name of a shipped one; its section `tune`, which `train` refuses, holds ranges.
        overrides: Dotted names to values, which are the same in all trials.
        search: Dotted names to ranges, `{"low": 1e-4, "high": 1e-2, "log": True}`, or lists of choices; added to those
            of the config. By default learning rate, weight decay and warm-up.
        trials: Trials in total.
        seed: Seed of the search, 0 by default; `train.seed` is that of the trainings.
        prune: Stop weak trials early, as is the default.
        out: Folder of the study; runs/<task>/tune-<number> by default.
        resume: Folder of a study to continue; of the other arguments only `trials` and `quiet` apply.
        quiet: Suppress progress bars and log messages.

    Returns:
        The best trial; `.config` is the winner's config as a file, for `train`.

    Raises:
        UsageError: The space or an option is wrong, or Optuna is not installed.
        DataError: The dataset cannot be read.
    """
    from densevision.training.progress import TrainingProgress
    from densevision.training.tune import Study, create_study

    report = TrainingProgress(0, quiet).print
    if resume is not None:
        if data or config or overrides or search or out or seed is not None or prune is not None:
            hint = "Leave out all but trials and quiet."
            raise UsageError("a resumed study keeps its own options", field="resume", hint=hint)
        return Study.open(Path(resume)).run(trials, quiet, report)
    values = {} if config is None else read_yaml(find_config(config))
    space = {**(values.pop("tune", None) or {}), **(search or {})}
    values["task"] = check_task_name(str(task or values.get("task")))
    for name, value in {**(overrides or {}), **({"data.path": os.fspath(data)} if data else {})}.items():
        set_option(values, name, value)
    study = create_study(values, space, seed or 0, prune is not False, out)
    return study.run(trials, quiet, report)


def evaluate(
    task: str | None = None,
    data: PathLike | None = None,
    weights: Any = None,
    *,
    overrides: Overrides = None,
    engine: Engine | Distributor | None = None,
    split: Split = "val",
    out: PathLike | None = None,
    report: PathLike | None = None,
    quiet: bool = False,
    **options: Any,
) -> Report:
    """Evaluates weights on a dataset, with the preprocessing of `predict`.

    Processes that torchrun started share the images; each returns the report of all, and the first one writes files.

    Args:
        task: A name in `TASKS`; weights of any other task are refused. Needed when no weights are given.
        data: A dataset; a predictor of a run that was just trained may leave it out.
        weights: A file, a name, or a predictor from `load`; the bundled demo weights by default.
        overrides: Dotted names to values of the weights' own config, e.g. `{"data.val": "test.json"}`.
        engine: What computes the network: "torch" (the default), "onnxruntime" or "openvino"; see `load`. With "ray",
            the images are distributed over a cluster, as `workers` and `gpus_per_worker` say; see `predict_bulk`.
        split: "train" or "val".
        out: Folder for report.json and plots.
        report: Folder for an HTML report: numbers with intervals, plots, tables, best and worst images.
        quiet: Suppress progress bars.
        **options: Options of `predict`.

    Returns:
        Metrics, protocol and counts.
    """
    given = {"overrides": overrides, "engine": engine, "split": split, **options}
    result = evaluate_detailed(task, data, weights, quiet=quiet, **given)
    from densevision.inference.processes import get_launch_rank

    if get_launch_rank():
        return result.report
    if out is not None:
        result.report.write(Path(out) / "report.json")
        result.metric.draw_plots(Path(out) / "plots")
    if report is not None:
        from densevision.evaluation.report_page import format_command, write_report

        name = weights if isinstance(weights, (str, os.PathLike)) else None
        settings = [f"{option}={value}" for option, value in (overrides or {}).items()]
        flags = {"weights": name, "data": data, "split": split, "set": settings, "engine": engine, **options}
        flags["report"] = report
        write_report(result, Path(report), format_command(result.report.task, "evaluate", flags))
    return result.report


def evaluate_detailed(
    task: str | None = None,
    data: PathLike | None = None,
    weights: Any = None,
    *,
    overrides: Overrides = None,
    engine: Engine | Distributor | None = None,
    split: Split = "val",
    quiet: bool = False,
    **options: Any,
) -> EvaluationResult:
    """Evaluates as `evaluate` does, and gives access to every image with its prediction and ground truth."""
    from densevision.evaluation.evaluate import evaluate_model
    from densevision.inference.processes import get_launch_rank, join_launched_processes
    from densevision.inference.progress import hide_progress, show_progress
    from densevision.io.progress import progress_context

    progress = hide_progress if quiet or get_launch_rank() else show_progress
    cluster = {
        name: options.pop(name) for name in ("workers", "gpus_per_worker") if engine == "ray" and name in options
    }
    given = {"overrides": overrides, "engine": None if engine == "ray" else engine, "split": split, **options}
    with join_launched_processes():
        with progress_context(progress):
            predictor, samples, predict_options = open_for_evaluation(task, data, weights, **given)
        if engine == "ray":
            from densevision.bulk.evaluation import evaluate_on_ray

            return evaluate_on_ray(predictor, samples, predict_options, **cluster, progress=progress)
        return evaluate_model(predictor, samples, predict_options, predictor.task.config.data.workers, progress)


def open_for_evaluation(
    task: str | None = None,
    data: PathLike | None = None,
    weights: Any = None,
    *,
    overrides: Overrides = None,
    engine: Engine | None = None,
    split: Split = "val",
    **options: Any,
) -> tuple[Predictor, SampleSet, PredictOptions]:
    """The predictor, the samples and the options that `evaluate` would use."""
    from densevision.inference.predict import check_options

    predictor = copy_predictor(weights, task)
    # Names of splits and columns belong to the data that the weights were trained on.
    reset = dict.fromkeys(("data.train", "data.val", "data.columns"))
    dataset = {"data.path": check_dataset_path(data), **reset} if data else {}
    predictor.configure({**dataset, **(overrides or {})})
    if predictor.task.config.dataset is None:
        trained_on = predictor.card.config.get("data", {}).get("path")
        hint = (
            f"Give --data. The weights were trained on {trained_on}." if trained_on else "Give --data FOLDER or scenes."
        )
        raise UsageError("no data to evaluate on", field="data", hint=hint)
    for name, value in list_ignored_settings(predictor.card.config).items():
        if predictor.file is not None and name not in (overrides or {}):
            log.warning("%s=%s of the card is ignored: only the caller may name files and addresses", name, value)
    predictor = use_engine(predictor, engine)
    predictor.options = predictor.task.evaluation_options()
    predict_options = check_options(predictor, options)
    return predictor, predictor.task.open_dataset(split), predict_options


def score(
    task: str,
    truth: PathLike,
    predictions: PathLike,
    *,
    overrides: Overrides = None,
    on_error: OnError = "fail",
    report: PathLike | None = None,
    images: PathLike | None = None,
) -> Report:
    """Scores prediction files of any tool against ground-truth files, without a model.

    Args:
        task: A name in `TASKS`.
        truth: For boxes, masks and keypoints a COCO json; otherwise a folder of files, or one file.
        predictions: A COCO result json; otherwise a folder of files with the same names except for the suffixes, or
            one file; or the folder of a bulk prediction (`engine="ray"`). Images without prediction are not scored, but
            counted and named.
        overrides: Dotted names of the task's config to values, as far as they matter for files: `evaluation` and
            `data.scale` of depth, `classes` and `data.unknown` of semantic.
        on_error: "fail" stops at files that cannot be read or compared, "skip" counts and names them.
        report: Folder for an HTML report.
        images: With `report`: folder of the images to draw on, found by the names of the ground truth.

    Raises:
        DataError: Something cannot be read or compared.
        UsageError: An option has no effect.
    """
    from densevision.evaluation.score import score as score_files

    return score_files(check_task_name(task), truth, predictions, on_error, report, images, overrides)


def check(
    task: str,
    data: PathLike,
    *,
    overrides: Overrides = None,
    fix: PathLike | None = None,
    quiet: bool = False,
) -> CheckReport:
    """Checks a dataset for problems: in files, labels, and between them.

    Args:
        task: A name in `TASKS`.
        data: A dataset, as `train` takes it.
        overrides: Dotted names to values of the task's config, e.g. `{"data.val": "test"}`.
        fix: Write a cleaned copy into this new folder; the dataset itself is never changed.
        quiet: Suppress progress bars.

    Raises:
        DataError: The format is not recognized, or nothing in the dataset can be read.
    """
    from densevision.inference.progress import hide_progress, show_progress

    config = resolve_config(task, data, None, overrides)
    return check_dataset(task, config, load_check(task).check, fix, hide_progress if quiet else show_progress)


def export(
    task: str | None = None,
    weights: Any = None,
    *,
    out: PathLike | None = None,
    export_format: Literal["onnx", "openvino", "torch", "triton"] = "onnx",
    overrides: Overrides = None,
    decode: bool = True,
    half: bool = False,
    tolerance: float | None = None,
    images: Any = None,
    quantize: Literal["int8"] | None = None,
    calibration: PathLike | None = None,
    keep_float: Sequence[str] = (),
    quiet: bool = False,
) -> Path:
    """Exports a model for another runtime, and verifies that it predicts the same; or, in integers, nearly as well.

    Args:
        task: Refuse weights of any other task; needed when no weights are given.
        weights: A file, a name, or a predictor from `load`; the bundled demo weights by default.
        out: The file to write; by default beside the weights, or in the working folder for names. For "triton" a new
            folder.
        export_format: "onnx", "openvino", "torch", or "triton": a folder with config.pbtxt and the ONNX file, for the
            model repository of the Triton Inference Server.
        overrides: Dotted names to values of the weights' own config, such as `{"scale": 3}`; the file keeps them.
        decode: Include postprocessing, or stop at the raw outputs.
        half: Store and compute in half precision.
        tolerance: Largest accepted difference from PyTorch; with `quantize` that of the main metric, in its own unit,
            0.01 by default.
        images: Images for verification, besides scenes of odd sizes.
        quantize: "int8" computes most layers of the network in 8-bit integers ("onnx" and "openvino").
        calibration: With `quantize`: a dataset. The ranges of activations are measured on its training images, and the
            loss of the metric on its validation images.
        keep_float: With `quantize`: names of parts of the model whose layers stay in float, such as "head".
        quiet: Suppress progress bars.

    Returns:
        The file, or the folder.

    Raises:
        UsageError: An option does not exist or has no effect.
        DataError: The dataset cannot be read.
        ExportError: The model cannot be exported, or the exported one differs or loses too much.
    """
    from densevision.exporting.export import SUFFIXES
    from densevision.exporting.export import export as write
    from densevision.exporting.triton import export_triton

    predictor = copy_predictor(weights, task)
    predictor.configure(overrides or {})
    is_file = isinstance(weights, (str, os.PathLike)) and Path(weights).is_file()
    if out is None and is_file and export_format in (*SUFFIXES, "triton"):
        out = Path(weights).with_suffix(SUFFIXES.get(export_format, ""))
    if quantize is None:
        for name, value in (("calibration", calibration), ("keep_float", keep_float)):
            if value:
                raise UsageError("has no effect without quantize", field=name, value=value, hint="Add quantize=int8.")
        if export_format == "triton":
            return export_triton(predictor, out, decode=decode, half=half, tolerance=tolerance, images=images)
        return write(predictor, out, export_format, decode=decode, half=half, tolerance=tolerance, images=images)
    from densevision.inference.progress import hide_progress, show_progress
    from densevision.quantization.export import export_quantized

    if quantize != "int8":
        raise UsageError("no such type", field="quantize", value=quantize, hint=did_you_mean(str(quantize), ["int8"]))
    for name, given in (("half", half), ("images", images)):
        if given:
            raise UsageError("has no effect with quantize", field=name, value=given, hint="Leave it out.")
    if calibration is None:
        hint = "Give a dataset with the splits train and val, such as that of the training."
        raise UsageError("quantize needs it", field="calibration", hint=hint)
    settings = {name: value for name, value in (overrides or {}).items() if name.startswith("data.")}
    data = {"data.path": check_dataset_path(calibration), "data.train": None, "data.val": None, **settings}
    progress = hide_progress if quiet else show_progress
    options: dict[str, Any] = {"keep_float": keep_float, "decode": decode, "tolerance": tolerance}
    return export_quantized(predictor, data, out, export_format, progress=progress, **options)


def read_card(weights: PathLike | None = None, task: str | None = None) -> Card:
    """What a weights file says about itself.

    Args:
        weights: A file or a name; the bundled demo weights of the task by default.
        task: Refuse weights of any other task.

    Raises:
        WeightsError: The file cannot be read, or is of another task.
    """
    path = resolve_weights(weights, task)
    card = load_card(path) if find_opener(path, task) is None else load(path, task).card
    check_task(card, path, task)
    return card
