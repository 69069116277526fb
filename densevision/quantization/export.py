"""Export in 8-bit integers: written only when the metric of the task, on given data, loses little enough."""

from __future__ import annotations

import copy
import logging
import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from densevision.errors import DataError, ExportError, UsageError
from densevision.evaluation.comparison import compare
from densevision.evaluation.evaluate import evaluate_model
from densevision.evaluation.result import EvaluationResult
from densevision.exporting.export import SUFFIXES, check_arguments, export, write_atomically
from densevision.exporting.exported_predictor import ExportedPredictor, import_runtime, load_exported
from densevision.exporting.metadata import CARD_KEY, EXPORT_KEY, ExportMetadata
from densevision.exporting.verification import make_trial_samples, split_batches
from densevision.exporting.writers import describe_error
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.inference.progress import Progress, hide_progress
from densevision.metrics.bootstrap import DRAWS, LEVEL
from densevision.nn.model import Tensors
from densevision.quantization import onnx_graph, openvino_graph
from densevision.quantization.calibration import CalibrationInputs
from densevision.quantization.layers import Selection
from densevision.sample import Sample, prepare_inputs
from densevision.tasks import get_metric_info

__all__ = ["TOLERANCE", "export_quantized"]

log = logging.getLogger("densevision")

TOLERANCE = 0.01
"""Accepted loss of the metric, in its own unit."""

_GRAPHS: dict[str, ModuleType] = {"onnx": onnx_graph, "openvino": openvino_graph}
_PACKAGES = {"onnx": ("onnxruntime.quantization",), "openvino": ("nncf",)}
_UNSUPPORTED = {"flow": "its networks refine one result many times by the same layers, where rounding errors add up"}
"""Task -> why its networks are not quantized."""


