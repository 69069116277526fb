"""Converted Depth Anything V2 predicts as transformers does, from files of both publishers and images of any size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from densevision.errors import WeightsError
from densevision.inference.predictor import load_torch
from densevision.io.weights import load_card
from densevision.ops.view import fit_view
from densevision.results import DepthMap
from densevision.tasks.depth import weights as published

pytestmark = pytest.mark.parity

IMAGE_SIZE = 70
SMALL = published.PUBLISHED[0]
BY_NAME = {weights.name: weights for weights in published.PUBLISHED}


def make_reference(**options) -> torch.nn.Module:
    """Transformers' small network with random weights whose predictions vary."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=12,
        image_size=518,
        patch_size=14,
        out_indices=[3, 6, 9, 12],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[48, 96, 192, 384],
        reassemble_hidden_size=384,
        fusion_hidden_size=64,
        **options,
    )
    network = transformers.DepthAnythingForDepthEstimation(config).eval()
    for name, parameter in network.named_parameters():
        if name.startswith(("neck", "head")) and name.endswith("weight"):
            parameter.data.mul_(4)
        elif name == "head.conv3.bias":
            parameter.data.fill_(0.0 if options else 1.0)
    return network


def make_processor(image_size: int):
    """The processor of the published repositories, apart from the size."""
    transformers = pytest.importorskip("transformers")
    return transformers.DPTImageProcessor(
        size={"height": image_size, "width": image_size},
        keep_aspect_ratio=True,
        ensure_multiple_of=14,
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )


def predict_reference(network: torch.nn.Module, image: np.ndarray, image_size: int) -> np.ndarray:
    """The whole pipeline of transformers: preprocessing, network, postprocessing."""
    processor = make_processor(image_size)
    with torch.inference_mode():
        outputs = network(**processor(image, return_tensors="pt"))
    (result,) = processor.post_process_depth_estimation(outputs, target_sizes=[image.shape[:2]])
    return result["predicted_depth"].numpy()


def predict(file: Path, image: np.ndarray) -> DepthMap:
    return load_torch(file, "depth").predict(image, precision="float32")


