"""Superres as a whole: its networks, what it keeps of an image, its tiles, its two phases, its configs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import densevision
from densevision import api
from densevision import published_weights as zoo
from densevision.errors import UsageError, WeightsError
from densevision.evaluation.evaluate import evaluate
from densevision.inference.predictor import TorchModel, without_weights
from densevision.io.image import write_image
from densevision.io.video import VideoWriter
from densevision.io.weights import Card
from densevision.ops.imresize import _phases, imresize
from densevision.results import Image
from densevision.tasks.superres.config import SIZED, SuperresConfig
from densevision.tasks.superres.models.superres_head import build_head
from densevision.tasks.superres.scoring import score
from densevision.tasks.superres.task import Superres
from densevision.testing import check_task

ROOT = Path(__file__).parents[3]
TINY = {"data.path": "scenes:8:0", "width": 8, "depth": 2, "data.crop": 16}
GAN = {
    "loss.adversarial.weight": 0.1,
    "loss.adversarial.width": 4,
    "loss.perceptual.weight": 0.1,
    "loss.perceptual.backbone.name": "mobilenetv3_small_050",
    "loss.perceptual.strides": (2, 4),
}
ARCHITECTURES = [
    ("edsr", 2), ("edsr", 3), ("edsr", 8), ("edsr", 1), ("rrdb", 1), ("rrdb", 2), ("rrdb", 3), ("srvgg", 4),
    ("srcnn", 2), ("fsrcnn", 3), ("espcn", 2), ("vdsr", 2), ("nafnet", 1), ("nearest", 2), ("bilinear", 3),
    ("bicubic", 4),
]  # fmt: skip

QUICK = (("bicubic", 4), ("rrdb", 2))
"""The networks whose exports are translated to ONNX by default."""


def config(arch: str = "edsr", scale: int = 2, **more) -> SuperresConfig:
    sizes = {"width": 8, "depth": 2} if arch in SIZED else {}
    return SuperresConfig.checked({"arch": arch, "scale": scale, **sizes, **more})


def model(arch: str = "edsr", scale: int = 2, **more) -> TorchModel:
    torch.manual_seed(0)
    chosen = config(arch, scale, **more)
    task = Superres(chosen)
    return TorchModel(task, task.net().eval(), Card(task="superres", config=chosen.plain()))


def noise(*shape: int, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32) if kind is np.float32 else rng.integers(0, np.iinfo(kind).max, shape, kind)


def test_contract():
    check_task(Superres, SuperresConfig.resolve(None, TINY))


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        GAN,
        {"arch": "unet", "depth": None, "backbone.name": "mobilenetv3_small_050"},
        {"arch": "nafnet", "scale": 1, "degrade.chain": "real-esrgan"},
    ],
)
def test_contract__of_every_kind(more: dict):
    check_task(Superres, SuperresConfig.resolve(None, {**TINY, **more}))


@pytest.mark.parametrize(("arch", "scale"), ARCHITECTURES)
def test_network__any_size_and_no_further_than_it_says(arch: str, scale: int):
    torch.manual_seed(0)
    head = build_head(config(arch, scale), [3]).eval()
    for size in ((1, 1), (7, 5)):
        answer = head([torch.rand(2, 3, *size)])["image"]
        assert answer.shape == (2, 3, size[0] * scale, size[1] * scale)
    if head.receptive_field_radius is None:
        return
    side = 4 * (2 * head.receptive_field_radius // 4 + 4)
    image = torch.rand(1, 3, side, side, requires_grad=True)
    answer = head([image])["image"]
    for pixel in range(side // 2 * scale, side // 2 * scale + max(scale, 4)):
        (gradient,) = torch.autograd.grad(answer[0, :, pixel, pixel].sum(), image, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero() - pixel // scale
        assert seen.abs().max() <= head.receptive_field_radius


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_predict__keeps_type_gray_and_alpha(kind: type, channels: int):
    image = noise(13, 9, channels, kind=kind)
    whole = densevision.predict(image, weights=model())
    assert whole.image.shape == (26, 18, channels) and whole.image.dtype == kind
    tiled = densevision.predict(image, weights=model(), tile=32)
    np.testing.assert_allclose(tiled.image, whole.image, atol=1 if kind is not np.float32 else 1e-4)
    if channels in (2, 4):
        alpha = torch.from_numpy(image[..., -1].astype(np.float64))[None, None]
        wanted = imresize(alpha, (26, 18))[0, 0].numpy().clip(0, 1 if kind is np.float32 else np.iinfo(kind).max)
        np.testing.assert_allclose(whole.image[..., -1], wanted, atol=0.51 if kind is not np.float32 else 1e-6)


@pytest.mark.parametrize(("arch", "scale"), [("edsr", 2), ("rrdb", 2), ("fsrcnn", 3), ("vdsr", 2)])
def test_predict__tiled_equals_whole(arch: str, scale: int):
    image = noise(150, 170, 4, kind=np.float32)
    network = model(arch, scale, **({"depth": 1} if arch == "rrdb" else {}))
    whole = densevision.predict(image, weights=network, precision="float32")
    tiled = densevision.predict(image, weights=network, precision="float32", tile=128, overlap=0.0)
    assert np.abs(tiled.image - whole.image).max() < 1e-4


@pytest.mark.parametrize("tile", [1, 32, 33, 37, 40])
@pytest.mark.parametrize(("arch", "scale"), [("edsr", 1), ("bicubic", 3), ("rrdb", 2)])
def test_predict__small_tiles_equal_the_whole_too(arch: str, scale: int, tile: int):
    image = noise(83, 97, 3, kind=np.float32)
    network = model(arch, scale, **({} if arch == "bicubic" else {"depth": 1}))
    whole = densevision.predict(image, weights=network, precision="float32")
    tiled = densevision.predict(image, weights=network, precision="float32", tile=tile)
    assert np.abs(tiled.image - whole.image).max() < 1e-4


def test_predict__eightfold_ensemble_of_a_turned_image():
    image = noise(20, 30, 3, kind=np.float32)
    network = model()
    options = {"weights": network, "precision": "float32", "tta": ("flip", "rotate")}
    upright, turned = (densevision.predict(one, **options).image for one in (image, np.rot90(image).copy()))
    np.testing.assert_allclose(np.rot90(upright), turned, atol=1e-5)
    with pytest.raises(UsageError, match="has no effect on superres"):
        densevision.predict(image, weights=network, tta="scale")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_evaluate__and_score_give_the_same_numbers(channels: int, tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "val/HR" / f"{number}.png", noise(32, 40, channels))
        write_image(tmp_path / "val/LR" / f"{number}.png", noise(16, 20, channels))
    network = model("edsr", 2)
    for result, name in zip(network.predict(tmp_path / "val/LR"), ("0", "1")):
        result.save(tmp_path / "out" / f"{name}.png")
    network.configure({"data.path": str(tmp_path)})
    judged = evaluate(network, network.task.dataset("val")).report.metrics
    scored = score(tmp_path / "val/HR", tmp_path / "out")["metrics"]
    assert judged and all(scored[name] == value for name, value in judged.items())


def test_predict__video_frame_by_frame(tmp_path: Path):
    with VideoWriter(tmp_path / "a.mp4", 25) as video:
        for _ in range(3):
            video.write(noise(16, 20, 3))
    answers = densevision.predict(tmp_path / "a.mp4", weights=model())
    assert iter(answers) is answers and [next(answers).size for _ in range(3)] == [(32, 40)] * 3


def test_built_in__interpolation_by_name_at_any_scale():
    image = noise(8, 6, 3)
    for scale in (2, 3):
        result = densevision.predict(
            image, task="superres", weights="bicubic", set={"scale": scale}, precision="float32"
        )
        pixels = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
        wanted = imresize(pixels, (8 * scale, 6 * scale))[0].permute(1, 2, 0).numpy().clip(0, 255)
        np.testing.assert_allclose(result.image, wanted, atol=0.51)


def test_set__a_scale_that_the_weights_do_not_have(tmp_path: Path):
    model("edsr", 2).save(tmp_path / "x2.safetensors")
    with pytest.raises(WeightsError, match=r"network without this \(got 'scale=3'\)"):
        api.load(tmp_path / "x2.safetensors", "superres", set={"scale": 3})
    model("vdsr", 2).save(tmp_path / "any.safetensors")
    network = api.load(tmp_path / "any.safetensors", "superres", set={"scale": 3})
    assert network.predict(noise(5, 4, 3)).size == (15, 12)


def test_evaluate__weights_of_another_data_set_forget_its_splits(tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "other" / f"{number}.png", noise(32, 40, 3))
    network = model("edsr", 2, data={"path": "there", "train": ("a", "b"), "val": "c"})
    report = api.evaluate(network, str(tmp_path / "other"))
    assert report.counts["images"] == 2
    assert list(report.metrics) == ["PSNR_Y_crop2", "SSIM_Y_crop2"]


def test_train__interpolation_has_nothing_to_learn(tmp_path: Path):
    with pytest.raises(UsageError, match="nothing to learn"):
        api.train("superres", "scenes:4", set={"arch": "bicubic"}, out=tmp_path / "run")


def test_train__a_community_network_cannot_be_trained(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be trained"):
        api.train("superres", "scenes:4", set={"arch": "community"}, out=tmp_path / "run")


def test_inputs__canvases_are_multiples_and_answers_those_of_the_network():
    image = noise(33, 50, 3, kind=np.float32)
    for arch, scale, multiple in (("rrdb", 1, 4), ("rrdb", 2, 2), ("rrdb", 4, 1), ("nafnet", 1, 16), ("edsr", 2, 1)):
        network = model(arch, scale, **({"depth": 1}))
        assert network.task.inputs["image"].multiple_of == multiple
        with torch.no_grad():
            alone = network.net(image=torch.from_numpy(image).permute(2, 0, 1)[None])["image"][0].permute(1, 2, 0)
        answer = network.predict(image, precision="float32")
        np.testing.assert_allclose(answer.image, alone.numpy().clip(0, 1), atol=1e-5)


@pytest.mark.export
@pytest.mark.parametrize(
    ("arch", "scale"),
    [
        pytest.param(arch, scale, marks=() if (arch, scale) in QUICK else pytest.mark.slow)
        for arch, scale in (*ARCHITECTURES, ("unet", 2))
    ],
)
def test_export__onnx_of_every_network(arch: str, scale: int, tmp_path: Path):
    _phases.cache_clear()  # as in a process that has enlarged nothing yet
    more = {"backbone": {"name": "mobilenetv3_small_050"}} if arch == "unet" else {}
    more |= {"depth": 1} if arch == "rrdb" else {"residual": True} if arch == "srvgg" else {}
    network = model(arch, scale, **more)
    again = api.load(api.export(network, tmp_path / "x.onnx"), "superres")
    image = noise(19, 2, 3, kind=np.float32)
    ours, theirs = (one.predict(image, precision="float32").image for one in (network, again))
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.export
@pytest.mark.slow
def test_export__starter_in_a_fresh_process(tmp_path: Path):
    command = [sys.executable, "-m", "densevision", "superres", "export", "--out", str(tmp_path / "x.onnx")]
    subprocess.run(command, check=True)
    image = noise(19, 26, 3, kind=np.float32)
    answers = [
        densevision.predict(image, "superres", file, precision="float32") for file in (tmp_path / "x.onnx", None)
    ]
    np.testing.assert_allclose(answers[0].image, answers[1].image, atol=1e-4)


def test_export__set_changes_the_network_and_the_card(tmp_path: Path):
    out = tmp_path / "x.pt2"
    api.export("bicubic", out, "superres", "torch", set={"scale": 3})
    image = noise(8, 6, 3)
    wanted = densevision.predict(image, "superres", "bicubic", set={"scale": 3}, precision="float32")
    found = api.load(out, "superres").predict(image)
    assert found.scale == 3
    np.testing.assert_array_equal(found.image, wanted.image)


@pytest.mark.slow
def test_export__a_guard_does_not_refuse_a_single_image(tmp_path: Path):
    network = api.load(api.export(model("nafnet", 1, depth=1), tmp_path / "x.pt2", format="torch"), "superres")
    assert network.predict(noise(20, 20, 3)).size == (20, 20)


JUNK = {
    "bytes": (b"\x80\x02junk", "not a checkpoint that can be read"),
    "module": (torch.nn.Conv2d(1, 1, 1), r"not a checkpoint that can be read.*torch.save\(network.state_dict"),
    "nested": ({"model": {}, "epoch": 3}, r"is no state dict.*\['model', 'epoch'\]"),
    "list": ([1], "is no state dict.*'list'"),
}


def write_junk(path: Path, junk: object) -> Path:
    path.write_bytes(junk) if isinstance(junk, bytes) else torch.save(junk, path)
    return path


@pytest.mark.parametrize("kind", JUNK)
def test_convert__junk_is_told_in_one_line(kind: str, tmp_path: Path):
    junk, message = JUNK[kind]
    with pytest.raises(WeightsError, match=message) as caught:
        zoo.convert("realesrgan/x4plus", write_junk(tmp_path / "junk.pth", junk), tmp_path / "out.safetensors")
    told = str(caught.value)
    # torch advises to run whatever the file holds.
    assert "\n" not in told.strip() and "can still be loaded" not in told and ".." not in told


@pytest.mark.parametrize(
    ("junk", "message"),
    [
        ({"head.0.weight": torch.zeros(1)}, "that spandrel does not know.*python tools/convert.py"),
        (b"<html>", "spandrel cannot load it: .*fetch it again"),
        (torch.nn.Conv2d(1, 1, 1), "spandrel cannot load it: .*state dicts"),
    ],
)
def test_community__what_spandrel_cannot_load(junk: object, message: str, tmp_path: Path):
    pytest.importorskip("spandrel")
    with pytest.raises(WeightsError, match=message) as caught:
        api.load(write_junk(tmp_path / "junk.pth", junk), "superres")
    assert ".." not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arch": "nafnet", "scale": 2}, "nafnet restores at scale 1"),
        ({"arch": "espcn", "width": 8}, "width has no effect with arch=espcn"),
        ({"arch": "bicubic", "residual": True}, "residual has no effect"),
        ({"backbone": {"name": "resnet18"}}, "backbone has no effect with arch=edsr"),
        ({"loss": {"l1": 0}}, "all losses have the weight 0"),
        ({"loss": {"alone": 3}}, "loss.generator_warmup_epochs has no effect"),
        ({"degrade": {"noise": (0.2, 0.1)}}, "degrade.noise reads"),
        ({"degrade": {"chain": "real-esrgan", "blur": (1.0, 2.0)}}, "degrade.blur has no effect"),
        ({"degrade": {"jpeg": (30, 90)}, "backbone": {"channels": 4}}, "degrade.jpeg needs gray or RGB"),
        ({"arch": "vdsr", "depth": 1}, "depth of arch=vdsr is 2 at least"),
    ],
)
def test_config__refuses_what_has_no_effect(values: dict, message: str):
    with pytest.raises(UsageError, match=message):
        SuperresConfig.checked(values)


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "superres").glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes__are_valid(file: Path):
    chosen = SuperresConfig.resolve(file)
    with torch.device("meta"):
        net = Superres(chosen).net()
    if file.stem == "scenes":
        assert sum(weight.numel() for weight in net.parameters()) < 3e6


def test_without_weights__knows_what_it_is():
    network = without_weights("superres", {"arch": "bicubic", "scale": 4})
    assert network.task.output_size((3, 5)) == (12, 20)
    assert not list(network.net.parameters())
    assert isinstance(network.predict(noise(4, 4, 3)), Image)
