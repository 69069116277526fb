"""Named weights: fetched only when asked for, checked, converted, kept."""

from __future__ import annotations

import hashlib
import http.server
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

from densevision import published_weights as zoo
from densevision.errors import UsageError, WeightsError
from densevision.io.weights import Card, load_card, save_weights
from densevision.published_weights import PublishedWeights

CONTENT = b"PK\x03\x04 weights of somebody else" * 1000


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A server on this machine that holds one file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model.pth").write_bytes(CONTENT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/model.pth"
    server.shutdown()
    server.server_close()


@pytest.fixture
def named(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """One named model, whose converter writes a small file."""
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    weights = PublishedWeights("house/model", "detection", address, digest, "MIT", 0.1, "bricks")

    def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
        assert file.read_bytes() == CONTENT
        save_weights(out, {"x": torch.zeros(1)}, Card(weights.task, {}, license=weights.license, source=weights.name))

    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(zoo, "_foreign", lambda task: (weights,) if task == "detection" else ())
    monkeypatch.setattr(zoo, "_converter", lambda task: convert)
    return weights


def test_resolve__name_downloads_converts_and_keeps(named: PublishedWeights, tmp_path: Path) -> None:
    path = zoo.resolve("house/model", "detection")
    assert load_card(path).source == "house/model" and path.is_relative_to(tmp_path / "cache")
    (tmp_path / "served" / "model.pth").unlink()
    assert zoo.resolve("house/model", "detection") == path


def test_resolve__other_content_is_refused(named: PublishedWeights, tmp_path: Path) -> None:
    (tmp_path / "served" / "model.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="not the file that its publisher made"):
        zoo.resolve("house/model", "detection")
    assert not list((tmp_path / "cache").rglob("*.pth")) and not list((tmp_path / "cache").rglob("*.safetensors"))


def test_resolve__absent_on_the_server(named: PublishedWeights, tmp_path: Path) -> None:
    (tmp_path / "served" / "model.pth").unlink()
    with pytest.raises(WeightsError, match=r"cannot download.*404.*convert\.py"):
        zoo.resolve("house/model", "detection")


def test_resolve__unknown_name(named: PublishedWeights) -> None:
    with pytest.raises(WeightsError, match="Did you mean 'house/model'"):
        zoo.resolve("house/modle", "detection")


def test_resolve__only_the_nearest_names_of_the_task() -> None:
    with pytest.raises(WeightsError) as failure:
        zoo.resolve("torchvision/raft_larg", "flow")
    assert "Did you mean 'torchvision/raft_large'" in str(failure.value) and "resnet" not in str(failure.value)
    with pytest.raises(WeightsError) as failure:
        zoo.resolve("runs/7/bset.safetensors", None)
    assert len(str(failure.value)) < 200


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"junk" * 50])
@pytest.mark.parametrize("name", ["realesrgan/x4plus", "torchvision/fcn_resnet50", "torchvision/raft_small"])
def test_convert__what_is_no_checkpoint(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "junk.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"no PyTorch checkpoint.*Give the file that https://"):
        zoo.convert(name, tmp_path / "junk.pth", tmp_path / "out.safetensors")


def test_convert__unknown_name(named: PublishedWeights, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such weights"):
        zoo.convert("house/none", tmp_path / "a", tmp_path / "b")


def test_resolve__neither_weights_nor_task() -> None:
    with pytest.raises(UsageError, match="which task"):
        zoo.resolve(None, None)


def test_announcement__says_data_numbers_and_terms() -> None:
    card = Card("detection", {}, data={"path": "scenes"}, metrics={"metrics": {"AP": 0.5}}, license="Apache-2.0")
    assert zoo.announcement(card) == "starter weights for detection: trained on scenes; AP 0.500; license Apache-2.0"
