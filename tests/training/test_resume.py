"""Stopping and resuming equals never having stopped, to the bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from densevision import train
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.run_folder import RunFolder
from densevision.tasks.detection.task import Detection
from densevision.training.checkpointer import ValidationCallback

DATA = "scenes:8:7"


@pytest.fixture(scope="module")
def whole(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    return train("detection", DATA, set=tiny, out=tmp_path_factory.mktemp("runs") / "whole")


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "last.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_resume__after_interrupt(whole: Path, tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    saved = ValidationCallback.on_train_epoch_end

    def interrupted(self, trainer, module):
        saved(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ValidationCallback, "on_train_epoch_end", interrupted)
        with pytest.raises(DenseVisionError, match=r"interrupted after 2 whole epochs.*--resume"):
            train("detection", DATA, set=tiny, out=tmp_path / "cut")
    train(resume=tmp_path / "cut")
    assert same_weights(whole, tmp_path / "cut")
    clocks = ("seconds", "images_per_second", "memory_mb")
    for one, other in zip(RunFolder(whole).rows(), RunFolder(tmp_path / "cut").rows(), strict=True):
        assert all(one[name] == other[name] for name in one if name not in clocks)


def test_resume__after_a_loss_that_is_not_finite(
    whole: Path, tmp_path: Path, tiny: dict[str, Any], monkeypatch
) -> None:
    """The weights of the last good epoch stay, and lead to what an undisturbed run finds."""
    losses, seen = Detection.losses, []

    def broken(self, net, batch, training_modules, optimizer_name):
        found = losses(self, net, batch, training_modules, optimizer_name)
        seen.append(net.training)
        return {**found, "box": found["box"] * float("nan")} if sum(seen) == 4 else found

    with monkeypatch.context() as patch:
        patch.setattr(Detection, "losses", broken)
        with pytest.raises(DenseVisionError, match=r"box.*not finite in epoch 1, images"):
            train("detection", DATA, set=tiny, out=tmp_path / "broken")
    assert len(RunFolder(tmp_path / "broken").rows()) == 1
    assert all(value.isfinite().all() for value in load_file(tmp_path / "broken" / "last.safetensors").values())
    train(resume=tmp_path / "broken")
    assert same_weights(whole, tmp_path / "broken")


def test_train__stops_early(tmp_path: Path, tiny: dict[str, Any]) -> None:
    settings = {**tiny, "train.epochs": 6, "train.early_stopping_patience": 1, "train.lr": 1e-12}
    run = RunFolder(train("detection", "scenes:4:7", set=settings, out=tmp_path / "run"))
    assert len(run.rows()) == 2
    train(resume=run.path)
    assert len(run.rows()) == 2, "what has stopped is not begun again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "interrupted after"),
        (signal.SIGTERM, 143, "interrupted after"),
    ],
)
def test_resume__after_a_signal(
    whole: Path, tmp_path: Path, tiny: dict[str, Any], stop: signal.Signals, code: int, said: str
) -> None:
    settings = [part for name, value in tiny.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "densevision", "detection", "train", "--data", DATA, *settings, "--quiet"]
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs behind a shell ignores it, and so do its children
    process = subprocess.Popen([*command, "--out", str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heard)
    metrics, deadline = tmp_path / "cut" / "metrics.csv", time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            os.kill(process.pid, stop)
            break
        time.sleep(0.02)
    complaint = process.communicate()[1]
    assert process.returncode == code and said in complaint, complaint
    train(resume=tmp_path / "cut")
    assert same_weights(whole, tmp_path / "cut")


def test_train__same_seed_same_weights(whole: Path, tmp_path: Path, tiny: dict[str, Any]) -> None:
    again = train("detection", DATA, set={**tiny, "data.workers": 1}, out=tmp_path / "again")
    assert same_weights(whole, again)


def test_train__every_epoch_draws_anew(tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    drawn = []
    augment = Detection.augment

    def noted(self, dataset, index, rng, epoch):
        drawn.append((epoch, index, rng.bit_generator.state["state"]["state"]))
        return augment(self, dataset, index, rng, epoch)

    monkeypatch.setattr(Detection, "augment", noted)
    train("detection", "scenes:4:7", set={**tiny, "train.epochs": 2}, out=tmp_path / "run")
    trained = drawn[4:]  # the first were drawn for batches/
    assert {epoch for epoch, _, _ in trained} == {0, 1} and len({state for _, _, state in trained}) == 8


def test_train__run_folder_is_complete(whole: Path) -> None:
    names = ("config.yaml", "versions.json", "metrics.csv", "best.safetensors", "last.safetensors", "last.ckpt")
    assert all((whole / name).stat().st_size for name in names)
    plots = {path.name for path in (whole / "plots").iterdir()}
    assert plots >= {"curves.png", "confusion.png", "precision_recall.png"}
    assert list((whole / "batches").glob("*.jpg"))


def test_train__folder_in_use(whole: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"already in this folder.*--resume"):
        train("detection", DATA, set=tiny, out=whole)


def test_resume__no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run in this folder"):
        train(resume=tmp_path)


def test_resume__refuses_other_settings(whole: Path) -> None:
    with pytest.raises(UsageError, match="keeps its own config"):
        train(resume=whole, set={"train.epochs": 9})


def test_resume__of_another_task_is_refused(whole: Path) -> None:
    with pytest.raises(UsageError, match=r"config.yaml: task: is not the config of a run of depth \(got 'detection'\)"):
        train("depth", resume=whole)


def test_resume__what_has_changed_is_told(whole: Path, tmp_path: Path, caplog) -> None:
    """Another network and a damaged checkpoint are refused; other data are warned of."""
    run = RunFolder(Path(shutil.copytree(whole, tmp_path / "run")))
    config = run.config.read_text()
    run.config.write_text(config.replace("preset: nano", "preset: small"))
    with pytest.raises(UsageError, match=r"describes another network than the run's checkpoint \(got 'net\."):
        train(resume=run.path)
    run.config.write_text(config.replace("path: scenes:8:7", "path: scenes:4:7"))
    train(resume=run.path)
    assert "the run began with 8 training samples, and goes on with 4" in caplog.text
    for rest in (run.checkpoint.read_bytes()[:5000], b""):
        run.checkpoint.write_bytes(rest)
        with pytest.raises(DataError, match=r"last.ckpt: the checkpoint is damaged.*train.init_from="):
            train(resume=run.path)
