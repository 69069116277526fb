"""What a run starts from where its config does not say."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from densevision.nn.timm_weights import can_reach_hub, find_timm_weights
from densevision.tasks import load_config, load_task
from densevision.training import starting_weights
from densevision.training.train import train
from densevision.yaml_files import read_yaml

NAME = "mobilenetv2_050"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def _fill_cache(cache: Path, name: str, value: float) -> None:
    """Plants weights of a timm model, all of one value, as huggingface_hub keeps them."""
    weights = find_timm_weights(name)
    assert weights is not None
    repository = cache / f"models--{weights.repository.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    state = timm.create_model(name).state_dict()
    tensors = {key: torch.full_like(each, value) if each.is_floating_point() else each for key, each in state.items()}
    save_file(tensors, snapshot / "model.safetensors")


def _choose(lines: list[str], **settings: Any) -> Any:
    given = {"arch": "yolo_n", "classes": ("a", "b"), "backbone.name": NAME, **settings}
    config = load_config("detection").resolve(None, given)
    return starting_weights.choose_starting_weights(
        load_task("detection")(config), config, config.list_given(), lines.append
    )


def test_training__starts_from_cached_weights_and_says_so(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill_cache(cache, NAME, 0.125)
    tiny = {"arch": "yolo_n", "backbone.name": NAME, "data.size": 64, "data.path": "scenes:4:1", "train.lr": 1e-9}
    config = load_config("detection").resolve(None, {**tiny, "train.epochs": 1, "train.batch": 4})
    folder = train(config, tmp_path / "run")
    assert read_yaml(folder.config)["backbone"]["pretrained"] is True
    printed = capsys.readouterr().err
    assert "apache-2.0" in printed
    assert f"{NAME}.lamb_in1k" in printed
    assert "RANDOM" not in caplog.text
    from safetensors.torch import load_file

    convolution = load_file(folder.best)["encoder.network.conv_stem.weight"]
    assert convolution.sub(0.125).abs().max() < 1e-4


def test_choice__warns_about_random_weights_offline(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    assert _choose(lines).backbone.pretrained is False
    assert not lines
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    weights = find_timm_weights(NAME)
    assert weights is not None
    assert weights.address in caplog.text
    assert weights.address.startswith("https://")


@pytest.mark.parametrize("value", [True, False])
def test_choice__leaves_what_is_stated(value: bool, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    assert _choose(lines, **{"backbone.pretrained": value}).backbone.pretrained is value
    assert not caplog.records
    assert len(lines) == int(value)


def test_choice__does_not_load_a_backbone_below_other_weights(cache: Path) -> None:
    _fill_cache(cache, NAME, 0.5)
    assert _choose([], **{"train.init_from": "x.safetensors"}).backbone.pretrained is False


def test_choice__asks_before_weights_of_a_restrictive_license(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "convnextv2_atto"  # cc-by-nc-4.0
    _fill_cache(cache, name, 0.5)
    assert _choose([], **{"backbone.name": name}).backbone.pretrained is False
    assert "cc-by-nc-4.0" in caplog.text


def test_choice__names_a_download_before_it_starts(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(starting_weights, "can_reach_hub", lambda: True)
    monkeypatch.setattr(starting_weights, "create_network", lambda *_: texts.append(caplog.text))
    assert _choose([]).backbone.pretrained is True
    assert len(texts) == 1
    assert f"{NAME}.lamb_in1k" in texts[0]
    assert "8 MB" in texts[0]
    assert "apache-2.0" in texts[0]


def test_choice__says_so_for_models_without_backbone(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    config = load_config("superres").resolve(None, {"arch": "edsr_baseline"})
    task = load_task("superres")(config)
    chosen = starting_weights.choose_starting_weights(task, config, config.list_given(), lines.append)
    assert chosen == config
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("detection", {"arch": "yolox_nano"}, None),
        ("detection", {"arch": "dfine_n"}, "hgnetv2_b0"),
        ("flow", {"arch": "raft_small"}, None),
        ("flow", {"arch": "sea_raft_s"}, "resnet18"),
        ("semantic", {"arch": "unet"}, "mobilenetv2_100"),
        ("semantic", {"arch": "smp"}, None),
        ("depth", {"arch": "depth_anything"}, "vit_small_patch14_dinov2"),
        ("translation", {"arch": "pix2pix_unet"}, None),
    ],
)
def test_timm_backbone__is_that_of_the_architecture(task: str, settings: dict[str, Any], expected: str | None) -> None:
    assert load_task(task)(load_config(task).resolve(None, settings)).timm_backbone == expected


@pytest.mark.parametrize(("name", "megabytes"), [("resnet50", 102.2), ("mobilenetv2_100", 14.1)])
def test_find_timm_weights__computes_the_size_of_the_published_file(name: str, megabytes: float) -> None:
    weights = find_timm_weights(name)  # sizes as listed on the hub
    assert weights is not None
    assert weights.megabytes == pytest.approx(megabytes, abs=0.5)


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers every request with 404."""
    handler = type("Quiet", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler.do_HEAD = lambda self: self.send_error(404)  # type: ignore[attr-defined]
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as instance:
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{instance.server_port}"
        instance.shutdown()


def test_can_reach_hub__follows_endpoint_and_offline_mode(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert can_reach_hub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not can_reach_hub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not can_reach_hub()
