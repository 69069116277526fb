"""Semantic segmentation fulfills the task contract in each mode and for each kind of model."""

from __future__ import annotations

import pytest

from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.task import Semantic
from densevision.testing import check_task

TINY = {"data.path": "scenes:8:0", "data.size": 64, "backbone.name": "test_resnet", "train.batch": 2}


@pytest.mark.parametrize(
    "settings",
    [
        {"arch": "fcn8s", "model": {"width": 64, "dropout": 0.0}},
        pytest.param(
            {
                "arch": "unet",
                "model.decoder_options": {"decoder_channels": [32, 16, 16]},
                "mode": "binary",
                "loss.lovasz": 1.0,
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"arch": "fcn", "loss.auxiliary": 0.5, "mode": "multilabel", "loss.dice": 0.2}, marks=pytest.mark.slow
        ),
    ],
    ids=["fcn8s", "unet-binary", "fcn-multilabel"],
)
def test_contract__holds(settings: dict) -> None:
    check_task(Semantic, SemanticConfig.resolve(None, {**TINY, **settings}))
