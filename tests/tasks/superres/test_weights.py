"""Checkpoints of other projects: every wrapper, every published name, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from densevision import api
from densevision.errors import WeightsError
from densevision.published_weights import convert_weights
from densevision.tasks.superres.weights import infer_settings


def make_srvgg(width: int = 64, depth: int = 32, scale: int = 4) -> dict[str, Tensor]:
    """A state dict under the names of Real-ESRGAN's SRVGGNetCompact."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3), nn.PReLU(width)]
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3), nn.PReLU(width)]
    body = nn.ModuleList([*layers, nn.Conv2d(width, 3 * scale**2, 3)])
    return {f"body.{name}": tensor.detach().clone() for name, tensor in body.state_dict().items()}


def wrap(state: dict[str, Tensor]) -> dict[str, Any]:
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "plain": state,
        "parallel": parallel,
        "model": {"model": state, "epoch": 1},
        "state_dict": {"state_dict": state, "epoch": 1},
        "params_ema": {"params": {name: tensor * 0 for name, tensor in state.items()}, "params_ema": state},
        "params-ema": {"params-ema": state, "epoch": 1},
        "parallel in model": {"model": parallel},
        "single key": {"whatever": state},
    }


@pytest.mark.parametrize("wrapper", wrap({}))
def test_convert__every_wrapper(wrapper: str, tmp_path: Path):
    state = make_srvgg()
    torch.save(wrap(state)[wrapper], tmp_path / "published.pth")
    convert_weights("realesrgan/general-x4v3", tmp_path / "published.pth", tmp_path / "ours.safetensors")
    predictor = api.load(tmp_path / "ours.safetensors", "superres")
    torch.testing.assert_close(predictor.model.state_dict()["layers.0.weight"], state["body.0.weight"])


@pytest.mark.parametrize("name", ["small.pth", "small.PTH", "small.safetensors"])
def test_open__small_networks_of_any_size_without_spandrel(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    state = make_srvgg(16, 4, 2)
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"params": state}, tmp_path / name)
    predictor = api.load(tmp_path / name, "superres")
    config = predictor.task.config
    assert (config.arch, config.scale, config.model) == ("srvgg", 2, {"width": 16, "depth": 4})
    assert predictor.predict(np.zeros((5, 4, 3), np.uint8)).size == (10, 8)


def test_open__unknown_networks_name_the_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "spandrel", None)
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "unknown.pth")
    with pytest.raises(WeightsError) as caught:
        api.load(tmp_path / "unknown.pth", "superres")
    assert "densevision[community]" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("shapes", "settings"),
    [
        ({"head.0.weight": (64, 3, 3, 3), **{f"body.{i}.body.0.weight": (64, 64, 3, 3) for i in range(16)},
          "tail.0.0.weight": (256, 64, 3, 3), "tail.0.2.weight": (256, 64, 3, 3)}, ("edsr_baseline", 4)),
        ({"conv_first.weight": (256, 3, 3, 3), **{f"body.{i}.conv1.weight": (256, 256, 3, 3) for i in range(32)},
          "conv_after_body.weight": (256, 256, 3, 3), "upsample.0.weight": (9 * 256, 256, 3, 3)}, ("edsr_large", 3)),
        ({"head.0.weight": (80, 3, 3, 3), "body.0.body.0.weight": (80, 80, 3, 3)}, None),
        ({"conv_first.weight": (64, 12, 3, 3), "conv_last.weight": (3, 64, 3, 3), "conv_up1.weight": (64, 64, 3, 3),
          "conv_up2.weight": (64, 64, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)}, ("rrdb", 2)),
        ({"model.0.weight": (64, 3, 3, 3)}, None),
    ],
)  # fmt: skip
def test_infer_settings__from_names_and_shapes(shapes: dict[str, tuple[int, ...]], settings: tuple[str, int] | None):
    inferred = infer_settings({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert (None if inferred is None else (inferred["arch"], inferred["scale"])) == settings


@pytest.mark.realdata
def test_animevideov3__equals_spandrel(real_data: Path, tmp_path: Path):
    file = real_data / "weights/realesr_animevideov3.pth"
    if not file.exists():
        pytest.skip(f"no {file}")
    convert_weights("realesrgan/animevideov3", file, tmp_path / "ours.safetensors")
    image = np.random.default_rng(0).random((24, 31, 3), np.float32)
    converted, opened = (
        api.load(each, "superres").predict(image, precision="float32").image
        for each in (tmp_path / "ours.safetensors", file)
    )
    np.testing.assert_array_equal(converted, opened)
    spandrel = pytest.importorskip("spandrel")
    network = spandrel.ModelLoader(device="cpu").load_from_file(file).eval()
    expected = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(converted, expected, atol=1e-4)


JUNK = {
    "bytes": b"\x80\x02junk",
    "module": nn.Conv2d(1, 1, 1),
    "nested": {"model": {}, "epoch": 3},
    "list": [1],
    "html": b"<html>",
}


@pytest.mark.parametrize("kind", JUNK)
def test_junk__is_an_error_of_one_line(kind: str, tmp_path: Path):
    file = tmp_path / "junk.pth"
    file.write_bytes(JUNK[kind]) if isinstance(JUNK[kind], bytes) else torch.save(JUNK[kind], file)
    for load in (
        lambda: convert_weights("realesrgan/x4plus", file, tmp_path / "out.safetensors"),
        lambda: api.load(file, "superres"),
    ):
        with pytest.raises(WeightsError) as caught:
            load()
        message = str(caught.value)
        # torch's own message advises to run whatever the file holds.
        assert "\n" not in message.strip() and "weights_only" not in message and ".." not in message
    assert not (tmp_path / "out.safetensors").exists()


def test_convert__names_missing_and_unknown_tensors(tmp_path: Path):
    state = make_srvgg()
    state["extra.weight"] = state.pop("body.0.bias")
    torch.save(state, tmp_path / "published.pth")
    with pytest.raises(WeightsError, match=r"1 missing, such as layers\.0\.bias; 1 unknown, such as extra\.weight"):
        convert_weights("realesrgan/general-x4v3", tmp_path / "published.pth", tmp_path / "ours.safetensors")
