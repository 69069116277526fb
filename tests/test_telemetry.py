"""Runtimes stay silent: no file under the home folder, no socket to anywhere, traced at the level of system calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import densevision

pytestmark = [pytest.mark.export, pytest.mark.skipif(sys.platform != "linux", reason="Linux only")]

RUNTIMES = """
import sys, time
import densevision
from densevision.exporting.exported_predictor import import_runtime
from densevision.errors import WeightsError
import numpy as np, onnx
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
session = import_runtime("onnxruntime", WeightsError).InferenceSession(model, providers=["CPUExecutionProvider"])
assert session.run(None, {"x": np.ones(1, np.float32)})[0][0] == -1
core = import_runtime("openvino", WeightsError).Core()
assert core.compile_model(core.read_model(model), "CPU")(np.ones(1, np.float32))[0][0] == -1
import openvino.tools.ovc
time.sleep(1)
"""
EXPORTS = """
import sys, densevision, numpy as np
for form in ("onnx", "openvino"):
    model = densevision.load(task="depth")
    out = sys.argv[1] + "/depth" + {"onnx": ".onnx", "openvino": ".xml"}[form]
    file = densevision.export(weights=model, out=out, export_format=form)
    densevision.predict(np.zeros((64, 64, 3), np.uint8), weights=file)
"""


def _isolated() -> list[str]:
    """A command prefix that runs a program without a network, where this system allows it."""
    if shutil.which("unshare") and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0:
        return ["unshare", "-rn"]
    return []


def _traced(trace: Path) -> list[str]:
    call = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=socket,connect"]
    if shutil.which("strace") and subprocess.run([*call, "true"], capture_output=True).returncode == 0:
        return call
    return []


def _run(program: str, folder: Path) -> None:
    home, trace, out = folder / "home", folder / "trace", folder / "out"
    home.mkdir()
    out.mkdir()
    dropped = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(densevision.__file__).parents[1])}
    call = [*_isolated(), *_traced(trace), sys.executable, "-c", program, str(out)]
    process = subprocess.run(call, env=environment, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []
    if trace.exists():
        assert [line for line in trace.read_text().splitlines() if "AF_INET" in line] == []


def test_runtimes__silent(tmp_path: Path) -> None:
    for name in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(name)
    _run(RUNTIMES, tmp_path)


@pytest.mark.slow
def test_export__silent(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(name)
    _run(EXPORTS, tmp_path)


def test_import__sets_the_switches() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    program = (
        "import densevision, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\ntry: import openvino_telemetry\n"
    )
    program += "except ImportError: print('off')"
    process = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert process.stdout.strip() == "off"
