"""Flow in other runtimes: a fixed number of iterations, any canvas, the same flow to a hundredth of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.errors import UsageError
from densevision.exporting.export import export
from densevision.exporting.exported_predictor import load_exported
from densevision.inference.predictor import TorchPredictor
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow
from densevision.training.train import make_card

pytestmark = [pytest.mark.export, pytest.mark.slow]


def test_onnx__predictions_images_of_other_sizes_alike(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    task = Flow(FlowConfig.from_dict({"arch": "raft_tiny", "model": {"iterations": 3}}))
    model = TorchPredictor(task, task.build_model().eval(), make_card(task.config, 0))
    exported = load_exported(export(model, tmp_path / "flow.onnx"), "flow")
    rng = np.random.default_rng(0)
    for size in ((130, 140), (64, 200)):
        pair = tuple(rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(2))
        mine, theirs = model.predict(pair, precision="float32"), exported.predict(pair)
        np.testing.assert_allclose(theirs.flow, mine.flow, atol=1e-2)
        np.testing.assert_allclose(theirs.occlusion, mine.occlusion, atol=1e-2)
    for option in ({"iterations": 5}, {"warm_start": True}, {"forward_backward": True}):
        with pytest.raises(UsageError):
            exported.predict(pair, **option)
