"""Export: weights as a graph for other runtimes, written only when its outputs equal those of PyTorch."""

from __future__ import annotations

import copy
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from densevision.errors import DenseVisionError, ExportError, UsageError, did_you_mean
from densevision.exporting.exported_predictor import (
    PREDICTOR_BY_SUFFIX,
    ExportedPredictor,
    import_runtime,
    resolve_decode_options,
)
from densevision.exporting.metadata import CARD_KEY, EXPORT_KEY, OUTPUT_FORMATS, ExportMetadata
from densevision.exporting.onnx_operators import keep_relu6_whole
from densevision.exporting.verification import (
    OutputComparison,
    PartComparison,
    Tolerance,
    make_trial_samples,
    split_batches,
)
from densevision.exporting.writers import WRITERS, Writer, describe_error, omit_stack_traces
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.inference.sources import open_source
from densevision.io.atomic_write import atomic_write
from densevision.nn.model import Tensors
from densevision.ops.nms import trace_torchvision_nms
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample, make_example_inputs, prepare_inputs
from densevision.tasks.base import Task

__all__ = [
    "SUFFIXES",
    "ExportProgram",
    "check_arguments",
    "compare_outputs",
    "export",
    "trace_program",
    "write_atomically",
]

log = logging.getLogger("densevision")

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Format -> suffix of its files."""

REQUIRED_MODULES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "torch": (),
}
"""Format -> modules of the export extra that write and verify it."""

TOLERANCES = {
    False: Tolerance(absolute=1e-3, relative=1e-6, score_tie=1e-4, outlier_fraction=0.005),
    True: Tolerance(absolute=2e-2, relative=1e-2, largest_fraction=0.1, score_tie=2e-2, outlier_fraction=0.05),
}
"""Half precision or not -> accepted differences.

Half-precision weights change the scores of a detector by 0.0005; where OpenVINO also accumulates in half precision, on
processors that can, by 0.014."""

MAX_IMAGES = 32
"""Maximum number of the caller's images that are compared."""

_PLAIN_OPTIONS = ("score_threshold", "iou_threshold", "max_detections")


def export(
    predictor: Predictor,
    out: str | os.PathLike[str] | None = None,
    export_format: str = "onnx",
    decode: bool = True,
    half: bool = False,
    tolerance: float | None = None,
    images: Any = None,
) -> Path:
    """Writes a model that other runtimes can run, and verifies that its outputs equal those of PyTorch.

    Batch, height and width are dynamic, within the size rules of the model's inputs. The file holds the card of the
    weights and an `ExportMetadata`; `densevision.load` reads it. Postprocessing keeps everything that prediction and
    evaluation need: detections down to the score threshold of evaluation, so other tools filter by "scores".

    Args:
        predictor: Weights, from `densevision.load`.
        out: The file to write, with the suffix of the format; in the working folder by default. An .xml gets a .bin
            beside it.
        export_format: "onnx", "openvino" or "torch" (`torch.export`).
        decode: Include the postprocessing, or stop at the outputs of the network.
        half: Compute in float16 (OpenVINO: store float16, and compute in it where the processor can); inputs,
            postprocessing and outputs are float32.
        tolerance: Accepted difference of every output; see `TOLERANCES`.
        images: Images for the verification, in addition to scenes of odd sizes: anything that `predict` takes; the
            first 32 are used.

    Raises:
        UsageError: An option does not exist or has no effect.
        ExportError: The model cannot be exported, the exporter or a runtime failed, or the outputs differ by more than
            the tolerance; then nothing is written.
        DenseVisionError: The folder cannot be written or the disk is full.
    """
    predictor, path = check_arguments(predictor, out, export_format, decode, tolerance)
    task = predictor.task
    options = _widen_options(task, predictor.options)
    samples = [*make_trial_samples(task.input_spec), *_open_images(images, task)]
    accepted = TOLERANCES[half]
    if tolerance is not None:
        accepted = replace(accepted, absolute=tolerance, relative=0.0, largest_fraction=math.inf)
    card = predictor.card.replace(config=task.config.to_dict()).to_json()

    def prepare(options: PredictOptions) -> tuple[Writer, ExportMetadata]:
        with trace_torchvision_nms() if export_format == "torch" else nullcontext():
            traced_half = half and export_format != "openvino"
            whole = ExportProgram(predictor, options, decode, traced_half)
            if export_format != "torch":
                keep_relu6_whole(whole.model)
            program = trace_program(whole, task.input_spec)
        write = WRITERS[export_format](program, list(task.input_spec), half)
        return write, _make_metadata(predictor, options, decode, half, program)

    def compare(options: PredictOptions, write: Writer, metadata: ExportMetadata) -> PartComparison:
        with _make_folder(path) as folder:
            trial = Path(folder) / path.name
            write(trial, {CARD_KEY: card, EXPORT_KEY: metadata.to_json(), **metadata.to_texts()})
            reference = ExportProgram(predictor, options, decode)
            comparison = compare_outputs(reference, _reopen(trial, predictor, metadata), samples, accepted)
        _check_differences(comparison, half, path)
        return comparison

    with write_atomically(path) as temporary:
        write, metadata = prepare(options)
        comparison = compare(options, write, metadata)
        if comparison.is_empty and options.score_threshold:
            # Nothing is detected, so nothing was compared. The same program without threshold shows all candidates.
            all_options = options.model_copy(update={"score_threshold": 0.0})
            comparison = compare(all_options, *prepare(all_options))
        metadata = replace(metadata, images=len(samples), differences=comparison.compute_differences())
        write(temporary, {CARD_KEY: card, EXPORT_KEY: metadata.to_json(), **metadata.to_texts()})
    return path


