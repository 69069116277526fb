"""The translation task: what it keeps of an image, its modes, its metrics, its two optimizers, its verbs."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import densevision
from densevision import api
from densevision.cli.main import run as run_command_line
from densevision.errors import UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import write_image
from densevision.io.weights import Card, load_card
from densevision.metrics.image_quality import psnr, ssim
from densevision.results.image import Image
from densevision.run_folder import RunFolder
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.metrics import TranslationMetric
from densevision.tasks.translation.task import Translation
from densevision.training.validation import EpochEnd

TINY = {"data.size": 32, "model.width": 4, "loss.adversarial.width": 4, "train.precision": "float32"}


def build(**settings: Any) -> TorchPredictor:
    torch.manual_seed(0)
    values = {name.replace("__", "."): value for name, value in settings.items()}
    config = TranslationConfig.resolve(None, {**TINY, **values})
    task = Translation(Translation.infer_from_data(config))
    return TorchPredictor(task, task.build_model().eval(), Card(task="translation", config=task.config.to_dict()))


def make_noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32) if dtype is np.float32 else rng.integers(0, np.iinfo(dtype).max, shape, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_predict__keeps_type_and_alpha(dtype: type, channels: int):
    image = make_noise(13, 9, channels, dtype=dtype)
    result = densevision.predict(image, weights=build())
    assert result.image.dtype == dtype and result.image.shape == (13, 9, 3 + (channels in (2, 4)))
    if channels in (2, 4):
        np.testing.assert_array_equal(result.image[..., -1], image[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (64, 64), (129, 65)])
@pytest.mark.parametrize("resize", [True, False])
def test_predict__any_size(size: tuple[int, int], resize: bool):
    predictor = build(inference__resize=resize)
    assert predictor.predict(make_noise(*size, 3)).size == size


def test_predict__own_size_is_edge_padding_and_cropping():
    predictor = build(inference__resize=False, model__depth=3, norm="instance", model__dropout=0.0)
    image = make_noise(21, 30, 3, dtype=np.float32)
    canvas = np.pad(image, ((0, 3), (0, 2), (0, 0)), "edge")
    with torch.no_grad():
        padded = predictor.model(image=torch.from_numpy(canvas).permute(2, 0, 1)[None])["image"]
    result = predictor.predict(image, precision="float32").image
    np.testing.assert_allclose(result, padded[0, :, :21, :30].permute(1, 2, 0), atol=1e-5)


def test_predict__is_reproducible_with_dropout():
    image, predictor = make_noise(40, 50, 3), build()
    first, second = (predictor.predict(image).image for _ in range(2))
    other = build(inference__seed=3).predict(image).image
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_predict__does_not_depend_on_the_batch():
    images, predictor = [make_noise(32, 32, 3), make_noise(32, 32, 3)[::-1].copy()], build()
    together = predictor.predict(images, batch=2, precision="float32")
    for image, result in zip(images, together):
        single = predictor.predict(image, precision="float32").image
        assert np.abs(result.image.astype(int) - single).max() <= 1


def test_predict__tiles_only_at_the_image_size():
    image = make_noise(70, 90, 3)
    assert build(inference__resize=False).predict(image, tile=64).size == (70, 90)
    for options in ({"tile": 64}, {"tta": "scale"}):
        with pytest.raises(UsageError):
            build().predict(image, **options)


def test_predict__flip_tta_is_equivariant():
    image, predictor = make_noise(32, 64, 3, dtype=np.float32), build()
    upright, mirrored = (
        predictor.predict(each, precision="float32", tta="flip").image for each in (image, image[:, ::-1].copy())
    )
    np.testing.assert_allclose(upright[:, ::-1], mirrored, atol=1e-5)
    assert not np.allclose(upright, predictor.predict(image, precision="float32").image, atol=1e-3)


def test_overrides__modes_of_the_same_weights(tmp_path: Path):
    build().save(tmp_path / "net.safetensors")
    image = make_noise(32, 32, 3)
    modes: tuple[dict[str, Any], ...] = ({}, {"inference.use_batch_stats": False}, {"inference.dropout": False})
    results = [
        densevision.predict(image, weights=tmp_path / "net.safetensors", task="translation", overrides=mode).image
        for mode in modes
    ]
    assert all(not np.array_equal(results[0], other) for other in results[1:])
    card = load_card(tmp_path / "net.safetensors")
    assert card.config["inference"] == {"use_batch_stats": True, "dropout": True, "seed": 0, "resize": True}


def test_metric__averages_and_merges():
    rng = np.random.default_rng(1)
    pairs = [tuple(rng.integers(0, 256, (20, 24, 3), np.uint8) for _ in range(2)) for _ in range(3)]
    metrics = [TranslationMetric(), TranslationMetric()]
    for number, (prediction, truth) in enumerate(pairs):
        metrics[number % 2].update(Image.from_source(prediction), Image.from_source(truth), number)
    metrics[1].merge(metrics[0])
    values = metrics[1].compute()
    assert values["L1"] == pytest.approx(np.mean([np.abs(a.astype(float) - b).mean() / 255 for a, b in pairs]))
    assert values["PSNR"] == pytest.approx(np.mean([psnr(a, b) for a, b in pairs]))
    assert values["SSIM"] == pytest.approx(np.mean([ssim(a, b) for a, b in pairs]))


def test_metric__exact_images_are_counted_and_left_out_of_the_mean():
    metric, image = TranslationMetric(), make_noise(16, 16, 3)
    metric.update(Image.from_source(image), Image.from_source(image), 0)
    assert metric.compute()["PSNR"] == math.inf
    metric.update(Image.from_source(255 - image), Image.from_source(image), 1)
    assert metric.compute()["PSNR"] == pytest.approx(psnr(255 - image, image))
    assert metric.counts()["exact images"] == 1 and metric.counts()["images"] == 2


def test_metric__frechet_distance_of_mean_colors():
    def compute_mean_color(image: np.ndarray) -> np.ndarray:
        return image.mean((0, 1)).astype(np.float64)

    metric = TranslationMetric(compute_mean_color, "mean colors")
    images = np.random.default_rng(2).integers(0, 100, (6, 16, 16, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        metric.update(Image.from_source(image + 51), Image.from_source(image), number)
    assert metric.compute()["FD"] == pytest.approx(3 * 0.2**2, abs=1e-6)  # same covariance, means 51 / 255 apart
    assert "mean colors" in metric.protocol["FD"]
    unpickled = pickle.loads(pickle.dumps(metric))
    assert unpickled.extract_features is None and unpickled.compute() == metric.compute()


@pytest.mark.realdata
def test_metric__frechet_distance_of_a_backbone(real_data: Path):
    weights = real_data / "weights/mobilenetv2_100.safetensors"
    features = {"name": "mobilenetv2_100", "pretrained": str(weights)}
    task = Translation(TranslationConfig.from_dict({"quality": {"frechet": True, "features": features}}))
    rng = np.random.default_rng(3)
    same, other = task.build_metric(), task.build_metric()
    for number in range(3):
        image = rng.integers(0, 256, (64, 64, 3), np.uint8)
        same.update(Image.from_source(image), Image.from_source(image), number)
        other.update(Image.from_source(image // 3), Image.from_source(image), number)
    assert same.compute()["FD"] == pytest.approx(0, abs=1e-6) and other.compute()["FD"] > 0.1
    assert str(weights) in same.protocol["FD"]


def make_run(folder: Path, **settings: Any) -> dict[str, Any]:
    """Options of a run on four small pairs, with an image pool and a moving average."""
    for number in range(5):
        split = "val" if number == 4 else "train"
        write_image(folder / "data" / split / f"{number}.png", make_noise(36, 72, 3) // (number + 1))
    options = {"data.path": str(folder / "data"), "train.epochs": 3, "train.batch": 2, "train.ema_decay": 0.9}
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return {**TINY, **options, "loss.adversarial.pool_size": 3, **values}


def test_resume__restores_both_optimizers_and_the_image_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = make_run(tmp_path)
    whole = api.train("translation", overrides=options, out=tmp_path / "whole", quiet=True)
    end_epoch = EpochEnd.__call__

    def end_and_interrupt(self: EpochEnd, row: dict[str, float]) -> bool:
        is_stopped = end_epoch(self, row)
        if row["epoch"] == 2:
            raise KeyError("interrupted")
        return is_stopped

    with monkeypatch.context() as patch, pytest.raises(KeyError):
        patch.setattr(EpochEnd, "__call__", end_and_interrupt)
        api.train("translation", overrides=options, out=tmp_path / "cut", quiet=True)
    cut = api.train(resume=tmp_path / "cut", quiet=True)
    first, second = (load_file(folder / "last.safetensors") for folder in (whole, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    states = [torch.load(folder / "last.ckpt", weights_only=True)["module"] for folder in (whole, cut)]
    pools = [{name: tensor for name, tensor in state.items() if "image_pool" in name} for state in states]
    assert sorted(int(tensor) for name, tensor in pools[0].items() if name.endswith("count")) == [3]
    assert len(pools[0]) == 2 and all(torch.equal(pools[0][name], pools[1][name]) for name in pools[0])


def test_train__warmup_without_discriminator_and_a_preview(tmp_path: Path):
    options = make_run(tmp_path, loss__generator_warmup_epochs=1, train__epochs=2)
    folder = api.train("translation", overrides=options, out=tmp_path / "run", quiet=True)
    first, second = RunFolder(folder).read_rows()
    assert not first.get("train/discriminator") and float(second["train/discriminator"]) > 0
    assert list((folder / "plots").glob("*.jpg"))


@pytest.mark.slow
def test_train__two_processes_equal_one(tmp_path: Path):
    """Instance norms depend on one image, and without dropout and momentum only the sum of the gradients matters."""
    options = make_run(tmp_path, norm="instance", model__dropout=0.0, train__optimizer="sgd", train__lr=1e-3)
    options |= {"train.epochs": 2, "loss.adversarial.pool_size": 0, "train.betas": (0.9, 0.999)}
    weights = []
    for devices, batch in ((1, 2), (2, 1)):
        chosen = {**options, "train.devices": devices, "train.batch": batch}
        arguments = [part for name, value in chosen.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        out = tmp_path / f"devices{devices}"
        command = [
            sys.executable,
            "-m",
            "densevision",
            "translation",
            "train",
            *arguments,
            "--out",
            str(out),
            "--quiet",
        ]
        process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert process.returncode == 0, process.stderr[-2000:]
        weights.append(load_file(out / "last.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-6, rtol=1e-4)


def test_verbs__on_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = make_run(tmp_path, train__epochs=1)
    weights = str(api.train("translation", overrides=options, out=tmp_path / "run", quiet=True) / "best.safetensors")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        run_command_line(["translation", *arguments])
        return capsys.readouterr().out

    report = json.loads(run("evaluate", "--weights", weights, "--data", options["data.path"], "--json"))
    assert {"L1", "PSNR", "SSIM"} == report["metrics"].keys() and report["counts"]["images"] == 1
    source, out = tmp_path / "source", tmp_path / "out"
    write_image(source / "a.png", make_noise(20, 30, 3))
    run("predict", str(source), "--weights", weights, "--out", str(out))
    assert any(file.stem.startswith("a") for file in out.rglob("*.png"))
    scored = json.loads(run("score", "--truth", str(source), "--predictions", str(source), "--json"))
    assert scored["metrics"]["L1"] == 0 and scored["metrics"]["SSIM"] == pytest.approx(1)
    assert "translation" in run("info", "--weights", weights)


@pytest.mark.export
@pytest.mark.parametrize("arch", ["pix2pix_unet", pytest.param("pix2pix_resnet", marks=pytest.mark.slow)])
def test_export__onnx_with_dropout_and_any_size(arch: str, tmp_path: Path):
    import onnxruntime

    predictor = build(arch=arch, model__depth=4, inference__resize=False)
    path = api.export("translation", predictor, out=tmp_path / "net.onnx")
    image = make_noise(40, 56, 3)
    first, second = (each.predict(image, precision="float32").image for each in (api.load(path), predictor))
    assert np.abs(first.astype(int) - second).max() <= 1
    # Other programs know nothing of multiples: the graph itself pads.
    session = onnxruntime.InferenceSession(str(path))
    planes = torch.rand(2, 3, 37, 50)
    with torch.no_grad():
        expected = predictor.model(image=planes)["image"].numpy()
    np.testing.assert_allclose(session.run(None, {"image": planes.numpy()})[0], expected, atol=1e-5)
