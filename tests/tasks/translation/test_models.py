"""Generators, discriminators and losses: shapes, receptive fields, and values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevision.datasets.targets import stack_image_targets
from densevision.results.image import Image
from densevision.tasks.translation import losses
from densevision.tasks.translation.config import TranslationConfig, compute_patch_side
from densevision.tasks.translation.models import MODELS
from densevision.tasks.translation.models.discriminators import (
    MultiScaleDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from densevision.tasks.translation.models.layers import NOISE_SIDE, ImageBatchNorm, NoisyDropout, get_norm
from densevision.tasks.translation.models.translation_model import TranslationModel
from densevision.tasks.translation.task import Translation
from densevision.tasks.translation.training_modules import ImagePool, TrainingModules


def build(name: str = "pix2pix_unet", **options: Any) -> TranslationModel:
    torch.manual_seed(0)
    model = MODELS[name].build({}, {"width": 4, "image_size": 32, **options}).eval()
    assert isinstance(model, TranslationModel)
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pix2pix_unet", {"depth": 2}),
        ("pix2pix_unet", {"depth": 5}),
        ("pix2pix_unet", {"depth": 3, "norm": "instance", "out_channels": 1}),
        ("pix2pix_resnet", {"depth": 2}),
        ("pix2pix_timm", {"encoder": "mobilenetv3_small_050"}),
    ],
)
def test_generator__keeps_any_size(name: str, options: dict[str, Any]):
    model = build(name, **options)
    for size in ((32, 32), (64, 96), (37, 50), (8, 9)):
        output = model(torch.rand(2, 3, *size))["image"]
        assert output.shape == (2, options.get("out_channels", 3), *size)
        assert output.min() >= 0 and output.max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_model__built_without_a_config_can_be_trained(name: str):
    model = build(name)
    targets = {"image": torch.rand(2, 3, 64, 64), "known": torch.ones(2, 1, 64, 64, dtype=torch.bool)}
    outputs = model(torch.rand(2, 3, 64, 64))
    expected = 100 * 2 * (outputs["image"] - targets["image"]).abs().mean()  # lambda of pixels from -1 to 1
    torch.testing.assert_close(model.loss(outputs, targets)["l1"], expected)


def test_networks__widths_and_parameters_are_the_papers():
    """pytorch-CycleGAN-and-pix2pix prints 54.414 million parameters for U-Net-256, and 2.769 for its discriminator."""
    config = TranslationConfig.resolve(None, {"data.size": 256})
    task = Translation(config)
    with torch.device("meta"):
        discriminator = TrainingModules(config).discriminator
    assert discriminator is not None
    counts = [sum(weight.numel() for weight in module.parameters()) for module in (task.meta_model, discriminator)]
    assert [round(count / 1e6, 3) for count in counts] == [54.414, 2.769]
    model: Any = task.meta_model
    assert [down.convolution.out_channels for down in model.downs] == [64, 128, 256, 512, 512, 512, 512, 512]
    with_dropout = [level for level, up in enumerate(model.ups) if isinstance(up.dropout, NoisyDropout)]
    assert with_dropout == [4, 5, 6]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_patch_discriminator__receptive_field(layers: int):
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 4, layers, nn.Identity, True)
    side = 2 * compute_patch_side(layers) // (1 << layers) * (1 << layers)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    logits = network(image)[-1]
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    influence = gradient[0].abs().sum(0).nonzero()
    sides = influence.max(0).values - influence.min(0).values + 1
    assert sides.tolist() == [compute_patch_side(layers)] * 2


def test_pixel_discriminator__receptive_field():
    network = PixelDiscriminator(2, 4, get_norm("instance", True), True)
    network.second[1] = nn.Identity()  # a norm depends on the whole image
    image = torch.rand(1, 2, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[-1][0, 0, 4, 4], image)
    assert gradient[0].abs().sum(0).nonzero().tolist() == [[4, 4]]


def test_multi_scale_discriminator__halves_the_image():
    network = MultiScaleDiscriminator([PixelDiscriminator(1, 2, nn.Identity, True) for _ in range(3)])
    assert [features[-1].shape[-1] for features in network(torch.rand(1, 1, 32, 32))] == [32, 16, 8]


def test_batch_norm__statistics_of_each_image():
    torch.manual_seed(0)
    norm = ImageBatchNorm(3, use_batch_stats=True)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(4, 3, 6, 5) * 3 + 1
    each = [F.batch_norm(image[None], None, None, norm.weight, norm.bias, training=True) for image in x]
    torch.testing.assert_close(norm.eval()(x), torch.cat(each), atol=1e-5, rtol=1e-5)
    norm.train()(x)
    running = ImageBatchNorm(3, use_batch_stats=False)
    running.load_state_dict(norm.state_dict())
    expected = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(running.eval()(x), expected)


def test_dropout__mask_depends_on_the_seed_and_keeps_the_mean():
    x = torch.ones(2, 64, NOISE_SIDE + 6, 9)
    first, same, other = (NoisyDropout(0.5, 64, (seed, 4)).eval()(x) for seed in (0, 0, 1))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(first[0], first[1]) and torch.equal(first[..., :6, :], first[..., NOISE_SIDE:, :])
    assert set(first.unique().tolist()) == {0.0, 2.0} and first.mean() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(NoisyDropout(0.5, 64, None).eval()(x), x)


def test_evaluation_modes__change_the_output():
    image = torch.rand(1, 3, 32, 32)
    modes: list[dict[str, Any]] = [{}, {"noise_seed": 7}, {"noise_seed": None}, {"use_batch_stats": False}]
    outputs = [build(depth=5, **mode)(image)["image"] for mode in modes]
    for index, output in enumerate(outputs):
        assert torch.equal(output, build(depth=5, **modes[index])(image)["image"])
        assert all(not torch.allclose(output, other, atol=1e-6) for other in outputs[index + 1 :])


def test_evaluation__does_not_depend_on_the_batch():
    model = build(depth=5)
    images = torch.rand(3, 3, 32, 32)
    single = model(images[1:2])["image"]
    torch.testing.assert_close(model(images)["image"][1:2], single, atol=1e-5, rtol=1e-5)


def test_l1__over_known_pixels_from_minus_one_to_one():
    target = np.zeros((4, 4, 3), np.float32)
    target[0] = np.nan
    criterion = losses.L1Criterion(10.0)
    prediction = torch.full((2, 3, 4, 4), 0.25)
    targets = stack_image_targets([Image.from_source(target), None], 3)
    assert float(criterion(prediction, targets)["l1"]) == pytest.approx(5.0)
    unknown = {"image": torch.zeros(2, 3, 4, 4), "known": torch.zeros(2, 1, 4, 4, dtype=torch.bool)}
    assert float(criterion(prediction, unknown)["l1"]) == 0


@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        ("vanilla", np.log1p(np.exp(-0.5)), (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(0.5))) / 2),
        ("lsgan", 0.25, (1.0 + 0.25) / 2),
        ("hinge", -0.5, (0.0 + 1.5) / 2),
    ],
)
def test_adversarial__values_by_hand(kind: str, generator: float, discriminator: float):
    fake, real = [[torch.full((2, 1, 3, 3), 0.5)]], [[torch.full((2, 1, 3, 3), 2.0)]]
    assert float(losses.average_generator_loss(fake, kind)) == pytest.approx(generator)
    assert float(losses.average_discriminator_loss(fake, real, kind)) == pytest.approx(discriminator)


def test_feature_matching__ignores_the_logits():
    fake = [[torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 2, 2)], [torch.ones(1, 2, 2, 2), torch.zeros(1)]]
    real = [[torch.ones(1, 2, 3, 3), torch.ones(1, 1, 2, 2) * 9], [torch.ones(1, 2, 2, 2), torch.ones(1) * 9]]
    assert float(losses.feature_matching_loss(fake, real)) == pytest.approx(0.5)


@pytest.mark.parametrize(("conditional", "channels"), [(True, 6), (False, 3)])
def test_discriminator__sees_the_input_only_if_conditional(conditional: bool, channels: int):
    settings = {"data.size": 32, "loss.adversarial.conditional": conditional, "loss.adversarial.width": 2}
    modules = TrainingModules(TranslationConfig.resolve(None, settings))
    images = modules.build_discriminator_input(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32))
    assert images.shape[1] == channels and images[:, -3:].min() == 1 and images.min() == (-1 if conditional else 1)
    assert modules.discriminator is not None
    modules.discriminator(images)


def test_image_pool__returns_stored_images():
    torch.manual_seed(0)
    pool = ImagePool(4, (1, 1, 1))
    returned = [float(pool.exchange(torch.full((1, 1, 1, 1), float(number)))) for number in range(40)]
    assert returned[:4] == [0, 1, 2, 3]
    ages = [number - value for number, value in enumerate(returned) if value != number]
    assert 8 < len(ages) < 28 and min(ages) > 0
    stored = pool.images.flatten().tolist()
    assert len(set(stored)) == 4 and not set(stored) & set(returned[4:])  # what was returned is no longer stored
    assert {"images", "count"} == pool.state_dict().keys()
