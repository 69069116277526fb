"""Export: weights as a graph for other runtimes, written only when it answers as PyTorch does."""

from __future__ import annotations

import copy
import io
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from densevision.errors import DenseVisionError, ExportError, UsageError, did_you_mean
from densevision.export.exported_predictor import CARD, KINDS, OUT, STAMP, Exported, ExportMetadata, decoding, runtime
from densevision.export.verification import Comparison, batches, trial_samples
from densevision.inference.predictor import Model, TorchModel
from densevision.inference.sources import open_source
from densevision.io.atomic_write import whole
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample, to_inputs
from densevision.tasks.base import Task, Tensors

log = logging.getLogger("densevision")

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Format -> suffix of its files."""

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}
"""Format -> modules of the export extra that write and verify it."""

TOLERANCE = {False: (1e-3, 1e-6), True: (2e-2, 1e-2)}
"""Half precision or not -> accepted difference: absolute, and as a share of the output's largest magnitude.

Half weights alone change a detector's scores by 0.0005; where OpenVINO also adds up in half, on processors that can,
they change by 0.014."""

STRAYS = {False: 0.005, True: 0.05}
"""Half precision or not -> share of the rows of an answer that rounding may choose otherwise."""

MOST = 32
"""Number of a person's own images that are compared."""

Write = Callable[[Path, dict[str, str]], None]


def export(
    model: Model,
    out: str | Path | None = None,
    format: str = "onnx",
    decode: bool = True,
    half: bool = False,
    tolerance: float | None = None,
    images: Any = None,
) -> Path:
    """Writes a model that other runtimes can run, and verifies that it answers alike.

    Batch, height and width stay free, within the size rules of the task's inputs. The file holds the card of the
    weights; `densevision.load` reads it. Decoding is held as wide as prediction and evaluation need it: for boxes,
    the lowest score that evaluation looks at, so other tools pick by "scores".

    Args:
        model: Weights, as `densevision.load` gives them.
        out: The file to write, with the suffix of the format; in the working folder when not given. An .xml gets a
            .bin beside it.
        format: "onnx", "openvino" or "torch" (`torch.export`).
        decode: Include the tensor part of decoding, or stop at the network's outputs.
        half: Compute in float16 (OpenVINO: store in it, and compute where the processor can); inputs, decoding and
            outputs stay float32.
        tolerance: Largest difference that is accepted in every output; see `TOLERANCE`.
        images: What to verify on beside scenes of odd sizes: anything that `predict` takes; of many the first 32.

    Raises:
        UsageError: An option that does not exist or has no effect.
        ExportError: The network cannot be exported, the exporter or a runtime failed, or the answers differ by more
            than the tolerance; then nothing is written.
        DenseVisionError: The folder cannot be written or the disk is full.
    """
    model, path = _checked(model, out, format, decode, tolerance)
    task = model.task
    options = _widest(task, model.options)
    samples = [*trial_samples(task.inputs), *_opened(images, task)]
    inputs = {name: asdict(spec) for name, spec in task.inputs.items()}
    stamp = ExportMetadata(decode, decoding(task, options), half, inputs, len(samples))
    card = model.card.changed(config=task.config.plain()).to_json()
    reference = Program(model, options, decode)
    program = traced(Program(model, options, decode, half and format != "openvino"), task.inputs)
    write = _WRITERS[format](program, list(task.inputs), half)
    with _whole(path) as temporary, _folder(path) as folder:
        trial = Path(folder) / path.name
        write(trial, {CARD: card, STAMP: stamp.to_json()})
        comparison = compared(reference, _reopened(trial, model, stamp), samples, STRAYS[half])
        _judge(comparison, half, tolerance, path)
        stamp = replace(stamp, differences=comparison.differences())
        write(temporary, {CARD: card, STAMP: stamp.to_json()})
    return path


class Program(nn.Module):
    """What is exported: the network, and the tensor part of its decoding.

    Args:
        model: The weights, which are copied.
        options: How to answer.
        decode: Decode; the network's outputs are the answer otherwise.
        half: Let the network compute in float16.
    """

    def __init__(self, model: TorchModel, options: PredictOptions, decode: bool, half: bool = False):
        super().__init__()
        net = copy.deepcopy(model.net).cpu().to(memory_format=torch.contiguous_format).eval()
        self.net = net.half() if half else net.float()
        self.task, self.options, self.has_postprocess, self.halves = model.task, options, decode, half

    def forward(self, inputs: Tensors) -> Tensors:
        """Inputs on the network's canvas to float32 answers."""
        if self.halves:
            inputs = {name: x.half() if name in self.net.images else x for name, x in inputs.items()}
        outputs = self.net(**inputs, **self.task.forward_kwargs(self.options))
        outputs = {name: x.float() if x.is_floating_point() else x for name, x in outputs.items()}
        return self.task.answers(outputs, self.options) if self.has_postprocess else outputs


