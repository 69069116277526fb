"""What `densevision info` says about files and folders."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import densevision
from densevision import file_info
from densevision.cli.main import run
from densevision.errors import UsageError, WeightsError
from densevision.published_weights import list_weights
from densevision.run_folder import RunFolder
from densevision.tasks import load_config


def test_info__of_weights(weights: Path) -> None:
    values = densevision.info(weights)
    assert values["kind"] == "weights"
    assert values["task"] == "detection"
    assert values["parameters"] == sum(tensor.numel() for tensor in load_file(weights).values())
    assert values["megabytes"] == pytest.approx(weights.stat().st_size / 1e6, abs=0.1)
    assert densevision.info(task="detection")["classes"]


def test_info__refuses_another_task(weights: Path) -> None:
    with pytest.raises(WeightsError):
        densevision.info(weights, "depth")


def test_info__of_a_run(tmp_path: Path, tiny: dict[str, Any]) -> None:
    folder = RunFolder.create(tmp_path / "run", "detection")
    folder.write_config(load_config("detection").resolve(None, {**tiny, "train.epochs": 3, "data.path": "scenes:4:1"}))
    for epoch, value in ((1, 0.25), (2, 0.5), (3, 0.375)):
        folder.add_row({"epoch": epoch, "AP": value})
    values = densevision.info(folder.path)
    assert (values["kind"], values["arch"], values["epochs"], values["finished_epochs"]) == ("run", "yolo_n", 3, 3)
    assert values["best"] == {"metric": "AP", "value": 0.5, "epoch": 2}
    assert values["weights"] is None
    folder.last.write_bytes(b"")
    assert densevision.info(folder.path)["weights"] == str(folder.last)


def test_info__recognizes_published_checkpoints_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "anything.pth"
    torch.save({"a": torch.zeros(3)}, file)
    assert densevision.info(file)["published"] == []
    name, published = next(iter(list_weights().items()))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    planted = {name: replace(published, sha256=digest[:10].upper())}
    monkeypatch.setattr(file_info, "list_weights", lambda: planted)
    values = densevision.info(file)
    assert (values["kind"], values["published"], values["sha256"]) == ("checkpoint", [name], digest)


@pytest.mark.parametrize("name", ["data.zip", "image.png", "folder"])
def test_info__refuses_what_is_no_model(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x") if path.suffix else path.mkdir()
    with pytest.raises(UsageError) as caught:
        densevision.info(path)
    assert caught.value.hint is not None
    assert "check" in caught.value.hint


def test_command__prints_lines_or_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["info", str(weights)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 15
    assert all(len(line) < 200 for line in lines)
    run(["info", str(weights), "--json"])
    assert json.loads(capsys.readouterr().out)["config"]["arch"] == "yolo_n"
