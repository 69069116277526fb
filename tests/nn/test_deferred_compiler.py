"""Predictions need no compiler; who needs it gets it."""

from __future__ import annotations

import subprocess
import sys

PREDICT = """
import sys
import numpy as np
from densevision.inference.predictor import build_without_weights

model = build_without_weights("detection", {"arch": "yolo_n", "classes": ["a"], "data.size": 64})
model.predict(np.zeros((64, 64, 3), np.uint8), device="cpu", score_threshold=0.001)
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
COMPILE = """
import torch
import densevision.nn.deferred_compiler as deferred
from torchvision.ops import roi_align

assert torch.compiler.disable is not deferred._disable_later
torch.use_deterministic_algorithms(True)  # asks whether the compiler is supported
boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert roi_align(torch.ones(1, 1, 8, 8), boxes, 2).allclose(torch.ones(1, 1, 2, 2))


@deferred._disable_later
def is_compiling():
    return torch.compiler.is_compiling()


assert not is_compiling()
import torch._dynamo

assert torch._dynamo.utils.is_compile_supported
assert not torch.compile(lambda x: x + is_compiling(), backend="eager")(torch.zeros(1))
"""


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_predictions_import_no_compiler() -> None:
    run(PREDICT)


def test_stand_ins_ask_the_compiler() -> None:
    run(COMPILE)
