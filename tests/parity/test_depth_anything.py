"""Converted Depth Anything V2 answers as transformers does, from the layouts of both publishers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from densevision.errors import WeightsError
from densevision.inference.predictor import load_torch
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.depth import weights as foreign

pytestmark = pytest.mark.parity

SIDE = 70
WEIGHTS = foreign.PUBLISHED[0]


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """Transformers' small network with random weights, made lively."""
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
    )
    network = transformers.DepthAnythingForDepthEstimation(config).eval()
    for name, parameter in network.named_parameters():
        if name.startswith(("neck", "head")) and name.endswith("weight"):
            parameter.data.mul_(4)
        elif name == "head.conv3.bias":
            parameter.data.fill_(1.0)
    return network


@pytest.fixture(scope="module")
def files(reference: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its state dict as published, and converted."""
    folder = tmp_path_factory.mktemp("depth_anything")
    save_file(reference.state_dict(), folder / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "SIDE", SIDE)
        foreign.convert(WEIGHTS, folder / "model.safetensors", folder / "ours.safetensors")
    return folder / "model.safetensors", folder / "ours.safetensors"


def test_transformers_layout__same_depth_with_interpolated_positions(
    reference: torch.nn.Module, files: tuple[Path, Path]
) -> None:
    model = load_torch(files[1], "depth")
    image = np.random.default_rng(0).integers(0, 256, (SIDE, 84, 3), np.uint8)
    (result,) = model.infer([Sample({"image": image})], PredictOptions(precision="float32"))
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        wanted = reference(pixel_values=(x - mean) / std).predicted_depth[0].numpy()
    assert wanted.std() > 1e-2 * abs(wanted).max()
    assert abs(result.depth - wanted).max() < 1e-3 * abs(wanted).max()
    assert (result.kind, result.unit) == ("disparity", "")


def test_authors_layout__same_tensors(files: tuple[Path, Path], tmp_path: Path) -> None:
    ours = load_file(files[1])
    theirs = {
        _authors_name(name): tensor for name, tensor in ours.items() if name not in ("encoder.mean", "encoder.std")
    }
    theirs["pretrained.mask_token"] = torch.zeros(1, 384)
    theirs["depth_head.scratch.refinenet4.resConfUnit1.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    torch.save(theirs, tmp_path / "vits.pth")
    foreign.convert(WEIGHTS, tmp_path / "vits.pth", tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == ours.keys() and all(torch.equal(again[name], ours[name]) for name in ours)


def test_names_before_transformers_5__same_tensors(files: tuple[Path, Path], tmp_path: Path) -> None:
    older = {
        "q_proj": "attention.query",
        "k_proj": "attention.key",
        "v_proj": "attention.value",
        "o_proj": "output.dense",
    }
    theirs = {}
    for name, tensor in load_file(files[0]).items():
        for new, old in older.items():
            name = name.replace(f"attention.{new}", f"attention.{old}")
        theirs[name] = tensor
    save_file(theirs, tmp_path / "older.safetensors")
    foreign.convert(WEIGHTS, tmp_path / "older.safetensors", tmp_path / "again.safetensors")
    ours, again = load_file(files[1]), load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(again[name], ours[name]) for name in ours)


def test_convert__another_network_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="v2-base"):
        foreign.convert(foreign.PUBLISHED[1], files[0], tmp_path / "out.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="lacks tensors"):
        foreign.convert(WEIGHTS, tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_names__only_the_small_one_is_free() -> None:
    assert [weights.license.startswith("Apache") for weights in foreign.PUBLISHED] == [True, False, False]


def _authors_name(name: str) -> str:
    """The authors' name of one of our tensors, written down anew."""
    name = name.replace("encoder.network.", "pretrained.").replace("head.decoder.", "depth_head.")
    name = name.replace("reassemble.project.", "projects.").replace("reassemble.resize.", "resize_layers.")
    name = re.sub(r"enter\.(\d)", lambda found: f"scratch.layer{int(found[1]) + 1}_rn", name)
    name = re.sub(r"fusions\.(\d)", lambda found: f"scratch.refinenet{4 - int(found[1])}", name)
    for ours, theirs in (
        ("lateral.", "resConfUnit1."),
        ("refine.", "resConfUnit2."),
        ("first.", "conv1."),
        ("second.", "conv2."),
    ):
        name = name.replace(ours, theirs)
    name = re.sub(r"(refinenet\d)\.project\.", r"\1.out_conv.", name)
    name = name.replace("depth_head.shrink.", "depth_head.scratch.output_conv1.")
    name = name.replace("depth_head.mix.", "depth_head.scratch.output_conv2.0.")
    return name.replace("depth_head.predict.", "depth_head.scratch.output_conv2.2.")
