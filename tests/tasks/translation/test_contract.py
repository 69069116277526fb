"""Translation keeps the contract."""

from __future__ import annotations

import pytest

from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation
from densevision.testing import check_task

TINY = {"data.path": "scenes:8:0", "data.size": 32, "width": 16, "loss.adversarial.width": 4}
KINDS = (
    {"arch": "resnet", "depth": 2, "norm": "instance", "loss.adversarial.kind": "lsgan"},
    {
        "arch": "timm",
        "width": 8,
        "train.batch": 2,
        "backbone.name": "mobilenetv3_small_050",
        "loss.adversarial.kind": "hinge",
        "loss.adversarial.discriminator": "pixel",
        "data.derive": "edges",
    },
    {
        "loss.adversarial.scales": 2,
        "loss.adversarial.layers": 1,
        "loss.adversarial.buffer": 3,
        "loss.feature_matching": 10.0,
        "loss.perceptual.weight": 0.1,
        "loss.perceptual.backbone.name": "mobilenetv3_small_050",
        "loss.perceptual.strides": (2, 4),
    },
)


def test_contract():
    check_task(Translation, TranslationConfig.resolve(None, TINY))


@pytest.mark.slow
@pytest.mark.parametrize("more", KINDS)
def test_contract__of_every_kind(more: dict):
    check_task(Translation, TranslationConfig.resolve(None, {**TINY, **more}))
