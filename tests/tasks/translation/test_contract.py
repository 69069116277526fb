"""The translation task passes the checks that all tasks pass."""

from __future__ import annotations

from typing import Any

import pytest

from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation
from densevision.testing import check_task

TINY = {"data.path": "scenes:8:0", "data.size": 32, "model.width": 16, "loss.adversarial.width": 4}
KINDS: tuple[dict[str, Any], ...] = (
    {"arch": "pix2pix_resnet", "model.depth": 2, "norm": "instance", "loss.adversarial.kind": "lsgan"},
    {
        "arch": "pix2pix_timm",
        "model.width": 8,
        "train.batch": 2,
        "backbone.name": "mobilenetv3_small_050",
        "loss.adversarial.kind": "hinge",
        "loss.adversarial.discriminator": "pixel",
        "data.derive": "edges",
    },
    {
        "loss.adversarial.scales": 2,
        "loss.adversarial.layers": 1,
        "loss.adversarial.pool_size": 3,
        "loss.feature_matching": 10.0,
        "loss.perceptual.weight": 0.1,
        "loss.perceptual.backbone.name": "mobilenetv3_small_050",
        "loss.perceptual.strides": (2, 4),
    },
)


def test_contract():
    check_task(Translation, TranslationConfig.resolve(None, TINY))


@pytest.mark.slow
@pytest.mark.parametrize("settings", KINDS)
def test_contract__other_kinds(settings: dict[str, Any]):
    check_task(Translation, TranslationConfig.resolve(None, {**TINY, **settings}))
