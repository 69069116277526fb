"""RAFT equals torchvision's with its weights; also from the layout of princeton-vl's files."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import optical_flow

from densevision.errors import WeightsError
from densevision.io.weights import load_card
from densevision.published_weights import convert_weights, list_weights
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.task import Flow
from densevision.tasks.flow.weights import PUBLISHED, rename_tensors

pytestmark = pytest.mark.parity


def reference(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return getattr(optical_flow, name)(weights=None).eval()


def ours(name: str, tensors: dict[str, torch.Tensor], **settings) -> torch.nn.Module:
    config = FlowConfig.from_dict({"arch": name, "model": {"occlusion": False, **settings}})
    net = Flow(config).build_model().eval()
    net.load_state_dict(rename_tensors(tensors), strict=True)
    return net


@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
@pytest.mark.parametrize("kind", ["all_pairs", "on_demand"])
def test_flow__equals_torchvisions(name, kind):
    theirs = reference(name)
    net = ours(name, theirs.state_dict(), correlation=kind)
    for size in ((128, 128), (136, 192)):
        first, second = torch.rand(2, 1, 3, *size)
        with torch.inference_mode():
            expected = theirs(2 * first - 1, 2 * second - 1, num_flow_updates=4)
            states = net.iterate(net.encoder(first), net.encoder(second), 4)
            steps = [net.upsample(state)["flow"] for state in states]
            assert len(steps) == 4
        for flow, expected_flow in zip(steps, expected):
            torch.testing.assert_close(flow, expected_flow, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(131, 150), (150, 129)])
def test_sizes_not_divisible_by_8__as_the_papers_padder_pads(size, tmp_path):
    """RAFT's InputPadder in its "sintel" mode: replicated, half on each side, then cropped."""
    import densevision

    theirs = reference("raft_small")
    torch.save(theirs.state_dict(), tmp_path / "small.pth")
    convert_weights("torchvision/raft_small", tmp_path / "small.pth", tmp_path / "small.safetensors")
    rng = np.random.default_rng(0)
    pair = tuple(rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(2))
    down, right = (-side % 8 for side in size)
    pad = (right // 2, right - right // 2, down // 2, down - down // 2)
    tensors = [F.pad(torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1, pad, "replicate") for image in pair]
    with torch.inference_mode():
        wanted = theirs(*tensors, num_flow_updates=3)[-1][0]
    wanted = wanted[:, pad[2] : wanted.shape[1] - pad[3], pad[0] : wanted.shape[2] - pad[1]]
    result = densevision.predict(pair, weights=tmp_path / "small.safetensors", iterations=3, precision="float32")
    np.testing.assert_allclose(result.flow, wanted.numpy(), atol=1e-3)


@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
def test_princeton_layout__is_the_same_network(name):
    tensors = reference(name).state_dict()
    first, second = torch.rand(2, 1, 3, 128, 128)
    published = princeton(tensors, small=name == "raft_small")
    assert all(key.startswith("module.") for key in published)
    with torch.inference_mode():
        one, other = (
            ours(name, found)(first=first, second=second, iterations=2)["flow"] for found in (tensors, published)
        )
    assert torch.equal(one, other)


def test_names__cover_every_published_file():
    classes = (optical_flow.Raft_Large_Weights, optical_flow.Raft_Small_Weights)
    published = {weights.url for each in classes for weights in each}
    mine = {weights.address: weights.sha256 for weights in PUBLISHED if weights.name.startswith("torchvision/")}
    assert published == set(mine)
    assert all(address.endswith(f"-{digest}.pth") for address, digest in mine.items())
    assert {weights.name for weights in PUBLISHED} <= set(list_weights())


def test_convert__of_an_archive_picks_its_member(tmp_path):
    published = princeton(reference("raft_small").state_dict(), small=True)
    torch.save(published, tmp_path / "raft-small.pth")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.writestr("models/raft-things.pth", b"another")
        archive.write(tmp_path / "raft-small.pth", "models/raft-small.pth")
    for file in ("models.zip", "raft-small.pth"):
        convert_weights("princeton-vl/raft-small", tmp_path / file, tmp_path / "out.safetensors")
    card = load_card(tmp_path / "out.safetensors")
    assert card.task == "flow" and card.config["arch"] == "raft_small" and card.source == "princeton-vl/raft-small"


def test_convert__refuses_what_the_file_is_not(tmp_path):
    torch.save(reference("raft_small").state_dict(), tmp_path / "small.pth")
    with pytest.raises(WeightsError, match="Small and large differ"):
        convert_weights("torchvision/raft_large", tmp_path / "small.pth", tmp_path / "out.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
        convert_weights("torchvision/raft_small", tmp_path / "text.pth", tmp_path / "out.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="state dict"):
        convert_weights("torchvision/raft_small", tmp_path / "list.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def princeton(tensors: dict[str, torch.Tensor], small: bool) -> dict[str, torch.Tensor]:
    """torchvision's state dict under the names of princeton-vl's classes, as its checkpoints have them."""
    last = {"small": ".norm4", "large": ".norm3"}["small" if small else "large"]
    found = {}
    for name, tensor in tensors.items():
        name = name.replace("feature_encoder", "fnet").replace("context_encoder", "cnet")
        name = name.replace("update_block.motion_encoder", "update_block.encoder").replace(
            "mask_predictor", "update_block.mask"
        )
        for layer in (1, 2, 3):
            name = name.replace(f"convcorr{layer}.0", f"convc{layer}").replace(f"convflow{layer}.0", f"convf{layer}")
            name = name.replace(f"convnormrelu{layer}.0", f"conv{layer}").replace(
                f"convnormrelu{layer}.1", f"norm{layer}"
            )
            for gate in "zrq":
                unit = "" if small else str(layer)
                name = name.replace(f"recurrent_block.convgru{layer}.conv{gate}", f"gru.conv{gate}{unit}")
        name = (
            name.replace("encoder.conv.0", "encoder.conv")
            .replace("mask.convrelu.0", "mask.0")
            .replace("mask.conv.", "mask.2.")
        )
        for encoder in ("fnet", "cnet"):
            name = name.replace(f"{encoder}.conv.", f"{encoder}.conv2.")
            name = name.replace(f"{encoder}.convnormrelu.0", f"{encoder}.conv1").replace(
                f"{encoder}.convnormrelu.1", f"{encoder}.norm1"
            )
        found[f"module.{name}"] = tensor
        if ".downsample.1." in name:
            found[f"module.{name.replace('.downsample.1', last)}"] = tensor
    return found
