"""Published weights: downloaded only when named, verified, converted, cached."""

from __future__ import annotations

import hashlib
import http.server
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision

from densevision import published_weights as module
from densevision.errors import UsageError, WeightsError
from densevision.io.weights import Card, PublishedWeights, load_card, save_weights
from densevision.models import create_model
from densevision.published_weights import convert_weights, describe_bundled_weights, list_weights, resolve_weights

CONTENT = b"PK\x03\x04 weights of another project" * 1000


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keeps the test output clean."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A local server with one file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model.pth").write_bytes(CONTENT)
    handler = partial(QuietHandler, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/model.pth"
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """One published model, whose converter writes a small file."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    weights = PublishedWeights("acme/model", "detection", address, digest, "MIT", 0.1, "photographs")

    def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
        assert file.read_bytes().startswith(CONTENT)
        save_weights(out, {"x": torch.zeros(1)}, weights.card({}))

    own = SimpleNamespace(PUBLISHED=(weights,), convert=convert)
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(module, "_weights_module", lambda task: own if task == "detection" else None)
    return weights


def test_resolve_weights__downloads_converts_and_caches(published: PublishedWeights, tmp_path: Path) -> None:
    path = resolve_weights("acme/model", "detection")
    assert load_card(path).source == "acme/model" and path.is_relative_to(tmp_path / "cache")
    assert load_card(path).data["source"] == "photographs"
    (tmp_path / "served" / "model.pth").unlink()
    assert resolve_weights("acme/model", "detection") == path


def test_resolve_weights__other_content_is_refused(published: PublishedWeights, tmp_path: Path) -> None:
    (tmp_path / "served" / "model.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError):
        resolve_weights("acme/model", "detection")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_resolve_weights__missing_on_the_server(published: PublishedWeights, tmp_path: Path) -> None:
    (tmp_path / "served" / "model.pth").unlink()
    with pytest.raises(WeightsError) as error:
        resolve_weights("acme/model", "detection")
    assert "404" in str(error.value) and "convert-weights" in str(error.value)


def test_resolve_weights__unknown_name_suggests_the_nearest(published: PublishedWeights) -> None:
    with pytest.raises(WeightsError) as error:
        resolve_weights("acme/modle", "detection")
    assert "'acme/model'" in str(error.value)


def test_resolve_weights__suggests_only_names_of_the_task() -> None:
    with pytest.raises(WeightsError) as error:
        resolve_weights("torchvision/raft_larg", "flow")
    assert "'torchvision/raft_large'" in str(error.value) and "resnet" not in str(error.value)
    with pytest.raises(WeightsError) as error:
        resolve_weights("runs/7/bset.safetensors", None)
    assert len(str(error.value)) < 200


def test_resolve_weights__neither_weights_nor_task() -> None:
    with pytest.raises(UsageError):
        resolve_weights(None, None)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"junk" * 50])
@pytest.mark.parametrize("name", ["realesrgan/x4plus", "torchvision/fcn_resnet50", "torchvision/raft_small"])
def test_convert_weights__not_a_checkpoint(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk.pth").write_bytes(content)
    with pytest.raises(WeightsError) as error:
        convert_weights(name, tmp_path / "junk.pth", tmp_path / "out.safetensors")
    assert "https://" in str(error.value)


@pytest.mark.parametrize("has_hash", [True, False])
def test_resolve_weights__says_whether_a_download_can_be_verified(
    has_hash: bool, published: PublishedWeights, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_hash:
        own = module._weights_module("detection")
        own.PUBLISHED = (replace(published, sha256=""),)
    with caplog.at_level(logging.WARNING):
        path = resolve_weights("acme/model", "detection")
    shown = caplog.records[0].getMessage()
    assert "MIT" in shown and "0.1 MB" in shown and published.address in shown
    assert ("cannot be verified" in shown) == (not has_hash)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert any(digest in record.getMessage() for record in caplog.records) == (not has_hash)
    data = load_card(path).data
    assert data["file_sha256"] == digest and data["is_verified"] == has_hash and data["file"] == published.address


def test_resolve_weights__mirror_of_the_hub(
    published: PublishedWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, _, name = published.address.rpartition("/")
    own = module._weights_module("detection")
    own.PUBLISHED = (replace(published, address=f"https://huggingface.co/{name}"),)
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    assert load_card(resolve_weights("acme/model", "detection")).data["is_verified"]


def test_resolve_weights__folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        resolve_weights(tmp_path, None)
    (tmp_path / "best.safetensors").touch()
    assert resolve_weights(tmp_path, None) == tmp_path / "best.safetensors"


def test_resolve_weights__not_offered_by_its_publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        resolve_weights("google/deeplabv3_mobilenetv2_voc", "semantic")
    assert "convert-weights" in str(error.value)


def test_list_weights__loads_no_torch() -> None:
    program = "import sys, densevision; assert len(densevision.list_weights()) > 50 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_guide__names_the_weights_without_a_hash() -> None:
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "published_weights.md").read_text(encoding="utf-8")
    paragraph = next(part for part in guide.split("\n\n") if part.startswith("`yolox/*`"))
    patterns = re.findall(r"`(.*?)`", paragraph)
    for name, weights in list_weights().items():
        assert any(fnmatch(name, pattern) for pattern in patterns) == (not weights.sha256), name


def test_list_weights__figures_of_torchvision() -> None:
    published = {}
    for each in (torchvision.models.get_model_weights(name) for name in torchvision.models.list_models()):
        published |= {weights.url: weights.meta for weights in each}
    checked = 0
    for weights in list_weights().values():
        meta = published.get(weights.address)
        if meta is None:
            continue
        values = [value for metrics in meta["_metrics"].values() for value in metrics.values()]
        assert weights.parameters == pytest.approx(meta["num_params"] / 1e6, abs=0.05)
        assert weights.megabytes == pytest.approx(meta["_file_size"], abs=0.05)
        assert weights.metric is not None and weights.metric[1] in values
        checked += 1
    assert checked >= 20


@pytest.mark.parametrize("name", ["yolox/nano", "yolox/s-legacy", "dfine/nano", "dfine/small-obj365"])
def test_list_weights__parameters_are_those_of_the_model(name: str) -> None:
    size = name.partition("/")[2]
    arch = f"yolox_{size.replace('-', '_')}" if name.startswith("yolox") else f"dfine_{size[0]}"
    model = create_model(arch, num_classes=80)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert list_weights()[name].parameters == pytest.approx(count, abs=0.05)


def test_convert_weights__unknown_name(published: PublishedWeights, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        convert_weights("acme/none", tmp_path / "a", tmp_path / "b")


def test_convert_weights__other_file_does_not_claim_to_be_the_published_one(
    published: PublishedWeights, tmp_path: Path
) -> None:
    for name, content in (("same.pth", CONTENT), ("other.pth", CONTENT + b"!")):
        (tmp_path / name).write_bytes(content)
        convert_weights("acme/model", tmp_path / name, tmp_path / f"{name}.safetensors")
    assert load_card(tmp_path / "same.pth.safetensors").data["source"] == "photographs"
    assert "not verified" in load_card(tmp_path / "other.pth.safetensors").data["source"]


def test_describe_bundled_weights__data_scope_metrics_and_license() -> None:
    card = Card("detection", {}, data={"path": "scenes"}, metrics={"metrics": {"AP": 0.5}}, license="Apache-2.0")
    text = describe_bundled_weights(card)
    assert all(part in text for part in ("detection", "scenes", "not photographs", "AP 0.500", "Apache-2.0"))
