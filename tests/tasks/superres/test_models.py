"""Super-resolution networks: sizes, receptive fields, options, and networks of spandrel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision import api
from densevision.datasets.scenes import Scenes
from densevision.errors import UsageError, WeightsError
from densevision.inference.loader import Collate
from densevision.tasks.superres.config import SuperresConfig
from densevision.tasks.superres.models import MODELS
from densevision.tasks.superres.models.superres_model import SuperresModel
from densevision.tasks.superres.task import Superres

SMALL: dict[str, dict[str, Any]] = {
    **{name: {"width": 8, "depth": 2} for name in ("edsr_baseline", "edsr_large", "rrdb", "srvgg", "fsrcnn", "vdsr")},
    "nafnet": {"width": 4, "depth": 1},
    "superres_unet": {"encoder": "mobilenetv3_small_050", "width": 8},
    "spandrel": {"architecture": "Compact", "options": {"num_feat": 8, "num_conv": 2, "upscale": 2}},
}
"""Constructor arguments of small networks."""
CASES = [
    *(("edsr_baseline", scale) for scale in (1, 2, 3, 8)),
    *(("rrdb", scale) for scale in (1, 2, 3)),
    ("srvgg", 4), ("srcnn", 2), ("fsrcnn", 3), ("espcn", 2), ("vdsr", 2), ("nafnet", 1), ("nearest", 2),
    ("bilinear", 3), ("bicubic", 4),
]  # fmt: skip


def build(name: str, **options: Any) -> SuperresModel:
    torch.manual_seed(0)
    model = MODELS[name].build({}, {**SMALL.get(name, {}), **options}).eval()
    assert isinstance(model, SuperresModel)
    return model


def make_image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_model__any_size_within_its_receptive_field(name: str, scale: int):
    model = build(name, scale=scale)
    for size in ((1, 1), (7, 5)):
        output = model(torch.rand(2, 3, *size))["image"]
        assert output.shape == (2, 3, size[0] * scale, size[1] * scale)
    radius = model.receptive_field_radius
    if radius is None:
        return
    side = 4 * (2 * radius // 4 + 4)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    output = model(image)["image"]
    for pixel in range(side // 2 * scale, side // 2 * scale + max(scale, 4)):
        (gradient,) = torch.autograd.grad(output[0, :, pixel, pixel].sum(), image, retain_graph=True)
        influence = gradient[0].abs().sum(0).nonzero() - pixel // scale
        assert influence.abs().max() <= radius


@pytest.mark.parametrize("name", MODELS)
def test_model__built_without_a_config_can_be_trained(name: str):
    if name == "spandrel":
        pytest.importorskip("spandrel")
    model = build(name)
    image = torch.rand(2, 3, 16, 16)
    known = torch.ones(2, 1, 16 * model.scale, 16 * model.scale, dtype=torch.bool)
    targets = {"image": torch.rand(2, 3, *known.shape[2:]), "known": known}
    losses = model.compute_losses({"image": image}, targets)
    expected = (model(image)["image"] - targets["image"]).abs().mean()
    torch.testing.assert_close(losses["l1"], expected)
    torch.testing.assert_close(model.ideal_outputs(targets, (16, 16))["image"], targets["image"])


def test_residual__adds_the_bicubic_enlargement():
    image = torch.rand(1, 3, 9, 7)
    bicubic = build("bicubic", scale=2)(image)["image"]
    for name in ("srvgg", "espcn", "superres_unet"):
        plain, residual = (build(name, scale=2, residual=value)(image)["image"] for value in (False, True))
        torch.testing.assert_close(residual, plain + bicubic, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"arch": "nafnet", "scale": 2}, "scale"),
        ({"arch": "fsrcnn", "scale": 16}, "scale"),
        ({"arch": "vdsr", "model": {"depth": 1}}, "model.depth"),
        ({"arch": "espcn", "model": {"width": 8}}, "model.width"),
        ({"arch": "bicubic", "model": {"residual": True}}, "model.residual"),
        ({"arch": "edsr_baseline", "model": {"width": "wide"}}, "model.width"),
    ],
)
def test_model__refuses_options_that_it_has_not(values: dict[str, Any], field: str):
    with pytest.raises(UsageError) as caught:
        Superres(SuperresConfig.from_dict(values)).build_model()
    assert caught.value.field == field


def test_arch__sets_what_it_needs():
    assert SuperresConfig.from_dict({"arch": "nafnet"}).scale == 1
    assert SuperresConfig.from_dict({"arch": "superres_unet"}).backbone.name == "mobilenetv2_100"


@pytest.mark.parametrize(
    ("name", "scale", "multiple"), [("rrdb", 1, 4), ("rrdb", 2, 2), ("rrdb", 4, 1), ("nafnet", 1, 16)]
)
def test_input_spec__padding_does_not_change_the_output(name: str, scale: int, multiple: int):
    image = make_image(33, 50, 3)
    config = SuperresConfig.from_dict({"arch": name, "scale": scale, "model": SMALL[name]})
    torch.manual_seed(0)
    task = Superres(config)
    model = task.build_model().eval()
    assert task.input_spec["image"].multiple_of == multiple
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
    canvas = torch.nn.functional.pad(planes, (0, width - 50, 0, height - 33), mode="replicate")
    with torch.no_grad():
        whole, padded = model(planes)["image"], model(canvas)["image"]
    torch.testing.assert_close(padded[..., : 33 * scale, : 50 * scale], whole, atol=1e-5, rtol=1e-5)


SPANDREL: dict[str, dict[str, Any]] = {
    "Compact": {"num_feat": 8, "num_conv": 2, "upscale": 2},
    "SwinIR": {
        "window_size": 8, "embed_dim": 12, "depths": [2], "num_heads": [2], "upscale": 2, "img_size": 16,
        "upsampler": "pixelshuffledirect",
    },
    "SAFMN": {"dim": 8, "n_blocks": 1, "upscaling_factor": 2},
    "RCAN": {"n_feats": 8, "n_resblocks": 1, "n_resgroups": 1, "reduction": 2, "scale": 2},
    "DRUNet": {"in_nc": 4, "out_nc": 3, "nc": [8, 8, 8, 8], "nb": 2},
}  # fmt: skip
"""Kinds of networks: plain, with windows, with a multiple of 8, with constants as weights, with an extra input."""


@pytest.mark.parametrize("name", SPANDREL)
def test_spandrel__predicts_tiles_trains_and_saves_like_other_models(name: str, tmp_path: Path):
    spandrel = pytest.importorskip("spandrel")
    torch.manual_seed(0)
    from densevision.tasks.superres.models.spandrel_model import Spandrel

    network = Spandrel(name, SPANDREL[name]).network
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.save({"params": network.state_dict()}, tmp_path / "published.pth")
    reference = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "published.pth").eval()
    image = make_image(37, 45, 3)
    expected = reference(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()

    predictor = api.load(tmp_path / "published.pth", "superres")
    assert predictor.task.config.arch == ("srvgg" if name == "Compact" else "spandrel")  # one of ours needs no spandrel
    whole = predictor.predict(image, precision="float32").image
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    tiled = predictor.predict(np.tile(image, (3, 2, 1)), precision="float32", tile=96).image
    assert tiled.shape == (3 * expected.shape[0], 2 * expected.shape[1], 3)

    predictor.save(tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(
        api.load(tmp_path / "ours.safetensors").predict(image, precision="float32").image, whole
    )

    config = predictor.task.config.replace(data__path="scenes:2:0", data__crop=16, degrade__noise=(0.1, 0.1))
    task = Superres(config)
    samples = task.open_dataset("train")
    batch = Collate(task)([task.augment(samples, index, np.random.default_rng(index), 0) for index in range(2)])
    model = task.build_model().train()
    sum(task.compute_losses(model, batch, None, "net").values()).backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_spandrel__built_from_options_and_trained(tmp_path: Path):
    pytest.importorskip("spandrel")
    overrides = {
        "arch": "spandrel", "model.architecture": "SPAN", "data.crop": 16, "train.epochs": 1,
        "train.precision": "float32",
        "model.options": {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 4, "upscale": 2},
    }  # fmt: skip
    run = api.train("superres", "scenes:4:0", overrides=overrides, out=tmp_path / "run", quiet=True)
    result = densevision.predict(make_image(9, 7, 3), weights=run / "last.safetensors")
    assert result.size == (18, 14)


@pytest.mark.export
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Compact", "RCAN"])
def test_spandrel__exports(name: str, tmp_path: Path):
    pytest.importorskip("spandrel")
    config = SuperresConfig.from_dict({"arch": "spandrel", "model": {"architecture": name, "options": SPANDREL[name]}})
    task = Superres(config)
    torch.manual_seed(0)
    from densevision.inference.predictor import TorchPredictor
    from densevision.io.weights import Card

    predictor = TorchPredictor(task, task.build_model().eval(), Card(task="superres", config=config.to_dict()))
    exported = api.load(api.export("superres", predictor, out=tmp_path / "x.onnx"), "superres")
    image = make_image(37, 45, 3)
    first, second = (one.predict(image, precision="float32").image for one in (predictor, exported))
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ({"architecture": "SwinIRR"}, "model.architecture"),
        ({"architecture": "Compact", "options": {"colors": 3}}, "model.options"),
        ({"architecture": "SwinIR", "options": {"window_size": 1024}}, "model.options.window_size"),
        ({"architecture": "Compact", "options": {"num_feat": 10**6}}, "model.options.num_feat"),
        ({"architecture": "Compact", "options": {"upscale": 4}}, "scale"),
    ],
)
def test_spandrel__refuses_wrong_options(model: dict[str, Any], field: str):
    pytest.importorskip("spandrel")
    with pytest.raises(UsageError) as caught:
        Superres(SuperresConfig.from_dict({"arch": "spandrel", "model": model})).build_model()
    assert caught.value.field == field


def test_spandrel__unknown_networks_are_refused(tmp_path: Path):
    pytest.importorskip("spandrel")
    for content in ({"head.9.weight": torch.zeros(1)}, {"weight": torch.zeros(3)}):
        torch.save(content, tmp_path / "unknown.pth")
        with pytest.raises(WeightsError) as caught:
            api.load(tmp_path / "unknown.pth", "superres")
        assert caught.value.file == tmp_path / "unknown.pth"


def test_scenes__have_clean_images():
    scene = Scenes(1, 0)[0]
    assert scene.clean.shape == scene.image.shape and not np.array_equal(scene.clean, scene.image)
