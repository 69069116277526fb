"""Model repositories of the Triton Inference Server: a verified ONNX file, and the config that describes it.

Source of the format: https://docs.nvidia.com/deeplearning/triton-inference-server, "Model Repository" and "Model
Configuration"; the schema is `model_config.proto` of the server.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from densevision.errors import ExportError
from densevision.exporting.export import export
from densevision.exporting.exported_predictor import import_runtime
from densevision.inference.predictor import Predictor
from densevision.io.atomic_write import atomic_folder, write_text

__all__ = ["CONFIG_FILE", "MODEL_FILE", "describe_model", "export_triton"]

CONFIG_FILE = "config.pbtxt"
MODEL_FILE = "1/model.onnx"
"""The file of version 1, by the name that the server expects."""
MAX_BATCH = 8
"""Largest batch that the server makes of requests that wait."""
MAX_DELAY = 2000
"""Microseconds for which a request waits for others."""
DATA_TYPES = {
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"TYPE_INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"TYPE_UINT{bits}" for bits in (8, 16, 32, 64)},
    "bool": "TYPE_BOOL",
}
"""NumPy's name of a type -> Triton's."""


def export_triton(predictor: Predictor, out: str | os.PathLike[str] | None = None, **options: Any) -> Path:
    """Writes a model of a repository: a folder with config.pbtxt and 1/model.onnx.

    The name of the folder is that of the model, and the folder around it is the repository of the server. The ONNX file
    is verified as `export` does; `densevision.load` reads it, too.

    Args:
        predictor: Weights, from `densevision.load`.
        out: A new folder; by default one named as the task, in the working folder.
        **options: Options of `export`.

    Raises:
        UsageError: The folder exists, or an option does not exist or has no effect.
        ExportError: See `export`.
    """
    path = Path(out or predictor.task.name)
    with atomic_folder(path) as folder:
        file = folder / MODEL_FILE
        file.parent.mkdir()
        export(predictor, file, "onnx", **options)
        write_text(folder / CONFIG_FILE, describe_model(file, path.absolute().name))
    return path


def describe_model(file: Path, name: str) -> str:
    """The config of a model, as text of the protocol buffer `inference.ModelConfig`.

    Where the first axis of every input and output is the batch, requests are batched: dimensions are then those of one
    image.

    Args:
        file: The ONNX file.
        name: Name of the model.

    Raises:
        ExportError: A type of the file is not known to Triton.
    """
    onnx = import_runtime("onnx", ExportError)
    graph = onnx.load(file, load_external_data=False).graph
    tensors = {"input": list(graph.input), "output": list(graph.output)}
    shapes = {value.name: _read_shape(value) for values in tensors.values() for value in values}
    axes = {shape[0] if shape else None for shape in shapes.values()}
    is_batched = len(axes) == 1 and isinstance(next(iter(axes)), str)
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', f"max_batch_size: {MAX_BATCH if is_batched else 0}"]
    for kind, values in tensors.items():
        for value in values:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
            if dtype not in DATA_TYPES:
                raise ExportError("Triton has no such type", file=file, field=value.name, value=dtype)
            lines += _describe_tensor(kind, value.name, DATA_TYPES[dtype], shapes[value.name][is_batched:])
    if is_batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY} }}")
    return "\n".join(lines) + "\n"


def _read_shape(value: Any) -> list[int | str]:
    """The sides of a tensor: numbers, or the names of dynamic axes."""
    return [
        side.dim_value if side.HasField("dim_value") else side.dim_param for side in value.type.tensor_type.shape.dim
    ]


def _describe_tensor(kind: str, name: str, data_type: str, shape: list[int | str]) -> list[str]:
    """A number for each image has no dimensions, which Triton writes as one that is removed."""
    sides = ", ".join(str(side if isinstance(side, int) else -1) for side in shape)
    dimensions = f"dims: [ {sides} ]" if shape else "dims: [ 1 ] reshape: { shape: [ ] }"
    return [f"{kind} {{ name: {json.dumps(name)} data_type: {data_type} {dimensions} }}"]