def traced(program: Program, specs: dict[str, InputSpec]) -> ExportedProgram:
    """The program as a graph whose batch and canvas are free.

    Raises:
        ExportError: PyTorch cannot trace it, or only for fixed sizes.
    """
    from torch.fx.experimental import _config as symbols

    try:
        # Sides of one cell are as good as any other: without this the graph is guarded against them.
        with torch.no_grad(), warnings.catch_warnings(), symbols.patch(backed_size_oblivious=True):
            warnings.simplefilter("ignore")
            shapes = {"inputs": _free_shapes(specs)}
            graph = torch.export.export(program, (_example(specs),), dynamic_shapes=shapes, strict=False)
    except DenseVisionError:
        raise
    except Exception as failure:  # whatever the network's own code raises under tracing
        raise ExportError(f"torch.export cannot trace this network: {_reason(failure)}") from failure
    for module in graph.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine, of no use elsewhere
    # A side or a batch of one only lies otherwise in memory, and is answered all the same.
    graph._guards_code = [code for code in getattr(graph, "_guards_code", ()) if not code.endswith(("> 1", "!= 1"))]
    return graph


def compared(reference: Program, exported: Exported, samples: Sequence[Sample], strays: float) -> Comparison:
    """Runs both on the samples, one by one and as a batch.

    Raises:
        ExportError: The runtime cannot run the file.
    """
    specs = reference.task.inputs
    comparison = Comparison(strays)
    for batch in batches(samples):
        inputs, _ = to_inputs(batch, specs)
        with torch.inference_mode():
            ours = reference(inputs)
        try:
            theirs = exported.run(inputs, "cpu")
        except Exception as failure:  # the runtimes' errors share no base
            sizes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
            raise ExportError(f"the exported file does not run: {_reason(failure)}", value=sizes) from failure
        comparison.add(ours, theirs)
    return comparison


def _checked(model: Model, out: Any, format: str, decode: bool, tolerance: float | None) -> tuple[TorchModel, Path]:
    """The model and the path, once every argument is known to mean something."""
    if format not in SUFFIXES:
        raise UsageError("no such format", field="format", value=format, hint=did_you_mean(format, SUFFIXES))
    if not isinstance(model, TorchModel):
        raise UsageError("is an export already", field="weights", hint="Give the weights that it was made of.")
    if tolerance is not None and not tolerance > 0:
        raise UsageError("must be above 0", field="tolerance", value=tolerance)
    if not decode and not model.task.has_postprocess:
        problem = f"has no effect on {model.task.name}: its network's outputs are its answers"
        raise UsageError(problem, field="decode", value=decode, hint="Leave it out.")
    path = Path(out or f"{model.task.name}{SUFFIXES[format]}")
    if path.suffix != SUFFIXES[format]:
        hint = f"For {format} it ends in {SUFFIXES[format]}."
        raise UsageError("the file has the suffix of another format", field="out", value=str(path), hint=hint)
    for module in NEEDS[format]:
        runtime(module, ExportError)
    return model, path


def _opened(images: Any, task: Task) -> list[Sample]:
    if images is None:
        return []
    samples = list(islice(open_source(images, task.inputs, PredictOptions().max_pixels).samples, MOST))
    if not samples:
        raise UsageError("no image in it", field="images", value=images)
    return samples


def _widest(task: Task, options: PredictOptions) -> PredictOptions:
    """Options under which decoding keeps all that prediction or evaluation may ask for; the rest is cut off later."""
    predicting, judging = decoding(task, options), decoding(task, task.evaluation_options())
    for name, wider in (("score_threshold", min), ("max_detections", max)):
        if predicting[name] is not None and judging[name] is not None:
            predicting[name] = wider(predicting[name], judging[name])
    return options.model_copy(update=predicting)


def _example(specs: dict[str, InputSpec]) -> Tensors:
    """Inputs to trace with: no two axes alike, so that none is taken for another."""
    inputs = {}
    for name, spec in specs.items():
        cells = math.ceil(max(spec.minimum, 64) / spec.multiple_of)
        height, width = ((cells + more) * spec.multiple_of for more in (1, 2))
        inputs[name] = torch.rand(2, spec.channels, height, width)
    images = [inputs[name].shape for name, spec in specs.items() if spec.kind == "image"]
    for name, spec in specs.items():
        if spec.kind == "size":
            inputs[name] = torch.tensor([[float(side) for side in images[0][2:]]] * 2)
    return inputs


def _free_shapes(specs: dict[str, InputSpec]) -> dict[str, dict[int, Any]]:
    """Which axes are free, and that the sides of the canvas are multiples; inputs of one size rule share one canvas."""
    batch = Dim("batch", min=1)
    canvases: dict[tuple[int, int], tuple[Any, Any]] = {}
    shapes: dict[str, dict[int, Any]] = {}
    for name, spec in specs.items():
        if spec.kind == "size":
            shapes[name] = {0: batch, 1: Dim.STATIC}
            continue
        rule = (spec.multiple_of, spec.minimum)
        if rule not in canvases:
            least, ending = math.ceil(spec.minimum / spec.multiple_of), str(len(canvases) or "")
            sides = (Dim(f"{side}{ending}", min=least) for side in ("rows", "columns"))
            height, width = (side if spec.multiple_of == 1 else spec.multiple_of * side for side in sides)
            canvases[rule] = height, width
        shapes[name] = {0: batch, 1: Dim.STATIC, 2: canvases[rule][0], 3: canvases[rule][1]}
    return shapes


