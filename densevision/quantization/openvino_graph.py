"""Quantization of OpenVINO files by NNCF, the tool of OpenVINO's makers."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from densevision.errors import ExportError
from densevision.exporting.exported_predictor import import_runtime
from densevision.exporting.metadata import CARD_KEY
from densevision.quantization.calibration import CalibrationInputs
from densevision.quantization.layers import Operation, Selection, select_operations

__all__ = ["quantize", "read_operations", "write_metadata"]

_LAYERS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData", "MatMul")
_MAPS = (
    *("Add", "AvgPool", "Clamp", "Concat", "HSigmoid", "HSwish", "Interpolate", "MaxPool", "Multiply", "PRelu"),
    *("ReduceMean", "Relu", "Sigmoid", "Swish"),
)
_ONE_MAP = ("Clamp", "Interpolate", "ReduceMean", "ROIAlign")
"""Operators whose other inputs are shapes, axes or boxes."""
_CHOICES = ("NonMaxSuppression", "NonZero", "TopK")

_TRANSPARENT = (
    *("Constant", "Parameter", "Pad", "Reshape", "Result", "Slice", "Split", "Squeeze", "StridedSlice", "Transpose"),
    *("Unsqueeze", "VariadicSplit"),
)
"""Operators that move values without computing: integers pass through them."""


def read_operations(network: Any) -> list[Operation]:
    """The operations of an `openvino.Model`, but for constants."""
    operations, constants = [], {}
    for node in network.get_ordered_ops():
        name, node_type = _get_name(node), node.get_type_name()
        sources = [_get_name(value.get_source_output().get_node()) for value in node.inputs()]
        if node_type == "Constant":
            constants[name] = name
        elif sources and all(source in constants for source in sources):  # such as weights that are reshaped
            constants[name] = constants[sources[0]]
        else:
            operations.append(_make_operation(node, name, node_type, sources, constants))
    return operations


def _make_operation(node: Any, name: str, node_type: str, sources: list[str], constants: dict[str, str]) -> Operation:
    is_layer = node_type in _LAYERS and sources[1] in constants
    kind = "layer" if is_layer else "map" if node_type in _MAPS else "other"
    inputs = sources[:1] if is_layer or node_type in _ONE_MAP else sources
    features = () if node_type in _CHOICES else tuple(source for source in inputs if source not in constants)
    weights = constants[sources[1]] if is_layer else ""
    shape = list(node.input(1).get_shape()) if is_layer else []  # of grouped convolutions: groups, outputs, inputs, ...
    is_depthwise = is_layer and node_type == "GroupConvolution" and shape[2] == 1 and shape[0] > 1
    return Operation(name, kind, features, weights, is_depthwise)  # type: ignore[arg-type]


def quantize(source: Path, target: Path, inputs: CalibrationInputs, keep_float: Collection[str]) -> Selection:
    """Quantizes an OpenVINO file: weights symmetrically with a scale per channel; biases are corrected.

    Args:
        source: The file in float.
        target: The file to write, without metadata.
        inputs: Inputs on which the ranges of activations are measured.
        keep_float: See `select_operations`.

    Raises:
        UsageError: No layer lies in a part of `keep_float`.
        ExportError: There is nothing to quantize, or NNCF is not installed.
    """
    openvino = import_runtime("openvino", ExportError)
    nncf = import_runtime("nncf", ExportError)
    network = openvino.Core().read_model(str(source))
    selection = select_operations(read_operations(network), keep_float)
    float_nodes = [node for node in network.get_ordered_ops() if node.get_type_name() not in _TRANSPARENT]
    ignored = [name for name in map(_get_name, float_nodes) if name not in selection.quantized]
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantized = nncf.quantize(
            network,
            nncf.Dataset(range(len(inputs)), lambda row: inputs[row]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        )
    openvino.save_model(quantized, target, compress_to_fp16=False)
    return selection


def write_metadata(source: Path, target: Path, texts: dict[str, str]) -> None:
    """Copies an OpenVINO file with other metadata."""
    openvino = import_runtime("openvino", ExportError)
    network = openvino.Core().read_model(str(source))
    for key, text in texts.items():
        network.set_rt_info(text, [CARD_KEY, key])
    openvino.save_model(network, target, compress_to_fp16=False)


def _get_name(node: Any) -> str:
    return str(node.get_friendly_name())
