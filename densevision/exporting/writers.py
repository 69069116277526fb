"""Writers of exported files: a traced program to ONNX, OpenVINO and `torch.export`."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import config as fx_config

from densevision.errors import ExportError
from densevision.exporting.exported_predictor import OUTPUT_SUFFIX, import_runtime
from densevision.exporting.metadata import CARD_KEY
from densevision.exporting.onnx_operators import make_translation_table
from densevision.telemetry import disable_telemetry

__all__ = ["WRITERS", "Writer", "describe_error", "omit_stack_traces", "remove_assertions"]

Writer = Callable[[Path, dict[str, str]], None]
"""Writes a converted program with metadata to a path."""


@contextmanager
def omit_stack_traces() -> Iterator[None]:
    """Traces without the place of each operation in the source: exported files hold none of it.

    Older PyTorch lacks the switch.
    """
    name = "do_not_emit_stack_traces"
    previous = getattr(fx_config, name, None)
    if previous is None:
        yield
        return
    setattr(fx_config, name, True)
    try:
        yield
    finally:
        setattr(fx_config, name, previous)


def _onnx_program(program: ExportedProgram, names: list[str]) -> torch.onnx.ONNXProgram:
    disable_telemetry()
    try:
        with warnings.catch_warnings(), omit_stack_traces():
            warnings.simplefilter("ignore")
            graph = torch.onnx.export(
                program,
                input_names=names,
                output_names=[
                    f"{name}{OUTPUT_SUFFIX}" if name in names else name for name in program.call_spec.out_spec.context
                ],
                dynamo=True,
                custom_translation_table=make_translation_table(),
                verbose=False,
            )
    except Exception as error:  # the exporter wraps all errors
        raise ExportError(f"torch.onnx cannot convert this model: {describe_error(error)}") from error
    assert graph is not None
    for node in graph.model.graph.all_nodes():
        node.metadata_props.clear()  # the origin of the node in PyTorch: larger than the graph, of no use elsewhere
    _name_axes(graph.model.graph)
    return graph


_AXIS_NAMES = {0: "batch", 2: "height", 3: "width"}


def _name_axes(graph: Any) -> None:
    """Names the dynamic axes of images batch, height and width, in the inputs and in outputs that share them."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        names |= {str(value.shape[axis]): name for axis, name in _AXIS_NAMES.items() if axis < len(value.shape)}
    for value in (*graph.inputs, *graph.outputs):
        for axis, size in enumerate(value.shape):
            value.shape[axis] = names.get(str(size), size)


def _make_onnx_writer(program: ExportedProgram, names: list[str], half: bool) -> Writer:
    graph = _onnx_program(program, names)

    def write(path: Path, texts: dict[str, str]) -> None:
        graph.model.metadata_props.update(texts)
        try:
            graph.save(path, external_data=False)
        except ValueError as error:
            hint = "A single ONNX file holds at most 2 GB: try half, or another format."
            raise ExportError(f"cannot be written as one file: {describe_error(error)}", hint=hint) from error

    return write


def _make_openvino_writer(program: ExportedProgram, names: list[str], half: bool) -> Writer:
    openvino = import_runtime("openvino", ExportError)
    graph = _onnx_program(program, names)
    try:
        network = openvino.Core().read_model(graph.model_proto.SerializeToString())
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"OpenVINO cannot read this model: {describe_error(error)}") from error

    def write(path: Path, texts: dict[str, str]) -> None:
        for key, text in texts.items():
            network.set_rt_info(text, [CARD_KEY, key])
        try:
            openvino.save_model(network, path, compress_to_fp16=half)
        except RuntimeError as error:  # such as a full disk
            raise OSError(describe_error(error)) from error

    return write


def remove_assertions(program: ExportedProgram) -> ExportedProgram:
    """Removes the assertions that the suppression has as many candidates as in the example, at least two."""
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _make_torch_writer(program: ExportedProgram, names: list[str], half: bool) -> Writer:
    program = remove_assertions(program)

    def write(path: Path, texts: dict[str, str]) -> None:
        buffer = io.BytesIO()  # when PyTorch writes the file itself, a full disk ends the process
        torch.export.save(program, buffer, extra_files=dict(texts))
        with open(path, "wb") as stream:
            stream.write(buffer.getbuffer())

    return write


WRITERS: dict[str, Callable[[ExportedProgram, list[str], bool], Writer]] = {
    "onnx": _make_onnx_writer,
    "openvino": _make_openvino_writer,
    "torch": _make_torch_writer,
}
"""Format -> function that converts a program, given the names of its inputs and whether to store half precision, and
returns a function that writes it with metadata."""


def describe_error(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
