"""Options that would have no effect are refused, and recipes are valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densevision.errors import UsageError
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation

ROOT = Path(__file__).parents[3]
REFUSED = {
    "data.resize=20 is smaller": {"data.size": 32, "data.resize": 20},
    "data.layout=images needs data.derive": {"data.layout": "images"},
    "data.direction has no effect": {"data.layout": "images", "data.derive": "gray", "data.direction": "BtoA"},
    "data.sides has no effect": {"data.layout": "side-by-side", "data.sides": ("x", "y")},
    "data.sides reads": {"data.sides": ("x", "X")},
    "layers has no effect with pixel": {"loss.adversarial.discriminator": "pixel", "loss.adversarial.layers": 2},
    "loss.adversarial have no effect": {"loss.adversarial.weight": 0.0, "loss.adversarial.kind": "hinge"},
    "loss.perceptual have no effect": {"loss.perceptual.backbone.name": "resnet18"},
    "all losses have the weight 0": {"loss.l1": 0.0, "loss.adversarial.weight": 0.0},
    "feature_matching needs a discriminator": {"loss.adversarial.weight": 0.0, "loss.feature_matching": 1.0},
    "loss.generator_warmup_epochs has no effect": {"loss.adversarial.weight": 0.0, "loss.generator_warmup_epochs": 2},
    "loss.generator_warmup_epochs leaves nothing": {"loss.l1": 0.0, "loss.generator_warmup_epochs": 2},
    "quality.features has no effect": {"quality.features.name": "resnet18"},
    "quality.monitor=FD needs": {"quality.monitor": "FD"},
    "random features say nothing": {"quality.frechet": True},
    "depth has no effect with arch=timm": {"arch": "timm", "depth": 3},
    "backbone has no effect with arch=unet": {"backbone.name": "resnet18"},
    "depth of arch=unet is 2 at least": {"depth": 1},
    "data.size=100 is no multiple of 256": {"data.size": 100, "depth": 8},
    "5 strided layers leave nothing of an image of 64": {"data.size": 64, "loss.adversarial.layers": 5},
    "7 scales leave a single pixel": {
        "data.size": 64,
        "loss.adversarial.discriminator": "pixel",
        "loss.adversarial.scales": 7,
    },
    "inference.norm=running has no effect with norm=instance": {"norm": "instance", "inference.norm": "running"},
    "have no effect with dropout=0": {"dropout": 0.0, "inference.dropout": False},
    "inference.seed has no effect": {"inference.dropout": False, "inference.seed": 1},
}


@pytest.mark.parametrize("message", REFUSED)
def test_config__refuses_what_has_no_effect(message: str):
    with pytest.raises(UsageError, match=message):
        TranslationConfig.resolve(None, REFUSED[message])


def test_depth__from_the_size():
    chosen = {size: TranslationConfig.resolve(None, {"data.size": size}) for size in (32, 96, 128, 256)}
    assert {size: one.levels for size, one in chosen.items()} == {32: 5, 96: 5, 128: 7, 256: 8}
    completed = Translation.infer_from_data(chosen[128])
    assert completed.depth == 7 and completed.changed(data__size=256).levels == 7


def test_image_discriminator__sees_the_whole_sample():
    layers = {256: 5, 128: 4, 64: 3}
    for size, wanted in layers.items():
        settings = {"data.size": size, "loss.adversarial.discriminator": "image"}
        assert TranslationConfig.resolve(None, settings).patch_layers == wanted


def test_training__is_the_papers_by_default():
    train = TranslationConfig.resolve(None, {"train.epochs": 3}).train
    assert (train.epochs, train.optimizer, train.lr, train.momentum) == (3, "adam", 2e-4, 0.5)
    assert (train.schedule, train.batch, train.weight_decay) == ("linear", 1, 0.0)


def test_complete__refuses_a_single_cell_for_batch_norms():
    def completed(**more):
        return Translation.infer_from_data(TranslationConfig.checked({"arch": "timm", "data": {"size": 32}, **more}))

    with pytest.raises(
        UsageError, match=r"data\.size: a sample is a single cell at the encoder's stride 32.*train\.batch"
    ):
        completed()
    assert completed(data={"size": 33}) and completed(train={"batch": 2})
    assert completed(backbone={"output_stride": 16}) and completed(backbone={"name": "convnext_atto"})  # layer norms


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "translation").glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes__are_valid(file: Path):
    chosen = TranslationConfig.resolve(file)
    with torch.device("meta"):
        net = Translation(Translation.infer_from_data(chosen.changed(data__path="scenes"))).build_model()
    if file.stem == "scenes":
        assert sum(weight.numel() for weight in net.parameters()) < 2.9e6
