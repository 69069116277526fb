"""Our networks with published weights' layouts beside the references: spandrel's, and EDSR as its authors wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densevision.api import load
from densevision.errors import WeightsError
from densevision.published_weights import convert, published_weights
from densevision.run_config import PredictOptions
from densevision.tasks.superres import weights as foreign

pytestmark = pytest.mark.parity
CLOSE = 1e-4


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architectures with fewer blocks, so that the test is quick; the layout is the same."""
    depths = {"rrdb": 2, "srvgg": 3, "edsr": 2, "edsr-large": 2}
    cut = {name: {**one, "depth": depths[one["arch"]]} for name, one in foreign._SETTINGS.items()}
    monkeypatch.setattr(foreign, "_SETTINGS", cut)


def random_image(size: tuple[int, int] = (12, 16)) -> torch.Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))


def answered(name: str, state: dict, folder: Path, wrapped: str | None) -> torch.Tensor:
    torch.save({wrapped: state} if wrapped else state, folder / "theirs.pth")
    convert(name, folder / "theirs.pth", folder / "ours.safetensors")
    model = load(folder / "ours.safetensors", "superres")
    assert model.card.license == published_weights()[name].license
    return model.predict_tensors({"image": random_image()}, PredictOptions(precision="float32"))["image"]


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def basicsr_names(state: dict, blocks: int) -> dict:
    """spandrel's old-style ESRGAN names as Real-ESRGAN publishes them."""
    found = {}
    for name, tensor in state.items():
        parts = name.split(".")
        kind = parts[-1]
        if parts[1] == "0":
            found[f"conv_first.{kind}"] = tensor
        elif parts[1] == "1" and parts[3] == str(blocks):
            found[f"conv_body.{kind}"] = tensor
        elif parts[1] == "1":
            found[f"body.{parts[3]}.rdb{parts[4][-1]}.{parts[5]}.{kind}"] = tensor
        else:
            place = {"3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"}[parts[1]]
            found[f"{place}.{kind}"] = tensor
    return found


@pytest.mark.parametrize(("name", "fold"), [("realesrgan/x4plus", None), ("realesrgan/x2plus", 2)])
def test_rrdb__equals_spandrel(name: str, fold: int | None, small: None, tmp_path: Path):
    from spandrel.architectures.ESRGAN import ESRGAN

    theirs = randomised(ESRGAN(in_nc=3 * (fold or 1) ** 2, num_blocks=2, scale=4, shuffle_factor=fold))
    ours = answered(name, basicsr_names(theirs.state_dict(), 2), tmp_path, "params_ema")
    with torch.no_grad():
        assert (theirs(random_image()) - ours).abs().max() < CLOSE


def test_srvgg__equals_spandrel(small: None, tmp_path: Path):
    from spandrel.architectures.Compact import Compact

    theirs = randomised(Compact(num_feat=64, num_conv=3, upscale=4))
    ours = answered("realesrgan/general-x4v3", theirs.state_dict(), tmp_path, "params")
    with torch.no_grad():
        assert (theirs(random_image()) - ours).abs().max() < CLOSE


def nafnet_names(state: dict) -> dict:
    """spandrel's NAFNet names, which are the authors', under ours."""
    parts = {
        "norm1": "spatial.0", "conv1": "spatial.1", "conv2": "spatial.2", "sca.1": "spatial.4.weigh",
        "conv3": "spatial.5", "norm2": "pointwise.0", "conv4": "pointwise.1", "conv5": "pointwise.3",
        "intro": "first", "ending": "last", "middle_blks": "middle",
    }  # fmt: skip
    found = {}
    for name, tensor in state.items():
        for theirs, ours in parts.items():
            name = name.replace(theirs, ours)
        found[name] = tensor
    return found