def make_image(size: tuple[int, int]) -> np.ndarray:
    """Smooth and sharp structures."""
    rng = np.random.default_rng(0)
    y, x = np.indices(size)
    image = 127 + 60 * np.sin(x / 9)[..., None] + 60 * np.cos(y / 7)[..., None] + rng.normal(0, 25, (*size, 3))
    image[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = (220, 40, 90)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return make_reference()


@pytest.fixture(scope="module")
def files(reference: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its state dict as published, and converted, for small images."""
    folder = tmp_path_factory.mktemp("depth_anything")
    save_file(reference.state_dict(), folder / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "IMAGE_SIZE", IMAGE_SIZE)
        published.convert(SMALL, folder / "model.safetensors", folder / "converted.safetensors")
    return folder / "model.safetensors", folder / "converted.safetensors"


@pytest.mark.parametrize("size", [(70, 84), (48, 64), (60, 45), (150, 100), (33, 200), (71, 71)])
def test_pipeline__equals_transformers_end_to_end(
    reference: torch.nn.Module, files: tuple[Path, Path], size: tuple[int, int]
) -> None:
    """Larger and smaller images, wide and tall: resize rule, interpolation, network and the way back."""
    image = make_image(size)
    expected = predict_reference(reference, image, IMAGE_SIZE)
    result = predict(files[1], image)
    assert expected.std() > 1e-2 * abs(expected).max()
    assert abs(result.depth - expected.clip(min=0)).max() < 1e-3 * (expected.max() - expected.min())
    assert (result.kind, result.unit) == ("disparity", "")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(480, 640), (360, 480), (240, 320)])
@pytest.mark.parametrize("name", ["depth-anything/v2-small", "depth-anything/v2-metric-indoor-small"])
def test_pipeline__at_the_published_size(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """518 pixels: the largest difference in percent of the field's spread is that of two orders of sums."""
    options = {"depth_estimation_type": "metric", "max_depth": 20} if "metric" in name else {}
    reference = make_reference(**options)
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    published.convert(BY_NAME[name], tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    image = make_image(size)
    expected = predict_reference(reference, image, 518)
    spread = expected.max() - expected.min()
    percent = 100 * abs(predict(tmp_path / "out.safetensors", image).depth - expected.clip(min=0)).max() / spread
    print(f"{name} {size[1]}x{size[0]}: {percent:.4f} %")
    assert spread > 1e-3 and percent < 0.1


@pytest.mark.parametrize("size", [(240, 320), (360, 480), (480, 640), (1080, 1920), (100, 700), (517, 519)])
def test_resize_rule__equals_the_processor(size: tuple[int, int]) -> None:
    pixels = make_processor(518)(np.zeros((*size, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert fit_view(size, "closest", 518, multiple_of=14).size == tuple(pixels.shape[-2:])


def test_metric_variant__predicts_meters(tmp_path: Path) -> None:
    reference = make_reference(depth_estimation_type="metric", max_depth=20)
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "IMAGE_SIZE", IMAGE_SIZE)
        name = "depth-anything/v2-metric-indoor-small"
        published.convert(BY_NAME[name], tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    image = make_image((64, 90))
    expected = predict_reference(reference, image, IMAGE_SIZE)
    result = predict(tmp_path / "out.safetensors", image)
    assert expected.std() > 1e-3 and (result.kind, result.unit, result.max) == ("metric", "m", 20)
    assert abs(result.depth - expected.clip(min=0)).max() < 1e-3 * (expected.max() - expected.min())


@pytest.mark.parametrize("variant", ["indoor", "outdoor"])
def test_metric_variants__have_names_of_their_own(variant: str) -> None:
    max_depth = {"indoor": 20.0, "outdoor": 80.0}[variant]
    for size in published.SIZES:
        config = published.make_config(f"depth-anything/v2-metric-{variant}-{size}")
        assert (config.output, config.unit, config.max_depth, config.arch) == (
            *("metric", "m", max_depth),
            published.SIZES[size][0],
        )
    assert published.make_config("depth-anything/v2-large").unit == ""


def test_unverified_file__its_card_does_not_claim_the_name(files: tuple[Path, Path], tmp_path: Path) -> None:
    """V1, V2 and metric weights have equal tensor names: only the hash tells them apart."""
    from densevision.published_weights import convert_weights

    convert_weights("depth-anything/v2-small", files[0], tmp_path / "out.safetensors")
    card = load_card(tmp_path / "out.safetensors")
    assert "not verified" in card.data["source"]


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_authors_layout__same_tensors(files: tuple[Path, Path], wrap, tmp_path: Path) -> None:
    converted = load_file(files[1])
    state = {
        _authors_name(name): tensor for name, tensor in converted.items() if name not in ("encoder.mean", "encoder.std")
    }
    state["pretrained.mask_token"] = torch.zeros(1, 384)
    state["depth_head.scratch.refinenet4.resConfUnit1.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    torch.save(wrap(state), tmp_path / "vits.pth")
    published.convert(SMALL, tmp_path / "vits.pth", tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == converted.keys() and all(torch.equal(again[name], converted[name]) for name in converted)


def test_names_before_transformers_5__same_tensors(files: tuple[Path, Path], tmp_path: Path) -> None:
    older = {
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "o_proj": "output.dense",
    }
    state = {}
    for name, tensor in load_file(files[0]).items():
        for new, old in older.items():
            name = name.replace(f"attention.{new}", f"attention.{old}")
        state[name] = tensor
    save_file(state, tmp_path / "older.safetensors")
    published.convert(SMALL, tmp_path / "older.safetensors", tmp_path / "again.safetensors")
    converted, again = load_file(files[1]), load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(again[name], converted[name]) for name in converted)


def test_convert__another_network_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="v2-base"):
        published.convert(published.PUBLISHED[1], files[0], tmp_path / "out.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="missing"):
        published.convert(SMALL, tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_licenses__only_small_ones_are_free() -> None:
    free = {weights.name for weights in published.PUBLISHED if weights.license.startswith("Apache")}
    assert free == {weights.name for weights in published.PUBLISHED if weights.name.endswith("small")}


def _authors_name(name: str) -> str:
    """The authors' name of a tensor, derived independently of the rules."""
    name = name.replace("encoder.network.", "pretrained.").replace("decoder.", "depth_head.")
    name = name.replace("reassemble.project.", "projects.").replace("reassemble.resize.", "resize_layers.")
    name = re.sub(r"depth_head\.convs\.(\d)", lambda match: f"depth_head.scratch.layer{int(match[1]) + 1}_rn", name)
    name = re.sub(r"fusions\.(\d)", lambda match: f"scratch.refinenet{4 - int(match[1])}", name)
    name = re.sub(r"residual(\d)\.", r"resConfUnit\1.", name)
    name = re.sub(r"(refinenet\d)\.project\.", r"\1.out_conv.", name)
    for layer, theirs in (("conv1", "output_conv1"), ("conv2", "output_conv2.0"), ("conv3", "output_conv2.2")):
        name = name.replace(f"depth_head.{layer}.", f"depth_head.scratch.{theirs}.")
    return name
