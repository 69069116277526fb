"""What every task must keep."""

from __future__ import annotations

from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow
from densevision.testing import check_task


def test_contract():
    settings = {
        "data.path": "scenes:6:0",
        "data.size": [128, 128],
        "preset": "tiny",
        "iterations": 2,
        "train_iterations": 2,
    }
    check_task(Flow, FlowConfig.resolve(None, settings))
