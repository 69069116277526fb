"""What every task must keep."""

from __future__ import annotations

import pytest

from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow
from densevision.testing import check_task


@pytest.mark.parametrize("arch", ["raft_tiny", pytest.param("sea_raft_s", marks=pytest.mark.slow)])
def test_contract(arch):
    settings = {
        "data.path": "scenes:6:0",
        "data.size": [128, 128],
        "arch": arch,
        "model.iterations": 2,
        "model.training_iterations": 2,
    }
    skip = ("overfit",) if arch == "sea_raft_s" else ()
    check_task(Flow, FlowConfig.resolve(None, settings), skip)
