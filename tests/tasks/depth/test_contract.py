"""Depth keeps the contract: metric, relative, disparity, and learned from pairs; by each kind of network."""

from __future__ import annotations

import pytest

from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.task import Depth
from densevision.testing import check_task

TINY = {
    "data.path": "scenes:8:0",
    "data.size": 64,
    "backbone.name": "test_resnet",
    "model.width": 16,
    "train.batch": 2,
}
PAIRS = {
    "loss.silog": 0.0,
    "loss.photometric": 1.0,
    "loss.consistency": 0.5,
    "loss.smoothness": 0.05,
    "max_depth": 40.0,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"augment.rotate": 5.0, "augment.erase": 0.5},
        pytest.param({"arch": "depth_dpt", "output": "relative", "loss.silog_variance": 1.0}, marks=pytest.mark.slow),
        pytest.param(
            {
                "arch": "depth_anything",
                "backbone.name": "vit_tiny_patch16_224",
                "data.resize": "shorter",
                "output": "disparity",
                "loss.silog": 0.0,
                "loss.ssi": 1.0,
                "loss.ssi_gradient": 0.5,
            },
            marks=pytest.mark.slow,
        ),
        {"output": "disparity", **PAIRS},
    ],
    ids=["unet-metric", "dpt-relative", "vit-disparity", "pairs"],
)
def test_contract(settings: dict) -> None:
    # Pairs teach the network of the first kind, whose export was checked.
    skip = ("overfit", "export") if "loss.photometric" in settings else ()
    check_task(Depth, DepthConfig.resolve(None, {**TINY, **settings}), skip)
