"""The superres task: what it keeps of an image, its tiles, its evaluation, its exports, its configs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision import api
from densevision.errors import UsageError, WeightsError
from densevision.evaluation.evaluate import evaluate
from densevision.inference.predictor import TorchPredictor, build_without_weights
from densevision.io.image import write_image
from densevision.io.video import VideoWriter
from densevision.io.weights import Card
from densevision.ops.imresize import imresize
from densevision.results import Image
from densevision.tasks import load_score
from densevision.tasks.superres.config import SuperresConfig
from densevision.tasks.superres.task import Superres
from densevision.testing import check_task

score = load_score("superres")

ROOT = Path(__file__).parents[3]
SIZED = ("edsr_baseline", "rrdb", "srvgg", "fsrcnn", "vdsr", "nafnet")
TINY = {"data.path": "scenes:8:0", "model.width": 8, "model.depth": 2, "data.crop": 16}
GAN = {
    "loss.adversarial.weight": 0.1,
    "loss.adversarial.width": 4,
    "loss.perceptual.weight": 0.1,
    "loss.perceptual.backbone.name": "mobilenetv3_small_050",
    "loss.perceptual.strides": (2, 4),
}
EXPORTS = [
    ("edsr_baseline", 3), ("edsr_baseline", 1), ("rrdb", 1), ("rrdb", 2), ("rrdb", 3), ("srvgg", 4), ("srcnn", 2),
    ("fsrcnn", 3), ("espcn", 2), ("vdsr", 2), ("nafnet", 1), ("nearest", 2), ("bilinear", 3), ("bicubic", 4),
    ("superres_unet", 2),
]  # fmt: skip
QUICK_EXPORTS = (("bicubic", 4), ("rrdb", 2))


def build(arch: str = "edsr_baseline", scale: int = 2, *, depth: int = 2, **settings: Any) -> TorchPredictor:
    torch.manual_seed(0)
    model = {"width": 8, "depth": depth} if arch in SIZED else {}
    config = SuperresConfig.from_dict({"arch": arch, "scale": scale, "model": model, **settings})
    task = Superres(config)
    return TorchPredictor(task, task.build_model().eval(), Card(task="superres", config=config.to_dict()))


def make_noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32) if dtype is np.float32 else rng.integers(0, np.iinfo(dtype).max, shape, dtype)


def test_contract():
    check_task(Superres, SuperresConfig.resolve(None, TINY))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {**TINY, **GAN},
        {"data.path": "scenes:8:0", "data.crop": 16, "arch": "superres_unet", "backbone.name": "mobilenetv3_small_050"},
        {**TINY, "arch": "nafnet", "degrade.chain": "real-esrgan"},
    ],
)
def test_contract__other_kinds(settings: dict[str, Any]):
    check_task(Superres, SuperresConfig.resolve(None, settings))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_predict__keeps_type_gray_and_alpha(dtype: type, channels: int):
    image = make_noise(13, 9, channels, dtype=dtype)
    whole = densevision.predict(image, weights=build())
    assert whole.image.shape == (26, 18, channels) and whole.image.dtype == dtype
    tiled = densevision.predict(image, weights=build(), tile=32)
    np.testing.assert_allclose(tiled.image, whole.image, atol=1 if dtype is not np.float32 else 1e-4)
    if channels in (2, 4):
        alpha = torch.from_numpy(image[..., -1].astype(np.float64))[None, None]
        white = 1 if dtype is np.float32 else np.iinfo(dtype).max
        expected = imresize(alpha, (26, 18))[0, 0].numpy().clip(0, white)
        np.testing.assert_allclose(whole.image[..., -1], expected, atol=0.51 if dtype is not np.float32 else 1e-6)


@pytest.mark.parametrize(("arch", "scale", "depth"), [("edsr_baseline", 2, 2), ("rrdb", 2, 1), ("fsrcnn", 3, 2)])
def test_predict__tiled_equals_whole(arch: str, scale: int, depth: int):
    image = make_noise(150, 170, 4, dtype=np.float32)
    predictor = build(arch, scale, depth=depth)
    whole = predictor.predict(image, precision="float32")
    tiled = predictor.predict(image, precision="float32", tile=128, overlap=0.0)
    assert np.abs(tiled.image - whole.image).max() < 1e-4


@pytest.mark.parametrize("tile", [1, 32, 33, 37, 40])
@pytest.mark.parametrize(("arch", "scale"), [("edsr_baseline", 1), ("bicubic", 3), ("rrdb", 2)])
def test_predict__small_tiles_equal_the_whole(arch: str, scale: int, tile: int):
    image = make_noise(83, 97, 3, dtype=np.float32)
    predictor = build(arch, scale, depth=1)
    whole = predictor.predict(image, precision="float32")
    tiled = predictor.predict(image, precision="float32", tile=tile)
    assert np.abs(tiled.image - whole.image).max() < 1e-4


def test_predict__self_ensemble_is_equivariant():
    image = make_noise(20, 30, 3, dtype=np.float32)
    predictor = build()
    options: dict[str, Any] = {"precision": "float32", "tta": ("flip", "rotate")}
    upright, rotated = (predictor.predict(each, **options).image for each in (image, np.rot90(image).copy()))
    np.testing.assert_allclose(np.rot90(upright), rotated, atol=1e-5)
    with pytest.raises(UsageError):
        predictor.predict(image, tta="scale")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_evaluate__equals_score_of_the_saved_images(channels: int, tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "val/HR" / f"{number}.png", make_noise(32, 40, channels))
        write_image(tmp_path / "val/LR" / f"{number}.png", make_noise(16, 20, channels))
    predictor = build("edsr_baseline", 2, quality={"luma": "float"})
    for result, name in zip(predictor.predict(tmp_path / "val/LR"), ("0", "1")):
        result.save(tmp_path / "out" / f"{name}.png")
    predictor.configure({"data.path": str(tmp_path)})
    evaluated = evaluate(predictor, predictor.task.open_dataset("val")).report.metrics
    scored = score(tmp_path / "val/HR", tmp_path / "out")["metrics"]
    assert set(evaluated) == {"PSNR_Yfloat_crop2", "SSIM_Yfloat_crop2"}
    assert all(scored[name] == value for name, value in evaluated.items())


def test_predict__video_frame_by_frame(tmp_path: Path):
    with VideoWriter(tmp_path / "a.mp4", 25) as video:
        for _ in range(3):
            video.write(make_noise(16, 20, 3))
    results = densevision.predict(tmp_path / "a.mp4", weights=build())
    assert iter(results) is results and [next(results).size for _ in range(3)] == [(32, 40)] * 3


@pytest.mark.parametrize("scale", [2, 3])
def test_built_in__bicubic_equals_imresize(scale: int):
    image = make_noise(8, 6, 3)
    result = densevision.predict(
        image, task="superres", weights="bicubic", overrides={"scale": scale}, precision="float32"
    )
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    expected = imresize(planes, (8 * scale, 6 * scale))[0].permute(1, 2, 0).numpy().clip(0, 255)
    np.testing.assert_allclose(result.image, expected, atol=0.51)


def test_built_in__has_no_parameters():
    predictor = build_without_weights("superres", {"arch": "bicubic", "scale": 4})
    assert predictor.task.output_size((3, 5)) == (12, 20)
    assert not list(predictor.model.parameters())
    assert isinstance(predictor.predict(make_noise(4, 4, 3)), Image)


def test_overrides__a_scale_that_the_weights_do_not_have(tmp_path: Path):
    build("edsr_baseline", 2).save(tmp_path / "x2.safetensors")
    with pytest.raises(WeightsError, match="scale=3"):
        api.load(tmp_path / "x2.safetensors", "superres", {"scale": 3})
    build("vdsr", 2).save(tmp_path / "any.safetensors")
    predictor = api.load(tmp_path / "any.safetensors", "superres", {"scale": 3})
    assert predictor.predict(make_noise(5, 4, 3)).size == (15, 12)


def test_evaluate__another_dataset_resets_the_splits(tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "other" / f"{number}.png", make_noise(32, 40, 3))
    predictor = build(data={"path": "there", "train": ("a", "b"), "val": "c"})
    report = api.evaluate("superres", str(tmp_path / "other"), predictor)
    assert report.counts["images"] == 2
    assert list(report.metrics) == ["PSNR_Y_crop2", "SSIM_Y_crop2"]


def test_train__interpolation_has_no_weights(tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        api.train("superres", "scenes:4", overrides={"arch": "bicubic"}, out=tmp_path / "run")
    assert caught.value.field == "arch"


@pytest.mark.export
@pytest.mark.parametrize(
    ("arch", "scale"),
    [pytest.param(*case, marks=() if case in QUICK_EXPORTS else pytest.mark.slow) for case in EXPORTS],
)
def test_export__onnx(arch: str, scale: int, tmp_path: Path):
    settings: dict[str, Any] = {}
    if arch == "superres_unet":
        settings = {"backbone": {"name": "mobilenetv3_small_050"}, "model": {"width": 8, "residual": True}}
    predictor = build(arch, scale, depth=1, **settings)
    exported = api.load(api.export("superres", predictor, out=tmp_path / "x.onnx"), "superres")
    image = make_noise(19, 2, 3, dtype=np.float32)
    first, second = (each.predict(image, precision="float32").image for each in (predictor, exported))
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.export
@pytest.mark.slow
def test_export__bundled_weights_in_a_new_process(tmp_path: Path):
    command = [sys.executable, "-m", "densevision", "superres", "export", "--out", str(tmp_path / "x.onnx")]
    subprocess.run(command, check=True)
    image = make_noise(19, 26, 3, dtype=np.float32)
    first, second = (
        densevision.predict(image, "superres", file, precision="float32") for file in (tmp_path / "x.onnx", None)
    )
    np.testing.assert_allclose(first.image, second.image, atol=1e-4)


def test_export__overrides_change_the_model_and_the_card(tmp_path: Path):
    out = tmp_path / "x.pt2"
    api.export("superres", "bicubic", out=out, export_format="torch", overrides={"scale": 3})
    image = make_noise(8, 6, 3)
    expected = densevision.predict(image, "superres", "bicubic", overrides={"scale": 3}, precision="float32")
    result = api.load(out, "superres").predict(image)
    assert result.scale == 3
    np.testing.assert_array_equal(result.image, expected.image)


@pytest.mark.slow
def test_export__takes_a_single_image(tmp_path: Path):
    predictor = build("nafnet", 1, depth=1)
    exported = api.export("superres", predictor, out=tmp_path / "x.pt2", export_format="torch")
    assert api.load(exported, "superres").predict(make_noise(20, 20, 3)).size == (20, 20)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"backbone": {"name": "resnet18"}}, "no backbone"),
        ({"model": {"scale": 3}}, "model.scale follows from scale"),
        ({"loss": {"l1": 0}}, "all losses"),
        ({"loss": {"generator_warmup_epochs": 3}}, "generator_warmup_epochs has no effect"),
        ({"loss": {"l1": 0, "adversarial": {"weight": 1}, "generator_warmup_epochs": 1}}, "needs a pixel loss"),
        ({"loss": {"adversarial": {"kind": "vanilla"}}}, "loss.adversarial have no effect"),
        ({"loss": {"perceptual": {"backbone": {"name": "resnet18"}}}}, "loss.perceptual have no effect"),
        ({"degrade": {"noise": (0.2, 0.1)}}, "degrade.noise"),
        ({"degrade": {"chain": "real-esrgan", "blur": (1.0, 2.0)}}, "degrade.blur has no effect"),
        ({"degrade": {"jpeg": (30, 90)}, "backbone": {"channels": 4}}, "degrade.jpeg needs gray or RGB"),
        ({"quality": {"color": "RGB", "luma": "float"}}, "quality.luma has no effect"),
        ({"backbone": {"channels": 5}}, "quality.color=Y needs"),
        ({"data": {"rescale": (1.0, 0.5)}}, "data.rescale"),
    ],
)
def test_config__refuses_options_without_effect(values: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        SuperresConfig.from_dict(values)


@pytest.mark.parametrize("file", sorted((ROOT / "configs/superres").glob("*.yaml")), ids=lambda file: file.stem)
def test_configs__build_their_models(file: Path):
    config = SuperresConfig.resolve(file)
    model = Superres(config).meta_model
    assert sum(weight.numel() for weight in model.parameters()) > 1000
    assert config.data.path is None or ".." not in config.data.path
