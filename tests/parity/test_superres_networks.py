"""Networks in published layouts against references: spandrel's, and EDSR as its authors define it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision import api
from densevision.published_weights import convert_weights, list_weights
from densevision.run_config import PredictOptions
from densevision.tasks.superres import weights as superres_weights

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architectures with fewer blocks, for speed; the layout is the same."""
    depths = {"rrdb": 2, "srvgg": 3, "edsr_baseline": 2, "edsr_large": 2}
    settings = {
        name: {**options, "model": {"depth": depths[options["arch"]]}}
        for name, options in superres_weights._SETTINGS.items()
    }
    monkeypatch.setattr(superres_weights, "_SETTINGS", settings)


def make_image(size: tuple[int, int] = (12, 16)) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))


def convert_and_run(name: str, state: dict[str, Tensor], folder: Path, wrapper: str | None) -> Tensor:
    torch.save({wrapper: state} if wrapper else state, folder / "published.pth")
    convert_weights(name, folder / "published.pth", folder / "converted.safetensors")
    predictor = api.load(folder / "converted.safetensors", "superres")
    assert predictor.card.license == list_weights()[name].license
    return predictor.predict_tensors({"image": make_image()}, PredictOptions(precision="float32"))["image"]


def randomize(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def rename_like_basicsr(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """spandrel's old-style ESRGAN names as Real-ESRGAN publishes them."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        kind = parts[-1]
        if parts[1] == "0":
            renamed[f"conv_first.{kind}"] = tensor
        elif parts[1] == "1" and parts[3] == str(blocks):
            renamed[f"conv_body.{kind}"] = tensor
        elif parts[1] == "1":
            renamed[f"body.{parts[3]}.rdb{parts[4][-1]}.{parts[5]}.{kind}"] = tensor
        else:
            layer = {"3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}[parts[1]]
            renamed[f"{layer}.{kind}"] = tensor
    return renamed


@pytest.mark.parametrize(("name", "factor"), [("realesrgan/x4plus", None), ("realesrgan/x2plus", 2)])
def test_rrdb__equals_spandrel(name: str, factor: int | None, small: None, tmp_path: Path):
    from spandrel.architectures.ESRGAN import ESRGAN

    reference = randomize(ESRGAN(in_nc=3 * (factor or 1) ** 2, num_blocks=2, scale=4, shuffle_factor=factor))
    output = convert_and_run(name, rename_like_basicsr(reference.state_dict(), 2), tmp_path, "params_ema")
    with torch.no_grad():
        assert (reference(make_image()) - output).abs().max() < TOLERANCE


def test_srvgg__equals_spandrel(small: None, tmp_path: Path):
    from spandrel.architectures.Compact import Compact

    reference = randomize(Compact(num_feat=64, num_conv=3, upscale=4))
    output = convert_and_run("realesrgan/general-x4v3", reference.state_dict(), tmp_path, "params")
    with torch.no_grad():
        assert (reference(make_image()) - output).abs().max() < TOLERANCE


def rename_nafnet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' NAFNet names, which spandrel uses, under ours."""
    parts = {
        "norm1": "spatial.0", "conv1": "spatial.1", "conv2": "spatial.2", "sca.1": "spatial.4.weigh",
        "conv3": "spatial.5", "norm2": "pointwise.0", "conv4": "pointwise.1", "conv5": "pointwise.3",
        "intro": "first", "ending": "last", "middle_blks": "middle",
    }  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        for published, ours in parts.items():
            name = name.replace(published, ours)
        renamed[name] = tensor
    return renamed


def test_nafnet__equals_spandrel():
    from spandrel.architectures.NAFNet import NAFNet as ReferenceNAFNet

    from densevision.tasks.superres.models.nafnet import NAFNet

    reference = randomize(
        ReferenceNAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1, 1, 3], dec_blk_nums=[1, 1, 1, 1])
    )
    model = NAFNet(width=8, depth=3).eval()
    model.load_state_dict(rename_nafnet(reference.state_dict()))
    image = make_image((32, 48))  # sides that need no padding: the reference pads with zeros
    with torch.no_grad():
        assert (reference(image) - model(image)["image"]).abs().max() < TOLERANCE


