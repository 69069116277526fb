"""Translation as a whole: what it keeps of an image, its modes, its numbers, its two optimizers, its verbs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import densevision
from densevision import api
from densevision.cli.main import run as command_line
from densevision.errors import UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import read_image, write_image
from densevision.io.weights import Card, load_card
from densevision.metrics.image_quality import psnr, ssim
from densevision.results import Image
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.metrics import TranslationMetric
from densevision.tasks.translation.task import Translation
from densevision.training.checkpointer import ValidationCallback

TINY = {"data.size": 32, "width": 4, "loss.adversarial.width": 4, "train.precision": "float32"}


def model(**more) -> TorchPredictor:
    torch.manual_seed(0)
    settings = {name.replace("__", "."): value for name, value in more.items()}
    config = TranslationConfig.resolve(None, {**TINY, **settings})
    task = Translation(Translation.infer_from_data(config))
    return TorchPredictor(task, task.build_model().eval(), Card(task="translation", config=task.config.plain()))


def noise(*shape: int, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32) if kind is np.float32 else rng.integers(0, np.iinfo(kind).max, shape, kind)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_predict__keeps_type_and_alpha(kind: type, channels: int):
    image = noise(13, 9, channels, kind=kind)
    result = densevision.predict(image, weights=model())
    assert result.image.dtype == kind and result.image.shape == (13, 9, 3 + (channels in (2, 4)))
    if channels in (2, 4):
        np.testing.assert_array_equal(result.image[..., -1], image[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (64, 64), (129, 65)])
@pytest.mark.parametrize("resize", [True, False])
def test_predict__any_size(size: tuple[int, int], resize: bool):
    network = model(inference__resize=resize)
    assert densevision.predict(noise(*size, 3), weights=network).size == size


def test_predict__at_its_own_size_is_padding_and_cropping():
    """The canvas is the image continued by its edge; what lies inside the image is the answer."""
    network = model(inference__resize=False, depth=3, norm="instance", dropout=0.0)
    image = noise(21, 30, 3, kind=np.float32)
    canvas = np.pad(image, ((0, 3), (0, 2), (0, 0)), "edge")
    with torch.no_grad():
        wanted = network.model(image=torch.from_numpy(canvas).permute(2, 0, 1)[None])["image"]
    found = densevision.predict(image, weights=network, precision="float32").image
    np.testing.assert_allclose(found, wanted[0, :, :21, :30].permute(1, 2, 0), atol=1e-5)


def test_predict__same_answer_twice_with_the_noise_on():
    image, network = noise(40, 50, 3), model()
    one, again = (densevision.predict(image, weights=network).image for _ in range(2))
    other = densevision.predict(image, weights=model(inference__seed=3)).image
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_predict__batches_of_images_answer_like_single_ones():
    images, network = [noise(32, 32, 3), noise(32, 32, 3)[::-1].copy()], model()
    together = densevision.predict(images, weights=network, batch=2, precision="float32")
    for image, result in zip(images, together):
        alone = densevision.predict(image, weights=network, precision="float32").image
        assert np.abs(result.image.astype(int) - alone).max() <= 1


def test_predict__tiles_only_at_its_own_size():
    image = noise(70, 90, 3)
    assert densevision.predict(image, weights=model(inference__resize=False), tile=64).size == (70, 90)
    with pytest.raises(UsageError, match="tile: has no effect on translation"):
        densevision.predict(image, weights=model(), tile=64)
    with pytest.raises(UsageError, match="has no effect on translation"):
        densevision.predict(image, weights=model(), tta="scale")


def test_predict__mirrored_look_of_a_mirrored_image():
    image, network = noise(32, 64, 3, kind=np.float32), model()
    options = {"weights": network, "precision": "float32", "tta": "flip"}
    upright, mirrored = (densevision.predict(one, **options).image for one in (image, image[:, ::-1].copy()))
    np.testing.assert_allclose(upright[:, ::-1], mirrored, atol=1e-5)
    assert not np.allclose(upright, densevision.predict(image, weights=network, precision="float32").image, atol=1e-3)


def test_set__modes_of_the_same_weights(tmp_path: Path):
    model().save(tmp_path / "net.safetensors")
    image = noise(32, 32, 3)
    modes = ({}, {"inference.norm": "running"}, {"inference.dropout": False})
    answers = [
        densevision.predict(image, weights=tmp_path / "net.safetensors", task="translation", set=mode).image
        for mode in modes
    ]
    assert all(not np.array_equal(answers[0], other) for other in answers[1:])
    card = load_card(tmp_path / "net.safetensors")
    assert card.config["inference"] == {"norm": "batch", "dropout": True, "seed": 0, "resize": True}


def test_metric__numbers_by_hand_and_merged():
    rng = np.random.default_rng(1)
    pairs = [tuple(rng.integers(0, 256, (20, 24, 3), np.uint8) for _ in range(2)) for _ in range(3)]
    metrics = [TranslationMetric(), TranslationMetric()]
    for number, (answer, truth) in enumerate(pairs):
        metrics[number % 2].update(Image.from_source(answer), Image.from_source(truth), number)
    metrics[1].merge(metrics[0])
    found = metrics[1].compute()
    wanted = [np.abs(a.astype(float) - b).mean() / 255 for a, b in pairs]
    assert found["L1"] == pytest.approx(np.mean(wanted))
    assert found["PSNR"] == pytest.approx(np.mean([psnr(a, b) for a, b in pairs]))
    assert found["SSIM"] == pytest.approx(np.mean([ssim(a, b) for a, b in pairs]))


def test_metric__frechet_distance_of_means_of_colors():
    def colors(image: np.ndarray) -> np.ndarray:
        return image.mean((0, 1)).astype(np.float64)

    metric = TranslationMetric(colors, "mean colors")
    rng = np.random.default_rng(2)
    images = rng.integers(0, 100, (6, 16, 16, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        metric.update(Image.from_source(image + 51), Image.from_source(image), number)
    assert metric.compute()["FD"] == pytest.approx(3 * 0.2**2, abs=1e-6)  # same spread, means 51 / 255 apart
    assert "mean colors" in metric.protocol["FD"]
    again = pickle.loads(pickle.dumps(metric))
    assert again.features is None and again.compute() == metric.compute()


@pytest.mark.realdata
def test_frechet__in_the_space_of_a_named_backbone(real_data: Path, tmp_path: Path):
    weights = real_data / "weights" / "mobilenetv2_100.safetensors"
    features = {"name": "mobilenetv2_100", "pretrained": str(weights)}
    config = TranslationConfig.checked({"quality": {"frechet": True, "features": features}})
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3)]
    same, other = Translation(config).metric(), Translation(config).metric()
    for number, image in enumerate(images):
        same.update(Image.from_source(image), Image.from_source(image), number)
        other.update(Image.from_source(image // 3), Image.from_source(image), number)
    assert same.compute()["FD"] == pytest.approx(0, abs=1e-6) and other.compute()["FD"] > 0.1
    assert str(weights) in same.protocol["FD"]


def run(folder: Path, **more) -> dict:
    """Settings of a run on four small pairs, with an image buffer and an average."""
    for number in range(5):
        write_image(
            folder / "data" / ("val" if number == 4 else "train") / f"{number}.png", noise(36, 72, 3) // (number + 1)
        )
    settings = {"data.path": str(folder / "data"), "train.epochs": 3, "train.batch": 2, "train.ema_decay": 0.9}
    more = {name.replace("__", "."): value for name, value in more.items()}
    return {**TINY, **settings, "loss.adversarial.buffer": 3, **more}


def test_resume__two_optimisers_and_a_buffer_continue_as_if_never_stopped(tmp_path: Path, monkeypatch):
    settings = run(tmp_path)
    whole = api.train("translation", set=settings, out=tmp_path / "whole")
    kept = ValidationCallback.on_train_epoch_end

    def killed(self, trainer, module):
        kept(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyError("killed")

    with monkeypatch.context() as patched, pytest.raises(KeyError):
        patched.setattr(ValidationCallback, "on_train_epoch_end", killed)
        api.train("translation", set=settings, out=tmp_path / "cut")
    cut = api.train(resume=tmp_path / "cut")
    one, other = (load_file(folder / "last.safetensors") for folder in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    states = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (whole, cut)]
    critics = [{name: tensor for name, tensor in state.items() if name.startswith("critic.")} for state in states]
    assert "critic.buffer.images" in critics[0] and critics[0]["critic.buffer.held"] == 3
    assert all(torch.equal(critics[0][name], critics[1][name]) for name in critics[0])


def test_train__learns_alone_first_and_leaves_a_sheet_of_answers(tmp_path: Path):
    folder = api.train(
        "translation", set=run(tmp_path, loss__generator_warmup_epochs=1, train__epochs=2), out=tmp_path / "run"
    )
    rows = [row.split(",") for row in (folder / "metrics.csv").read_text().splitlines()]
    first, second = (dict(zip(rows[0], row)) for row in rows[1:])
    assert not first.get("train/discriminator") and float(second["train/discriminator"]) > 0
    for name in ("answers.jpg", "answers_last.jpg"):
        sheet = read_image(folder / "plots" / name)
        assert sheet.shape[1] == 1600 and sheet.std() > 5


@pytest.mark.slow
def test_train__two_processes_equal_one(tmp_path: Path):
    """Instance norms see one image each, and without dropout and momentum only the sum of gradients counts."""
    settings = run(tmp_path, norm="instance", dropout=0.0, train__optimizer="sgd", train__lr=1e-3, train__epochs=2)
    settings["loss.adversarial.buffer"] = 0
    weights = []
    for devices, batch in ((1, 2), (2, 1)):
        chosen = {**settings, "train.devices": devices, "train.batch": batch}
        given = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
        out = tmp_path / f"of{devices}"
        command = [sys.executable, "-m", "densevision", "translation", "train", *given, "--out", str(out), "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-2000:]
        weights.append(load_file(out / "last.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-6, rtol=1e-4)


def test_verbs__on_one_small_run(tmp_path: Path, capsys):
    settings = run(tmp_path, train__epochs=1)
    folder = api.train("translation", set=settings, out=tmp_path / "run")
    weights = str(folder / "best.safetensors")

    def say(*arguments: str) -> str:
        capsys.readouterr()
        command_line(["translation", *arguments])
        return capsys.readouterr().out

    numbers = json.loads(say("evaluate", "--weights", weights, "--data", settings["data.path"], "--json"))
    assert {"L1", "PSNR", "SSIM"} == numbers["metrics"].keys() and numbers["counts"]["images"] == 1
    source, out = tmp_path / "source", tmp_path / "out"
    write_image(source / "a.png", noise(20, 30, 3))
    say("predict", str(source), "--weights", weights, "--out", str(out))
    assert any(file.stem.startswith("a") for file in out.rglob("*.png"))
    scored = json.loads(say("score", "--truth", str(source), "--predictions", str(source), "--json"))
    assert scored["metrics"]["L1"] == 0 and scored["metrics"]["SSIM"] == pytest.approx(1)
    assert "translation" in say("info", "--weights", weights)


@pytest.mark.export
@pytest.mark.parametrize("arch", ["unet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_export__onnx_answers_alike_with_the_noise_on(arch: str, tmp_path: Path):
    network = model(arch=arch, depth=2 if arch == "unet" else 1, inference__resize=False)
    path = api.export(network, tmp_path / "net.onnx")
    image = noise(40, 56, 3)
    given, wanted = (
        densevision.predict(image, weights=one, precision="float32").image for one in (api.load(path), network)
    )
    assert np.abs(given.astype(int) - wanted).max() <= 1