class ExportProgram(nn.Module):
    """The exported program: the network and its postprocessing.

    Args:
        predictor: The weights, which are copied.
        options: Options of the prediction.
        decode: Include the postprocessing.
        half: Compute the network in float16.
    """

    def __init__(self, predictor: TorchPredictor, options: PredictOptions, decode: bool, half: bool = False):
        super().__init__()
        model = copy.deepcopy(predictor.model).cpu().to(memory_format=torch.contiguous_format).eval()
        self.model = model.half() if half else model.float()
        self.task, self.options, self.is_decoded, self.is_half = predictor.task, options, decode, half

    def forward(self, inputs: Tensors) -> Tensors:
        """Inputs on the model's canvas to float32 outputs."""
        if self.is_half:
            specs = self.model.input_spec
            inputs = {name: x.half() if specs[name].kind == "image" else x for name, x in inputs.items()}
        outputs = self.model(**inputs, **self.task.forward_kwargs(self.options))
        outputs = {name: x.float() if x.is_floating_point() else x for name, x in outputs.items()}
        return self.task.postprocess(outputs, self.options) if self.is_decoded else outputs


def trace_program(program: ExportProgram, specs: Mapping[str, InputSpec]) -> ExportedProgram:
    """Traces the program into a graph with a dynamic batch and canvas.

    Raises:
        ExportError: PyTorch cannot trace it, or only for fixed sizes.
    """
    from torch.fx.experimental import _config as symbolic_shapes

    try:
        # Without the patch the graph gets guards against sides of one cell.
        with (
            torch.no_grad(),
            omit_stack_traces(),
            warnings.catch_warnings(),
            symbolic_shapes.patch(backed_size_oblivious=True),  # type: ignore[attr-defined]
        ):
            warnings.simplefilter("ignore")
            shapes = {"inputs": _make_dynamic_shapes(specs)}
            example = (make_example_inputs(specs, batch=2),)
            graph = torch.export.export(program, example, dynamic_shapes=shapes, strict=False)
    except DenseVisionError:
        raise
    except Exception as error:  # whatever the code of the model raises under tracing
        raise ExportError(f"torch.export cannot trace this model: {describe_error(error)}") from error
    for module in graph.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine, of no use elsewhere
    # A side or a batch of one only has another memory layout, and works all the same.
    guards = getattr(graph, "_guards_code", ())
    graph._guards_code = [code for code in guards if not code.endswith(("> 1", "!= 1"))]
    return graph


