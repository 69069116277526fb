"""Generators, discriminators, losses: shapes, reach, and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevision.datasets.targets import stack_image_targets
from densevision.results import Image
from densevision.tasks.translation import losses as loss
from densevision.tasks.translation.config import TranslationConfig, patch_side
from densevision.tasks.translation.models.discriminators import (
    MultiScaleDiscriminator,
    PatchDiscriminator,
    PixelDiscriminator,
)
from densevision.tasks.translation.models.layers import TILE, ImageBatchNorm, NoisyDropout, norm_named
from densevision.tasks.translation.models.translation_head import build_head
from densevision.tasks.translation.training_modules import ImagePool, TrainingModules


def head(**settings) -> nn.Module:
    torch.manual_seed(0)
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return build_head(TranslationConfig.resolve(None, {"width": 4, "data.size": 32, **values}), [3]).eval()


@pytest.mark.parametrize(
    "settings",
    [{"depth": 2}, {"depth": 5}, {"depth": 3, "norm": "instance"}, {"arch": "resnet", "depth": 2}, {"channels": 1}],
)
def test_generator__answers_in_the_same_size(settings: dict):
    network = head(**settings)
    for size in ((32, 32), (64, 96)):
        answer = network([torch.rand(2, 3, *size)])["image"]
        assert answer.shape == (2, settings.get("channels", 3), *size)
        assert answer.min() >= 0 and answer.max() <= 1


def test_networks__widths_and_parameters_are_the_papers():
    """The published program prints 54.414 million parameters of U-Net-256, and 2.769 of its discriminator."""
    config = TranslationConfig.resolve(None, {"data.size": 256})
    with torch.device("meta"):
        network, training_modules = build_head(config, [3]).network, TrainingModules(config)
    counted = [
        sum(weight.numel() for weight in module.parameters()) for module in (network, training_modules.discriminator)
    ]
    assert [round(count / 1e6, 3) for count in counted] == [54.414, 2.769]
    assert [down.convolution.out_channels for down in network.downs] == [64, 128, 256, 512, 512, 512, 512, 512]
    noisy = [level for level, up in enumerate(network.ups) if isinstance(up.dropout, NoisyDropout)]
    assert noisy == [4, 5, 6]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_patch_discriminator__sees_what_it_says(layers: int):
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 4, layers, nn.Identity, True)
    side = 2 * patch_side(layers) // (1 << layers) * (1 << layers)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    logits = network(image)[-1]
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    seen = gradient[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [patch_side(layers)] * 2


def test_pixel_discriminator__looks_at_one_pixel():
    network = PixelDiscriminator(2, 4, norm_named("instance", "batch"), True)
    network.second[1] = nn.Identity()  # a norm looks at the whole image
    image = torch.rand(1, 2, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[-1][0, 0, 4, 4], image)
    assert gradient[0].abs().sum(0).nonzero().tolist() == [[4, 4]]


def test_scales__each_sees_half_of_the_one_before():
    scales = MultiScaleDiscriminator([PixelDiscriminator(1, 2, nn.Identity, True) for _ in range(3)])
    assert [found[-1].shape[-1] for found in scales(torch.rand(1, 1, 32, 32))] == [32, 16, 8]


def test_batch_norm__of_the_image_alone():
    torch.manual_seed(0)
    norm = ImageBatchNorm(3, own=True)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(4, 3, 6, 5) * 3 + 1
    wanted = torch.cat([F.batch_norm(one[None], None, None, norm.weight, norm.bias, training=True) for one in x])
    torch.testing.assert_close(norm.eval()(x), wanted, atol=1e-5, rtol=1e-5)
    norm.train()(x)
    running = ImageBatchNorm(3, own=False)
    running.load_state_dict(norm.state_dict())
    wanted = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(running.eval()(x), wanted)


def test_dropout__noise_is_the_seeds_and_keeps_the_mean():
    x = torch.ones(2, 64, TILE + 6, 9)
    one, again, other = (NoisyDropout(0.5, 64, (seed, 4)).eval()(x) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(one[0], one[1]) and torch.equal(one[..., :6, :], one[..., TILE:, :])
    assert set(one.unique().tolist()) == {0.0, 2.0} and one.mean() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(NoisyDropout(0.5, 64, None).eval()(x), x)


def test_inference__modes_change_the_answer():
    image = torch.rand(1, 3, 32, 32)
    modes = [{}, {"inference__seed": 7}, {"inference__dropout": False}, {"inference__norm": "running"}]
    answers = [head(depth=5, **mode)([image])["image"] for mode in modes]
    for index, one in enumerate(answers):
        assert torch.equal(one, head(depth=5, **modes[index])([image])["image"])
        assert all(not torch.allclose(one, other, atol=1e-6) for other in answers[index + 1 :])


def test_inference__no_answer_depends_on_its_neighbors():
    network = head(depth=5)
    images = torch.rand(3, 3, 32, 32)
    together = network([images])["image"]
    torch.testing.assert_close(together[1:2], network([images[1:2]])["image"], atol=1e-5, rtol=1e-5)


def test_l1__of_pixels_from_minus_one_to_one_where_known():
    truth = np.zeros((4, 4, 3), np.float32)
    truth[0] = np.nan
    targets = stack_image_targets([Image.from_source(truth), None], 3)
    answer = torch.full((2, 3, 4, 4), 0.25)
    assert float(loss.l1(answer, targets)) == pytest.approx(0.5)
    assert (
        float(
            loss.l1(
                answer,
                stack_image_targets([None], 3) | {"image": torch.zeros(1, 3, 4, 4), "known": torch.zeros(1, 1, 4, 4).bool()},
            )
        )
        == 0
    )


@pytest.mark.parametrize(
    ("kind", "fooled", "told"),
    [
        ("vanilla", np.log1p(np.exp(-0.5)), (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(0.5))) / 2),
        ("lsgan", 0.25, (1.0 + 0.25) / 2),
        ("hinge", -0.5, (0.0 + 1.5) / 2),
    ],
)
def test_adversarial__by_hand(kind: str, fooled: float, told: float):
    fake, real = [[torch.full((2, 1, 3, 3), 0.5)]], [[torch.full((2, 1, 3, 3), 2.0)]]
    assert float(loss.generator_loss_of(fake, kind)) == pytest.approx(fooled)
    assert float(loss.discriminator_loss_of(fake, real, kind)) == pytest.approx(told)


def test_feature_distance__leaves_out_the_logits():
    one = [[torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 2, 2)], [torch.ones(1, 2, 2, 2), torch.zeros(1)]]
    other = [[torch.ones(1, 2, 3, 3), torch.ones(1, 1, 2, 2) * 9], [torch.ones(1, 2, 2, 2), torch.ones(1) * 9]]
    assert float(loss.feature_distance(one, other)) == pytest.approx(0.5)


def test_critic__sees_the_input_only_if_conditional():
    question, answer = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    for conditional, channels in ((True, 6), (False, 3)):
        settings = {"data.size": 32, "loss.adversarial.conditional": conditional, "loss.adversarial.width": 2}
        training_modules = TrainingModules(TranslationConfig.resolve(None, settings))
        shown = training_modules.shown(question, answer)
        assert shown.shape[1] == channels and shown[:, -3:].min() == 1 and shown.min() == (-1 if conditional else 1)
        training_modules.discriminator(shown)


def test_buffer__holds_so_many_and_shows_old_ones():
    torch.manual_seed(0)
    buffer = ImagePool(4, (1, 1, 1))
    shown = [float(buffer.exchange(torch.full((1, 1, 1, 1), float(number)))) for number in range(40)]
    assert shown[:4] == [0, 1, 2, 3]
    old = [number - value for number, value in enumerate(shown) if value != number]
    assert 8 < len(old) < 28 and min(old) > 0
    kept = sorted(buffer.images.flatten().tolist())
    assert len(set(kept)) == 4 and not set(kept) & set(shown[4:])  # what was shown again is gone
    assert int(ImagePool(4, (1, 1, 1)).held) == 0 and {"images", "held"} == buffer.state_dict().keys()
