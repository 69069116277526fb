"""A model repository of Triton: its config says what the ONNX file is, and the server's schema accepts it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.cli.main import run
from densevision.errors import ExportError, UsageError
from densevision.exporting.triton import describe_model
from densevision.published_weights import find_bundled_weights

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.export
TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL"}


def write_model(path: Path, outputs: dict[str, tuple[int, list]], inputs: dict[str, list]) -> Path:
    """An ONNX file with these inputs (float32) and outputs, without nodes: only what it declares matters."""
    declare = onnx.helper.make_tensor_value_info
    first = [declare(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    last = [declare(name, kind, shape) for name, (kind, shape) in outputs.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", first, last)), path)
    return path


def parse(text: str) -> Any:
    """Parses a config with the schema of the server."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_describe_model__batched_and_not(tmp_path: Path) -> None:
    kinds = onnx.TensorProto
    inputs = {"image": ["batch", 3, "height", "width"], "size": ["batch", 2]}
    outputs = {"boxes": (kinds.FLOAT, ["batch", 100, 4]), "score": (kinds.FLOAT16, ["batch"])}
    text = describe_model(write_model(tmp_path / "a.onnx", outputs, inputs), 'a"b')
    assert "max_batch_size: 8" in text and "dynamic_batching" in text
    config = parse(text)
    assert config.name == 'a"b' and config.backend == "onnxruntime" and config.max_batch_size == 8
    assert [list(each.dims) for each in config.input] == [[3, -1, -1], [2]]
    assert [list(each.dims) for each in config.output] == [[100, 4], [1]]
    assert config.output[1].HasField("reshape") and not list(config.output[1].reshape.shape)
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    rows = {"rows": (kinds.INT64, ["n", 6])}  # rows of all images together cannot be divided by the server
    config = parse(describe_model(write_model(tmp_path / "b.onnx", rows, inputs), "b"))
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, 3, -1, -1] and list(config.output[0].dims) == [-1, 6]


def test_describe_model__a_type_that_triton_lacks(tmp_path: Path) -> None:
    outputs = {"z": (onnx.TensorProto.COMPLEX64, ["batch", 1])}
    with pytest.raises(ExportError) as caught:
        describe_model(write_model(tmp_path / "a.onnx", outputs, {"image": ["batch", 3, 8, 8]}), "a")
    assert caught.value.field == "z"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_export__config_is_that_of_the_file(task: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if find_bundled_weights(task) is None:
        pytest.skip("the bundled weights are not part of this checkout")
    out = tmp_path / "models" / "demo"
    run([task, "export", "--format", "triton", "--out", str(out), "--quiet"])
    assert capsys.readouterr().out.strip() == str(out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
    ]
    session = runtime.InferenceSession(out / "1" / "model.onnx")
    text = (out / "config.pbtxt").read_text()
    assert re.findall(r"^input { name: \"(\w+)\"", text, re.MULTILINE) == [each.name for each in session.get_inputs()]
    config = parse(text)
    assert config.name == "demo"
    for described, actual in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        for tensor, expected in zip(described, actual, strict=True):
            assert tensor.name == expected.name
            assert (
                type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
                == TYPES[expected.type]
            )
            assert list(tensor.dims) == [side if isinstance(side, int) else -1 for side in expected.shape[1:]]
    batch = np.zeros((config.max_batch_size, 3, 64, 96), np.float32)
    outputs = session.run(None, {"image": batch})
    assert all(len(output) == config.max_batch_size for output in outputs)
    assert densevision.load(out / "1" / "model.onnx").task.name == task
    with pytest.raises(UsageError):
        densevision.export(task, out=out, export_format="triton")
