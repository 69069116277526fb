"""Options of translation: those without effect are refused, and configs are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from densevision.errors import UsageError
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.task import Translation

ROOT = Path(__file__).parents[3]
WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "data.resize=20 is smaller": {"data.size": 32, "data.resize": 20},
    "data.layout=images needs data.derive": {"data.layout": "images"},
    "data.direction has no effect": {"data.layout": "images", "data.derive": "gray", "data.direction": "BtoA"},
    "data.sides has no effect": {"data.layout": "side-by-side", "data.sides": ("x", "y")},
    "data.sides must be": {"data.sides": ("x", "X")},
    "layers has no effect with pixel": {"loss.adversarial.discriminator": "pixel", "loss.adversarial.layers": 2},
    "loss.adversarial have no effect": {"loss.adversarial.weight": 0.0, "loss.adversarial.kind": "hinge"},
    "loss.perceptual have no effect": {"loss.perceptual.backbone.name": "resnet18"},
    "all losses have the weight 0": {"loss.l1": 0.0, "loss.adversarial.weight": 0.0},
    "feature_matching needs a discriminator": {"loss.adversarial.weight": 0.0, "loss.feature_matching": 1.0},
    "loss.generator_warmup_epochs has no effect": {"loss.adversarial.weight": 0.0, "loss.generator_warmup_epochs": 2},
    "loss.generator_warmup_epochs needs": {"loss.l1": 0.0, "loss.generator_warmup_epochs": 2},
    "quality.features has no effect": {"quality.features.name": "resnet18"},
    "quality.monitor=FD needs": {"quality.monitor": "FD"},
    "random features": {"quality.frechet": True},
    "no backbone": {"backbone.name": "resnet18"},
    "model.norm follows from norm": {"model.norm": "instance"},
    "5 strided layers leave nothing of an image of 64": {"data.size": 64, "loss.adversarial.layers": 5},
    "7 scales leave a single pixel": {
        "data.size": 64,
        "loss.adversarial.discriminator": "pixel",
        "loss.adversarial.scales": 7,
    },
    "inference.use_batch_stats has no effect": {"norm": "instance", "inference.use_batch_stats": False},
    "have no effect with model.dropout=0": {"model.dropout": 0.0, "inference.dropout": False},
    "inference.seed has no effect": {"inference.dropout": False, "inference.seed": 1},
}


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_config__refuses_options_without_effect(words: str):
    with pytest.raises(UsageError, match=words):
        TranslationConfig.resolve(None, WITHOUT_EFFECT[words])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"arch": "pix2pix_timm", "model.depth": 3}, "model.depth"),
        ({"model.depth": 1}, "model.depth"),
        ({"data.size": 100, "model.depth": 8}, "data.size"),
        ({"arch": "pix2pix_resnet", "data.size": 50}, "data.size"),
    ],
)
def test_model__refuses_options_that_it_has_not(settings: dict[str, Any], field: str):
    with pytest.raises(UsageError) as caught:
        Translation(TranslationConfig.resolve(None, settings)).build_model()
    assert caught.value.field == field


@pytest.mark.parametrize(("size", "depth"), [(32, 5), (96, 5), (128, 7), (256, 8)])
def test_depth__follows_from_the_size_and_is_recorded(size: int, depth: int):
    config = Translation.infer_from_data(TranslationConfig.resolve(None, {"data.size": size}))
    assert config.model == {"depth": depth}
    assert Translation.infer_from_data(config.replace(data__size=2 * size)).model == {"depth": depth}


@pytest.mark.parametrize(("size", "layers"), [(256, 5), (128, 4), (64, 3)])
def test_image_discriminator__covers_the_sample(size: int, layers: int):
    settings = {"data.size": size, "loss.adversarial.discriminator": "image"}
    assert TranslationConfig.resolve(None, settings).patch_layers == layers


def test_train__defaults_are_the_papers():
    train = TranslationConfig.resolve(None, {"train.epochs": 3}).train
    assert (train.epochs, train.optimizer, train.lr, train.betas) == (3, "adam", 2e-4, (0.5, 0.999))
    assert (train.schedule, train.batch, train.weight_decay) == ("linear", 1, 0.0)
    assert (train.warmup_epochs, train.grad_clip_norm) == (0.0, 0.0)


def test_infer_from_data__refuses_a_single_value_for_batch_norms():
    def infer(**values: Any) -> TranslationConfig:
        config = TranslationConfig.from_dict({"arch": "pix2pix_timm", "data": {"size": 32}, **values})
        return Translation.infer_from_data(config)

    with pytest.raises(UsageError) as caught:
        infer()
    assert caught.value.field == "data.size"
    assert infer(data={"size": 33}) and infer(train={"batch": 2})
    assert infer(backbone={"output_stride": 16}) and infer(backbone={"name": "convnext_atto"})  # layer norms


@pytest.mark.parametrize("file", sorted((ROOT / "configs/translation").glob("*.yaml")), ids=lambda file: file.stem)
def test_configs__build_their_models(file: Path):
    config = TranslationConfig.resolve(file)
    model = Translation(Translation.infer_from_data(config.replace(data__path="scenes"))).meta_model
    assert config.data.path is None or ".." not in config.data.path
    if file.stem == "scenes":
        assert sum(weight.numel() for weight in model.parameters()) < 2.9e6