def _reopened(path: Path, model: TorchModel, stamp: ExportMetadata) -> Exported:
    """What was just written, under its own runtime."""
    kind = KINDS[path.suffix]
    try:
        opened, _ = kind.open(path)
        return kind(model.task, model.card, stamp, opened)
    except Exception as failure:  # the runtimes' errors share no base
        raise ExportError(f"the runtime refuses the exported file: {_reason(failure)}") from failure


def _judge(comparison: Comparison, half: bool, tolerance: float | None, path: Path) -> None:
    """Tells every difference; refuses those over the tolerance."""
    absolute, relative = TOLERANCE[half]
    for name, difference in comparison.differences().items():
        log.info("%s: largest difference from PyTorch in %s: %.2g", path.name, name, difference)
        limit = tolerance or max(absolute, relative * comparison.magnitudes.get(name, 0.0))
        if not difference <= limit:
            problem = f"differs from PyTorch's by more than the tolerance of {limit:.2g}, so nothing was written"
            hint = f"Accept it with tolerance {1.5 * difference:.1g}" + (", or leave out half." if half else ".")
            raise ExportError(problem, file=path, field=name, value=difference, hint=hint)
    if comparison.empty:
        log.warning("%s: PyTorch found no object in any image, so only that was compared; give images", path.name)


def _onnx_program(program: ExportedProgram, names: list[str]) -> torch.onnx.ONNXProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = torch.onnx.export(
                program,
                input_names=names,
                output_names=[f"{name}{OUT}" if name in names else name for name in program.call_spec.out_spec.context],
                dynamo=True,
                verbose=False,
            )
    except Exception as failure:  # the exporter wraps whatever went wrong
        raise ExportError(f"torch.onnx cannot translate this network: {_reason(failure)}") from failure
    for node in graph.model.graph.all_nodes():
        node.metadata_props.clear()  # how PyTorch came to the node: larger than the graph, of no use elsewhere
    _name_axes(graph.model.graph)
    return graph


_AXES = {0: "batch", 2: "height", 3: "width"}


def _name_axes(graph: Any) -> None:
    """Lets the free axes of images be called batch, height and width, in the inputs and where outputs share them."""
    names = {}
    for value in graph.inputs:
        names |= {str(value.shape[axis]): name for axis, name in _AXES.items() if axis < len(value.shape)}
    for value in (*graph.inputs, *graph.outputs):
        for axis, size in enumerate(value.shape):
            value.shape[axis] = names.get(str(size), size)


def _onnx(program: ExportedProgram, names: list[str], half: bool) -> Write:
    graph = _onnx_program(program, names)

    def write(path: Path, texts: dict[str, str]) -> None:
        graph.model.metadata_props.update(texts)
        try:
            graph.save(path, external_data=False)
        except ValueError as failure:
            hint = "A single ONNX file holds up to 2 GB: try half, or another format."
            raise ExportError(f"cannot be written as one file: {_reason(failure)}", hint=hint) from failure

    return write


def _openvino(program: ExportedProgram, names: list[str], half: bool) -> Write:
    openvino = runtime("openvino", ExportError)
    graph = _onnx_program(program, names)
    try:
        network = openvino.Core().read_model(graph.model_proto.SerializeToString())
    except (RuntimeError, ValueError) as failure:
        raise ExportError(f"OpenVINO cannot read this network: {_reason(failure)}") from failure

    def write(path: Path, texts: dict[str, str]) -> None:
        for key, text in texts.items():
            network.set_rt_info(text, [CARD, key])
        try:
            openvino.save_model(network, path, compress_to_fp16=half)
        except RuntimeError as failure:  # such as a full disk
            raise OSError(_reason(failure)) from failure

    return write


def _torch(program: ExportedProgram, names: list[str], half: bool) -> Write:
    def write(path: Path, texts: dict[str, str]) -> None:
        held = io.BytesIO()  # PyTorch's own writer of files ends the process on a full disk
        torch.export.save(program, held, extra_files=dict(texts))
        with open(path, "wb") as stream:
            stream.write(held.getbuffer())

    return write


_WRITERS: dict[str, Callable[[ExportedProgram, list[str], bool], Write]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "torch": _torch,
}


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """As `io.files.whole`; an .xml appears together with its .bin, and after it."""
    if path.suffix != SUFFIXES["openvino"]:
        with whole(path) as temporary:
            yield temporary
        return
    weights = path.with_suffix(".bin")
    with whole(path) as xml, whole(weights) as binary, _folder(path) as folder:
        yield Path(folder) / path.name
        os.replace(Path(folder) / weights.name, binary)
        os.replace(Path(folder) / path.name, xml)


def _folder(path: Path) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder beside the path, gone at the end."""
    return tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-")


def _reason(failure: BaseException) -> str:
    """The first line of the innermost cause."""
    while failure.__cause__ is not None:
        failure = failure.__cause__
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return f"{type(failure).__name__}: {lines[0]}" if lines else type(failure).__name__