def run_edsr(state: dict[str, Tensor], image: Tensor, scale: int, blocks: int, residual_scale: float) -> Tensor:
    """EDSR-PyTorch's forward pass, for images from 0 to 255."""

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(
            x, state[f"{name}.weight"], state[f"{name}.bias"], padding=state[f"{name}.weight"].shape[2] // 2
        )

    x = shallow = conv(conv(image * 255, "sub_mean"), "head.0")
    for block in range(blocks):
        x = x + conv(F.relu(conv(x, f"body.{block}.body.0")), f"body.{block}.body.2") * residual_scale
    x = shallow + conv(x, f"body.{blocks}")
    for index, step in enumerate([3] if scale == 3 else [2] * (scale // 2)):
        x = F.pixel_shuffle(conv(x, f"tail.0.{2 * index}"), step)
    return conv(conv(x, "tail.1"), "add_mean") / 255


def make_edsr_state(scale: int, width: int, blocks: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"head.0": (width, 3), f"body.{blocks}": (width, width), "tail.1": (3, width)}
    for block in range(blocks):
        shapes |= {f"body.{block}.body.{part}": (width, width) for part in (0, 2)}
    for index, step in enumerate([3] if scale == 3 else [2] * (scale // 2)):
        shapes[f"tail.0.{2 * index}"] = (width * step**2, width)
    state = {}
    for name, (outputs, inputs) in shapes.items():
        deviation = (inputs * 9) ** -0.5
        state[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * deviation
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator)
    mean = torch.tensor([0.4488, 0.4371, 0.4040]) * 255
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.eye(3).reshape(3, 3, 1, 1), sign * mean
    return state


@pytest.mark.parametrize(
    ("name", "scale"), [("baseline_x2", 2), ("baseline_x3", 3), ("baseline_x4", 4), ("large_x2", 2)]
)
def test_edsr__equals_its_authors_forward_pass(name: str, scale: int, small: None, tmp_path: Path):
    width, residual_scale = (256, 0.1) if name.startswith("large") else (64, 1.0)
    state = make_edsr_state(scale, width, 2)
    output = convert_and_run(f"edsr/{name}", state, tmp_path, None)
    expected = run_edsr(state, make_image(), scale, 2, residual_scale)
    assert (expected - output).abs().max() < TOLERANCE * expected.abs().max()


def rename_edsr_like_basicsr(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """A state dict of EDSR under BasicSR's names; the mean color is not part of it."""
    renamed = {}
    for name, tensor in state.items():
        part, _, kind = name.rpartition(".")
        parts = part.split(".")
        if part in ("sub_mean", "add_mean"):
            continue
        if len(parts) == 4:
            part = f"body.{parts[1]}.conv{1 + int(parts[3]) // 2}"
        elif parts[:2] == ["tail", "0"]:
            part = f"upsample.{parts[2]}"
        else:
            part = {"head.0": "conv_first", f"body.{blocks}": "conv_after_body", "tail.1": "conv_last"}[part]
        renamed[f"{part}.{kind}"] = tensor
    return renamed


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("half", [False, True])
def test_edsr__basicsr_names_and_half_precision(scale: int, half: bool, small: None, tmp_path: Path):
    state = make_edsr_state(scale, 64, 2)
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    output = convert_and_run(f"edsr/baseline_x{scale}", rename_edsr_like_basicsr(state, 2), tmp_path, "params")
    expected = run_edsr({k: v.float() for k, v in state.items()}, make_image(), scale, 2, 1.0)
    # The mean color stays float32 here, and is not rounded to half precision.
    assert (expected - output).abs().max() < (1e-3 if half else TOLERANCE) * expected.abs().max()


def test_spandrel__predicts_files_like_spandrel(tmp_path: Path):
    from spandrel.architectures.SPAN import SPAN

    reference = randomize(SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2))
    torch.save({"params": reference.state_dict()}, tmp_path / "published.pth")
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    result = api.predict(image, task="superres", weights=tmp_path / "published.pth")
    with torch.no_grad():
        planes = torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None]
        expected = reference(planes)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert result.image.dtype == np.uint8 and result.scale == 2
    np.testing.assert_allclose(result.image, expected, atol=0.51)