def compare_outputs(
    reference: ExportProgram, exported: ExportedPredictor, samples: Sequence[Sample], tolerance: Tolerance
) -> PartComparison:
    """Runs both programs on the samples, one by one and as a batch.

    Raises:
        ExportError: The runtime cannot run the file.
    """
    specs, parts = reference.task.input_spec, {}
    for prefix, task, own_options in reference.task.iterate_parts(reference.options):
        values = resolve_decode_options(task, own_options)
        parts[prefix] = OutputComparison(tolerance, values["iou_threshold"], bool(values["class_agnostic"]))
    comparison = PartComparison(parts)
    for batch in split_batches(samples):
        inputs, _ = prepare_inputs(batch, specs)
        with torch.inference_mode():
            expected = reference(inputs)
        try:
            outputs = exported.run(inputs, "cpu", exported.precision(PredictOptions()))
        except Exception as error:  # the errors of the runtimes share no base class
            sizes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
            raise ExportError(f"the exported file does not run: {describe_error(error)}", value=sizes) from error
        comparison.add(expected, outputs)
    return comparison


def check_arguments(
    predictor: Predictor, out: Any, export_format: str, decode: bool, tolerance: float | None
) -> tuple[TorchPredictor, Path]:
    """Returns the predictor and the path, if every argument is valid.

    Raises:
        UsageError: An option does not exist or has no effect.
        ExportError: A package of the format is missing.
    """
    if export_format not in SUFFIXES:
        hint = did_you_mean(export_format, SUFFIXES)
        raise UsageError("no such format", field="export_format", value=export_format, hint=hint)
    if not isinstance(predictor, TorchPredictor):
        hint = "Pass the weights from which it was exported."
        raise UsageError("this is an exported file already", field="weights", hint=hint)
    if tolerance is not None and not tolerance > 0:
        raise UsageError("must be above 0", field="tolerance", value=tolerance)
    if not decode and not predictor.task.has_postprocess:
        problem = f"has no effect on {predictor.task.name}: there is no postprocessing to leave out"
        raise UsageError(problem, field="decode", value=decode, hint="Leave it out.")
    path = Path(out or f"{predictor.task.name}{SUFFIXES[export_format]}")
    if path.suffix != SUFFIXES[export_format]:
        hint = f"The suffix of {export_format} is {SUFFIXES[export_format]}."
        raise UsageError("the suffix is of another format", field="out", value=str(path), hint=hint)
    for module in REQUIRED_MODULES[export_format]:
        import_runtime(module, ExportError)
    return predictor, path


def _open_images(images: Any, task: Task) -> list[Sample]:
    if images is None:
        return []
    samples = list(islice(open_source(images, task.input_spec, PredictOptions().max_pixels).samples, MAX_IMAGES))
    if not samples:
        raise UsageError("there is no image in it", field="images", value=images)
    return samples


def _widen_options(task: Task, options: PredictOptions) -> PredictOptions:
    """Options under which postprocessing keeps all that prediction or evaluation may need; the rest is cut later."""
    if task.parts:  # what is not set is left to the defaults of each part
        widened = [_widen_options(part, own) for _, part, own in task.iterate_parts(options)]
        thresholds = [each.score_threshold for each in widened if each.score_threshold is not None]
        counts = [each.max_detections for each in widened if each.max_detections is not None]
        limits = {"score_threshold": min(thresholds, default=None), "max_detections": max(counts, default=None)}
        return options.model_copy(update=limits)
    values, evaluation_values = (resolve_decode_options(task, each) for each in (options, task.evaluation_options()))
    for name, choose in (("score_threshold", min), ("max_detections", max)):
        if values[name] is not None and evaluation_values[name] is not None:
            values[name] = choose(values[name], evaluation_values[name])
    return options.model_copy(update=values)


