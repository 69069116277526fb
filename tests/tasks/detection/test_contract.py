"""Detection keeps the contract."""

from __future__ import annotations

from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.task import Detection
from densevision.testing import CHECKS, check_task


def test_contract() -> None:
    settings = {"preset": "nano", "backbone.name": "mobilenetv2_050", "data.path": "scenes:8:0", "data.size": 96}
    assert len(check_task(Detection, DetectionConfig.resolve(None, settings))) == len(CHECKS)
