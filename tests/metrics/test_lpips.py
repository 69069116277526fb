"""LPIPS against torchmetrics with the same random features, and files that are not its weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from densevision.errors import UsageError, WeightsError
from densevision.metrics.lpips import load_lpips
from densevision.results import Image
from densevision.tasks.superres.config import SuperresConfig
from densevision.tasks.superres.task import Superres

NETWORKS = {"alex": (models.alexnet, 12), "vgg": (models.vgg16, 30)}


def write_features(name: str, folder: Path) -> Path:
    """A file of random weights like those of torchvision, without the classifier, which LPIPS does not use."""
    torch.manual_seed(0)
    build, _ = NETWORKS[name]
    layers = build(weights=None).features
    state = {f"features.{key}": tensor for key, tensor in layers.state_dict().items()}
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def make_pair() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    one = torch.rand(2, 3, 76, 70, generator=generator)
    return [one, (one + 0.2 * torch.randn(one.shape, generator=generator)).clamp(0, 1)]


@pytest.mark.parity
@pytest.mark.parametrize("name", list(NETWORKS))
def test_lpips__equals_torchmetrics(name: str, tmp_path: Path):
    from torchmetrics.functional.image.lpips import _LPIPS

    path = write_features(name, tmp_path)
    ours = load_lpips(str(path))
    reference = _LPIPS(net=name, pnet_rand=True)
    numbered = {f"{key.split('.', 1)[1]}": tensor for key, tensor in reference.net.state_dict().items()}
    assert numbered.keys() == ours.features.state_dict().keys()
    reference.net.load_state_dict(
        {key: ours.features.state_dict()[key.split(".", 1)[1]] for key in reference.net.state_dict()}
    )
    one, other = make_pair()
    expected = reference(one, other, normalize=True).flatten()
    assert expected.min() > 1e-4
    torch.testing.assert_close(ours(one, other), expected, rtol=1e-4, atol=1e-6)
    assert ours(one, one).abs().max() == 0


def test_lpips__small_and_unknown_images_are_nan(tmp_path: Path):
    network = load_lpips(str(write_features("alex", tmp_path)))
    gray = np.full((64, 64, 1), 0.5, np.float32)
    assert network.compare_images(gray, gray) == 0
    assert math.isnan(network.compare_images(gray[:40], gray[:40]))
    unknown = gray.copy()
    unknown[3, 3] = np.nan
    assert math.isnan(network.compare_images(gray, unknown))


def test_superres_metric__with_lpips_weights(tmp_path: Path):
    path = str(write_features("alex", tmp_path))
    config = SuperresConfig.from_dict({"quality": {"lpips": path}})
    metric, other = Superres(config).build_metric(), Superres(config).build_metric()
    one, two = (Image.from_source(np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()), 2) for image in make_pair())
    metric.update(one, one, "same")
    other.update(two, one, "noisy")
    metric.merge(other)
    table = metric.tables()["per image"]
    assert table["same"]["LPIPS"] == 0
    inside = [image[:1, :, 2:-2, 2:-2] for image in make_pair()]
    assert table["noisy"]["LPIPS"] == pytest.approx(float(load_lpips(path)(*inside)), rel=1e-4)
    assert metric.compute()["LPIPS"] == pytest.approx(table["noisy"]["LPIPS"] / 2)
    assert metric.counts()["images"] == 2 and path in metric.protocol["LPIPS"]
    assert list(Superres(SuperresConfig()).build_metric().compute()) == ["PSNR_Y_crop2", "SSIM_Y_crop2"]


def test_load_lpips__other_files(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"gone\.pth"):
        load_lpips(str(tmp_path / "gone.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        load_lpips(str(tmp_path / "text.pth"))
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "small.safetensors")
    with pytest.raises(WeightsError, match=r"small\.safetensors"):
        load_lpips(str(tmp_path / "small.safetensors"))
    save_file({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"part\.safetensors"):
        load_lpips(str(tmp_path / "part.safetensors"))
    with pytest.raises(UsageError, match=r"quality\.lpips"):
        SuperresConfig.from_dict({"quality": {"lpips": "a.pth"}, "backbone": {"channels": 4}})