def _make_metadata(
    predictor: TorchPredictor, options: PredictOptions, decode: bool, half: bool, program: ExportedProgram
) -> ExportMetadata:
    task = predictor.task
    used = resolve_decode_options(task, predictor.options) if decode else {}
    formats = {name: OUTPUT_FORMATS.get(name.rpartition("/")[2]) for name in program.call_spec.out_spec.context}
    outputs = {name: text for name, text in formats.items() if text is not None}
    return ExportMetadata(
        decoded=decode,
        options=resolve_decode_options(task, options),
        half=half,
        inputs={name: asdict(spec) for name, spec in task.input_spec.items()},
        outputs=outputs if decode else {},
        classes=predictor.card.classes or getattr(task.config, "classes", None),
        predict_options={name: used[name] for name in _PLAIN_OPTIONS if used.get(name) is not None},
    )


def _make_dynamic_shapes(specs: Mapping[str, InputSpec]) -> dict[str, dict[int, Any]]:
    """Marks batch and canvas as dynamic; inputs with the same size rule share one canvas."""
    batch = Dim("batch", min=1)
    canvases: dict[tuple[int, int], tuple[Any, Any]] = {}
    shapes: dict[str, dict[int, Any]] = {}
    for name, spec in specs.items():
        if spec.kind == "size":
            shapes[name] = {0: batch, 1: Dim.STATIC}
            continue
        rule = (spec.multiple_of, spec.min_side)
        if rule not in canvases:
            min_cells, suffix = math.ceil(spec.min_side / spec.multiple_of), str(len(canvases) or "")
            cells = (Dim(f"{side}{suffix}", min=min_cells) for side in ("rows", "columns"))
            height, width = (side if spec.multiple_of == 1 else spec.multiple_of * side for side in cells)
            canvases[rule] = height, width
        shapes[name] = {0: batch, 1: Dim.STATIC, 2: canvases[rule][0], 3: canvases[rule][1]}
    return shapes


def _reopen(path: Path, predictor: TorchPredictor, metadata: ExportMetadata) -> ExportedPredictor:
    """Opens the file that was just written."""
    predictor_class = PREDICTOR_BY_SUFFIX[path.suffix]
    try:
        opened, _ = predictor_class.open(path)
        return predictor_class(predictor.task, predictor.card, metadata, opened)  # type: ignore[call-arg]
    except Exception as error:  # the errors of the runtimes share no base class
        raise ExportError(f"the runtime cannot open the exported file: {describe_error(error)}") from error


def _check_differences(comparison: PartComparison, half: bool, path: Path) -> None:
    """Logs every difference; refuses those above the tolerance."""
    for name, difference in comparison.compute_differences().items():
        log.info("%s: largest difference from PyTorch in %s: %.2g", path.name, name, difference)
        limit = comparison.tolerance.compute_limit(comparison.magnitudes.get(name, 0.0))
        if not difference <= limit:
            problem = f"differs from PyTorch by more than the tolerance of {limit:.2g}, so nothing was written"
            hint = f"Accept it with tolerance {1.5 * difference:.1g}" + (", or leave out half." if half else ".")
            raise ExportError(problem, file=path, field=name, value=difference, hint=hint)
    if comparison.is_empty:
        log.warning("%s: no objects were detected in the verification images; pass images with objects", path.name)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Like `atomic_write`; an .xml appears together with its .bin."""
    if path.suffix != SUFFIXES["openvino"]:
        with atomic_write(path) as temporary:
            yield temporary
        return
    weights = path.with_suffix(".bin")
    with atomic_write(path) as xml, atomic_write(weights) as binary, _make_folder(path) as folder:
        yield Path(folder) / path.name
        os.replace(Path(folder) / weights.name, binary)
        os.replace(Path(folder) / path.name, xml)


def _make_folder(path: Path) -> tempfile.TemporaryDirectory[str]:
    """Makes a hidden temporary folder beside the path."""
    return tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-")