def test_nafnet__equals_spandrel():
    from spandrel.architectures.NAFNet import NAFNet as Theirs

    from densevision.tasks.superres.models.nafnet import NAFNet

    theirs = randomised(Theirs(width=8, middle_blk_num=1, enc_blk_nums=[1, 1, 1, 3], dec_blk_nums=[1, 1, 1, 1]))
    ours = NAFNet(3, width=8, depth=3).eval()
    ours.load_state_dict(nafnet_names(theirs.state_dict()))
    image = random_image((32, 48))  # sides that need no padding: theirs continues an image by zeros, ours by its rim
    with torch.no_grad():
        assert (theirs(image) - ours(image)).abs().max() < CLOSE


def edsr_by_its_authors(state: dict, image: torch.Tensor, scale: int, blocks: int, strength: float) -> torch.Tensor:
    """EDSR-PyTorch's forward pass, written out for images from 0 to 255."""

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(
            x, state[f"{name}.weight"], state[f"{name}.bias"], padding=state[f"{name}.weight"].shape[2] // 2
        )

    x = shallow = conv(conv(image * 255, "sub_mean"), "head.0")
    for block in range(blocks):
        x = x + conv(F.relu(conv(x, f"body.{block}.body.0")), f"body.{block}.body.2") * strength
    x = shallow + conv(x, f"body.{blocks}")
    for index, step in enumerate([3] if scale == 3 else [2] * (scale // 2)):
        x = F.pixel_shuffle(conv(x, f"tail.0.{2 * index}"), step)
    return conv(conv(x, "tail.1"), "add_mean") / 255


def edsr_state(scale: int, width: int, blocks: int) -> dict:
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
def test_edsr__equals_its_authors_arithmetic(name: str, scale: int, small: None, tmp_path: Path):
    width, strength = (256, 0.1) if name.startswith("large") else (64, 1.0)
    state = edsr_state(scale, width, 2)
    ours = answered(f"edsr/{name}", state, tmp_path, None)
    wanted = edsr_by_its_authors(state, random_image(), scale, 2, strength)
    assert (wanted - ours).abs().max() < CLOSE * wanted.abs().max()


def edsr_by_basicsr(state: dict, blocks: int) -> dict:
    """A state dict of EDSR under basicsr's names, which keeps the mean color outside of it."""
    found = {}
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
        found[f"{part}.{kind}"] = tensor
    return found


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("half", [False, True])
def test_edsr__under_basicsr_s_names_and_in_half_precision(scale: int, half: bool, small: None, tmp_path: Path):
    state = edsr_state(scale, 64, 2)
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    ours = answered(f"edsr/baseline_x{scale}", edsr_by_basicsr(state, 2), tmp_path, "params")
    wanted = edsr_by_its_authors({k: v.float() for k, v in state.items()}, random_image(), scale, 2, 1.0)
    # The mean is ours in float32, and not rounded to half precision.
    assert (wanted - ours).abs().max() < (1e-3 if half else CLOSE) * wanted.abs().max()


def test_convert__names_unknown_and_missing_keys(small: None, tmp_path: Path):
    state = edsr_state(2, 64, 2)
    state["body.9.strange"] = state.pop("head.0.bias")
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"1 missing, such as head.bias; 1 unknown, such as body.9.strange"):
        convert("edsr/baseline_x2", tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()


def test_community__a_file_of_spandrel_answers_by_the_same_path(tmp_path: Path):
    import numpy as np
    from spandrel.architectures.Compact import Compact

    import densevision

    theirs = randomised(Compact(num_feat=16, num_conv=2, upscale=2))
    torch.save({"params": theirs.state_dict()}, tmp_path / "theirs.pth")
    image = (random_image((9, 7))[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    result = densevision.predict(image, task="superres", weights=tmp_path / "theirs.pth")
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(image / np.float32(255)).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert result.image.dtype == np.uint8 and result.scale == 2
    np.testing.assert_allclose(result.image, wanted.clamp(0, 1).numpy() * 255, atol=0.51)


def test_community__a_strange_file_is_refused(tmp_path: Path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "strange.pth")
    with pytest.raises(WeightsError, match="a network that spandrel does not know"):
        load(tmp_path / "strange.pth", "superres")
