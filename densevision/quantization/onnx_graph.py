"""Quantization of ONNX files by ONNX Runtime: integers as pairs of QuantizeLinear and DequantizeLinear (QDQ)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import ExportError
from densevision.exporting.exported_predictor import import_runtime
from densevision.quantization.calibration import CalibrationInputs
from densevision.quantization.layers import Operation, Selection, select_operations

__all__ = ["quantize", "read_operations", "write_metadata"]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MAPS = (
    *("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "MaxPool"),
    *("Mul", "Relu", "Resize", "Sigmoid"),
)
_ONE_MAP = ("Clip", "Resize", "RoiAlign")
"""Operators whose other inputs are shapes, limits or boxes."""
_CHOICES = ("ArgMax", "NonMaxSuppression", "NonZero", "TopK")


def read_operations(model: Any) -> list[Operation]:
    """The operations of an `onnx.ModelProto`."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constant_names = {*constants, *(node.output[0] for node in model.graph.node if node.op_type == "Constant"), ""}
    producers = {output: node.name for node in model.graph.node for output in node.output}
    operations = []
    for node in model.graph.node:
        is_layer = node.op_type in _LAYERS and node.input[1] in constants
        kind = "layer" if is_layer else "map" if node.op_type in _MAPS else "other"
        inputs = node.input[:1] if is_layer or node.op_type in _ONE_MAP else node.input
        inputs = [] if node.op_type in _CHOICES else [name for name in inputs if name not in constant_names]
        if kind == "map" and any(name not in producers for name in inputs):  # an input of the graph
            kind = "other"
        sources = tuple(producers[name] for name in inputs if name in producers)
        weights = node.input[1] if is_layer else ""
        shape = list(constants[weights].dims) if is_layer else []
        is_depthwise = node.op_type == "Conv" and len(shape) == 4 and shape[1] == 1 and shape[0] > 1
        operations.append(Operation(node.name, kind, sources, weights, is_depthwise))  # type: ignore[arg-type]
    return operations


def quantize(source: Path, target: Path, inputs: CalibrationInputs, keep_float: Collection[str]) -> Selection:
    """Quantizes an ONNX file: activations to 8 bits without sign, weights to 8 bits with sign and a scale per channel.

    The range of an activation is the mean over the images of its extremes in each.

    Args:
        source: The file in float.
        target: The file to write, without metadata.
        inputs: Inputs on which the ranges are measured.
        keep_float: See `select_operations`.

    Raises:
        UsageError: No layer lies in a part of `keep_float`.
        ExportError: There is nothing to quantize, or ONNX Runtime cannot quantize this graph.
    """
    onnx = import_runtime("onnx", ExportError)
    import_runtime("onnxruntime", ExportError)
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load(source)
    selection = select_operations(read_operations(model), keep_float)
    nodes = [node for node in model.graph.node if node.name in selection.quantized]
    del model.metadata_props[:]
    add_pre_process_metadata(model)  # or it warns through the root logger
    with contextlib.redirect_stdout(io.StringIO()):
        quantization.quantize_static(
            model,
            str(target),
            _make_reader(quantization.CalibrationDataReader, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=sorted({node.op_type for node in nodes}),
            nodes_to_quantize=[node.name for node in nodes],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"CalibMovingAverage": True},
        )
    return selection


def write_metadata(source: Path, target: Path, texts: dict[str, str]) -> None:
    """Copies an ONNX file with other metadata."""
    onnx = import_runtime("onnx", ExportError)
    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, target)


def _make_reader(base: type, inputs: CalibrationInputs) -> Any:
    """The inputs as ONNX Runtime reads them."""

    class Reader(base):
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._inputs, None)

    return Reader()