def export_quantized(
    predictor: Predictor,
    data: Mapping[str, Any],
    out: str | os.PathLike[str] | None = None,
    export_format: str = "onnx",
    *,
    keep_float: Collection[str] = (),
    decode: bool = True,
    tolerance: float | None = None,
    progress: Progress = hide_progress,
) -> Path:
    """Writes a model whose layers compute in 8-bit integers, if the main metric of its task loses little enough.

    The weights are exported in float and verified first. Then the layers that `densevision.quantization.layers` selects
    are quantized, with ranges of activations measured on up to 128 training images. The very file is evaluated in its
    runtime on the validation images, beside PyTorch in float32; what was measured is written into its metadata.

    Args:
        predictor: Weights, from `densevision.load`.
        data: Options of the config that name the data, "data.path" at least; its splits train and val are read.
        out: The file to write; see `densevision.exporting.export.export`.
        export_format: "onnx" or "openvino".
        keep_float: Names of parts of the model whose layers stay in float, such as "head".
        decode: Include the postprocessing, which stays in float.
        tolerance: Largest accepted loss of the metric `Task.monitor`, in its own unit; `TOLERANCE` by default.
        progress: Draws a bar over the images of the evaluations.

    Raises:
        UsageError: An option does not exist or has no effect.
        DataError: The data cannot be read, or defines no metric.
        ExportError: The metric loses more than the tolerance, the network cannot be exported or quantized, or a package
            is missing; then nothing is written.
    """
    _check_support(predictor, export_format)
    weights, path = check_arguments(predictor, out, export_format, decode, tolerance)
    for package in _PACKAGES[export_format]:
        import_runtime(package, ExportError)
    graph, tolerance = _GRAPHS[export_format], TOLERANCE if tolerance is None else tolerance
    reference = copy.copy(weights)
    reference.configure(data)
    inputs = CalibrationInputs(reference.task.open_dataset("train"), reference.task.input_spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        names = ("float", "bare", "candidate")
        in_float, bare, candidate = (Path(folder) / name / path.name for name in names)
        for file in (bare, candidate):
            file.parent.mkdir()
        export(copy.copy(weights), in_float, export_format, decode)
        metadata = load_exported(in_float).metadata
        selection = _quantize(graph, in_float, bare, inputs, keep_float)
        metadata = replace(metadata, quantization={"type": "int8"}, differences={}, images=0)
        graph.write_metadata(bare, candidate, _make_texts(weights, metadata))
        loss = _measure_loss(reference, load_exported(candidate), data, progress)
        _check_loss(loss, tolerance, path, selection)
        record = {"type": "int8", **loss.to_dict(), "tolerance": tolerance, "data": dict(data)}
        calibration = {"split": "train", "images": len(inputs)}
        record |= {"calibration": calibration, "layers": selection.layers, "kept_in_float": selection.kept}
        trials = make_trial_samples(weights.task.input_spec)
        metadata = replace(metadata, quantization=record, images=len(trials))
        with write_atomically(path) as temporary:
            graph.write_metadata(bare, temporary, _make_texts(weights, metadata))
            _verify_copy(load_exported(candidate), load_exported(temporary), trials, path)
    return path


@dataclass(frozen=True)
class _Loss:
    """What the main metric lost.

    Attributes:
        metric: Its name.
        before: Its value in float32.
        after: Its value in integers.
        loss: By how much it is worse; negative if it is better.
        interval: Confidence interval of the loss; None where single images do not define the metric.
        evaluation: The evaluation of the quantized file.
    """

    metric: str
    before: float
    after: float
    loss: float
    interval: tuple[float, float] | None
    evaluation: EvaluationResult

    def to_dict(self) -> dict[str, Any]:
        report = self.evaluation.report.to_dict()
        return {
            "metric": self.metric,
            "float32": self.before,
            "int8": self.after,
            "loss": self.loss,
            "interval": self.interval and list(self.interval),
            "intervals": {"level": LEVEL, "draws": DRAWS, "seed": 0, "method": "paired bootstrap over images"},
            "split": "val",
            "images": report["counts"]["images"],
            "protocol": report["protocol"],
        }

    def __str__(self) -> str:
        interval = ""
        if self.interval is not None:
            interval = f", {LEVEL:.0%} interval {self.interval[0]:.4f} to {self.interval[1]:.4f}"
        images = self.evaluation.report.counts["images"]
        return f"{self.metric} {self.before:.4f} in float32, {self.after:.4f} in int8 on {images} images{interval}"


def _check_support(predictor: Predictor, export_format: str) -> None:
    """Refuses formats and tasks that have no export in integers."""
    if export_format in (*SUFFIXES, "triton") and export_format not in _GRAPHS:
        hint = f"Use {' or '.join(_GRAPHS)}."
        raise UsageError("has no effect on this format", field="quantize", value=export_format, hint=hint)
    for name in (predictor.task.name, *predictor.task.parts):
        if name in _UNSUPPORTED:
            problem = f"{name} has no export in integers: {_UNSUPPORTED[name]}"
            raise UsageError(problem, field="quantize", value="int8", hint="Export it in float, or with half.")


def _quantize(
    graph: ModuleType, source: Path, target: Path, inputs: CalibrationInputs, keep_float: Collection[str]
) -> Selection:
    try:
        selection: Selection = graph.quantize(source, target, inputs, keep_float)
    except (UsageError, DataError, ExportError):
        raise
    except Exception as error:  # the errors of the quantizers share no base class
        raise ExportError(f"the runtime cannot quantize this model: {describe_error(error)}") from error
    return selection


def _measure_loss(
    reference: TorchPredictor, quantized: ExportedPredictor, data: Mapping[str, Any], progress: Progress
) -> _Loss:
    """Evaluates both on the validation images."""
    quantized.configure(data)
    samples = reference.task.open_dataset("val")
    workers = reference.task.config.data.workers
    options = reference.task.evaluation_options()
    float_options = options.model_copy(update={"precision": "float32"})
    before = evaluate_model(reference, samples, float_options, workers, progress)
    after = evaluate_model(quantized, samples, options, workers, progress)
    metric = reference.task.monitor[0]
    value, quantized_value = (float(each.report.metrics.get(metric, math.nan)) for each in (before, after))
    if not math.isfinite(value):
        raise DataError("the validation images do not define the metric", field=metric, value=value)
    sign = 1 if get_metric_info(reference.task.name, metric).higher_is_better else -1
    interval = None
    difference = compare(before, after).differences.get(metric)
    if difference is not None and not math.isnan(difference.interval.low):
        low, high = sorted(-sign * bound for bound in difference.interval)
        interval = (low, high)
    return _Loss(metric, value, quantized_value, sign * (value - quantized_value), interval, after)


def _check_loss(loss: _Loss, tolerance: float, path: Path, selection: Selection) -> None:
    """Logs the loss; refuses one above the tolerance, and a metric too small to show one."""
    log.info("%s: %s; %d layers in int8, %d in float", path.name, loss, selection.layers, len(selection.kept))
    if get_metric_info(loss.evaluation.report.task, loss.metric).higher_is_better and loss.before <= tolerance:
        problem = f"the weights reach no more than the tolerance in float32, so no loss could be seen: {loss}"
        hint = "Give data that the weights were trained for, or a smaller tolerance."
        raise ExportError(problem, file=path, field=loss.metric, value=loss.before, hint=hint)
    if not loss.loss <= tolerance:
        problem = f"loses more than the tolerance of {tolerance:g}, so nothing was written: {loss}"
        hint = "Keep parts in float by keep_float (--keep-float), or accept the loss by tolerance."
        raise ExportError(problem, file=path, field=loss.metric, value=loss.loss, hint=hint)


def _verify_copy(
    candidate: ExportedPredictor, written: ExportedPredictor, samples: Sequence[Sample], path: Path
) -> None:
    """Checks that the written file predicts as the one that was evaluated, alone and together, of odd sizes."""
    for batch in split_batches(samples):
        expected, outputs = (_run(each, batch) for each in (candidate, written))
        for name, tensor in expected.items():
            if not tensor.equal(outputs[name]):
                raise ExportError("the written file differs from the one that was evaluated", file=path, field=name)


def _run(predictor: ExportedPredictor, samples: Sequence[Sample]) -> Tensors:
    inputs, _ = prepare_inputs(samples, predictor.task.input_spec)
    try:
        return predictor.run(inputs, "cpu", "int8")
    except Exception as error:  # the errors of the runtimes share no base class
        sizes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
        raise ExportError(f"the quantized file does not run: {describe_error(error)}", value=sizes) from error


def _make_texts(weights: TorchPredictor, metadata: ExportMetadata) -> dict[str, str]:
    card = weights.card.replace(config=weights.task.config.to_dict()).to_json()
    return {CARD_KEY: card, EXPORT_KEY: metadata.to_json(), **metadata.to_texts()}
