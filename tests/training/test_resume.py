"""Stopping and resuming equals never having stopped, bit for bit."""

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
from densevision.training.validation import EpochEnd

DATA = "scenes:8:7"


@pytest.fixture(scope="module")
def reference(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "reference"
    return train("detection", DATA, overrides=tiny, out=out, quiet=True)


def have_same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(run / "last.safetensors") for run in (first, second))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def assert_same_rows(first: Path, second: Path) -> None:
    clocks = ("seconds", "images_per_second", "memory_mb")
    for a, b in zip(RunFolder(first).read_rows(), RunFolder(second).read_rows(), strict=True):
        assert all(a[name] == b[name] for name in a if name not in clocks)


def interrupt_after(epoch: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    end_epoch = EpochEnd.__call__

    def end_and_interrupt(self: EpochEnd, row: dict[str, float]) -> bool:
        is_stopped = end_epoch(self, row)
        if row["epoch"] == epoch:
            raise error
        return is_stopped

    monkeypatch.setattr(EpochEnd, "__call__", end_and_interrupt)


def test_resume__after_an_interrupt(reference: Path, tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(1, KeyboardInterrupt(), patch)
        with pytest.raises(DenseVisionError, match=r"interrupted after 1 finished epoch.*--resume") as failure:
            train("detection", DATA, overrides=tiny, out=tmp_path / "cut", quiet=True)
    assert failure.value.exit_code == 130
    train(resume=tmp_path / "cut", quiet=True)
    assert have_same_weights(reference, tmp_path / "cut")
    assert_same_rows(reference, tmp_path / "cut")


def test_train__exit_code_of_a_termination(tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    interrupt_after(1, SystemExit(143), monkeypatch)
    with pytest.raises(DenseVisionError, match=r"interrupted after 1 finished epoch.*--resume") as failure:
        train("detection", DATA, overrides=tiny, out=tmp_path / "cut", quiet=True)
    assert failure.value.exit_code == 143
    assert RunFolder(tmp_path / "cut").checkpoint.exists()


def test_resume__restores_average_and_schedule(tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    settings = {
        **tiny,
        "train.epochs": 3,
        "train.ema_decay": 0.9,
        "train.accumulate_grad_batches": 2,
        "train.optimizer": "sgd",
        "train.lr": 0.01,
        "train.schedule": "plateau",
        "train.plateau_patience": 1,
    }
    train("detection", DATA, overrides=settings, out=tmp_path / "reference", quiet=True)
    with monkeypatch.context() as patch:
        interrupt_after(2, KeyboardInterrupt(), patch)
        with pytest.raises(DenseVisionError):
            train("detection", DATA, overrides=settings, out=tmp_path / "cut", quiet=True)
    train(resume=tmp_path / "cut", quiet=True)
    assert have_same_weights(tmp_path / "reference", tmp_path / "cut")
    assert_same_rows(tmp_path / "reference", tmp_path / "cut")


def test_resume__after_a_loss_that_is_not_finite(
    reference: Path, tmp_path: Path, tiny: dict[str, Any], monkeypatch
) -> None:
    """The weights of the last good epoch are kept, and lead to those of an undisturbed run."""
    compute_losses, modes = Detection.compute_losses, []

    def fail_once(self: Detection, model: Any, *arguments: Any) -> dict[str, Any]:
        losses = compute_losses(self, model, *arguments)
        modes.append(model.training)
        return {**losses, "box": losses["box"] * float("nan")} if sum(modes) == 4 else losses

    with monkeypatch.context() as patch:
        patch.setattr(Detection, "compute_losses", fail_once)
        with pytest.raises(DenseVisionError, match=r"box.*not finite in epoch 2, images"):
            train("detection", DATA, overrides=tiny, out=tmp_path / "broken", quiet=True)
    assert len(RunFolder(tmp_path / "broken").read_rows()) == 1
    assert all(value.isfinite().all() for value in load_file(tmp_path / "broken" / "last.safetensors").values())
    train(resume=tmp_path / "broken", quiet=True)
    assert have_same_weights(reference, tmp_path / "broken")


def test_train__early_stopping(tmp_path: Path, tiny: dict[str, Any]) -> None:
    settings = {**tiny, "train.epochs": 6, "train.early_stopping_patience": 1, "train.lr": 1e-12}
    run = RunFolder(train("detection", "scenes:4:7", overrides=settings, out=tmp_path / "run", quiet=True))
    assert len(run.read_rows()) == 2
    train(resume=run.path, quiet=True)
    assert len(run.read_rows()) == 2, "a run that has stopped early does not continue"


def test_train__max_time_stops_after_an_epoch_and_resume_continues(
    reference: Path, tmp_path: Path, tiny: dict[str, Any], monkeypatch
) -> None:
    settings = {**tiny, "train.max_time": 1e-6}
    run = RunFolder(train("detection", DATA, overrides=settings, out=tmp_path / "run", quiet=True))
    assert len(run.read_rows()) == 1
    train(resume=run.path, quiet=True)
    assert len(run.read_rows()) == 2 and have_same_weights(reference, run.path)


def test_train__prints_loss_metric_best_and_time(tmp_path: Path, tiny: dict[str, Any], capsys) -> None:
    train("detection", "scenes:4:7", overrides=tiny, out=tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("loss " in line and "AP " in line and "best " in line for line in lines)
    assert "left" in lines[0] and "left" not in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "exit_code", "message"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "interrupted after"),
        (signal.SIGTERM, 143, "interrupted after"),
    ],
)
def test_resume__after_a_signal(
    reference: Path, tmp_path: Path, tiny: dict[str, Any], stop: signal.Signals, exit_code: int, message: str
) -> None:
    settings = [part for name, value in tiny.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "densevision", "detection", "train", "--data", DATA, *settings, "--quiet"]
    # Background processes of a shell ignore SIGINT, and so would their children.
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "cut")], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, previous)
    metrics, deadline = tmp_path / "cut" / "metrics.csv", time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            os.kill(process.pid, stop)
            break
        time.sleep(0.02)
    errors = process.communicate()[1]
    assert process.returncode == exit_code and message in errors, errors
    train(resume=tmp_path / "cut", quiet=True)
    assert have_same_weights(reference, tmp_path / "cut")


def test_train__same_seed_same_weights_for_any_number_of_workers(
    reference: Path, tmp_path: Path, tiny: dict[str, Any]
) -> None:
    settings = {**tiny, "data.workers": 1}
    assert have_same_weights(reference, train("detection", DATA, overrides=settings, out=tmp_path / "run", quiet=True))


def test_train__every_epoch_augments_anew(tmp_path: Path, tiny: dict[str, Any], monkeypatch) -> None:
    calls = []
    augment = Detection.augment

    def record(self: Detection, dataset: Any, index: int, rng: Any, epoch: int) -> Any:
        calls.append((epoch, index, rng.bit_generator.state["state"]["state"]))
        return augment(self, dataset, index, rng, epoch)

    monkeypatch.setattr(Detection, "augment", record)
    train("detection", "scenes:4:7", overrides=tiny, out=tmp_path / "run", quiet=True)
    training_calls = calls[4:]  # the first ones were drawn into batches/
    assert {epoch for epoch, _, _ in training_calls} == {0, 1}
    assert len({state for _, _, state in training_calls}) == 8


def test_train__run_folder_is_complete(reference: Path) -> None:
    names = ("config.yaml", "versions.json", "metrics.csv", "best.safetensors", "last.safetensors", "last.ckpt")
    assert all((reference / name).stat().st_size for name in names)
    plots = {path.name for path in (reference / "plots").iterdir()}
    assert plots >= {"curves.png", "confusion.png", "precision_recall.png", "predictions.jpg"}
    assert list((reference / "batches").glob("*.jpg"))
    assert [row["epoch"] for row in RunFolder(reference).read_rows()] == ["1", "2"]


def test_train__folder_in_use(reference: Path, tiny: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--resume"):
        train("detection", DATA, overrides=tiny, out=reference, quiet=True)


def test_resume__no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config\.yaml"):
        train(resume=tmp_path, quiet=True)


def test_resume__refuses_options(reference: Path) -> None:
    with pytest.raises(UsageError):
        train(resume=reference, overrides={"train.epochs": 9}, quiet=True)


def test_resume__of_another_task(reference: Path) -> None:
    with pytest.raises(UsageError) as error:
        train("depth", resume=reference, quiet=True)
    assert error.value.field == "task" and error.value.value == "detection"


def test_resume__refuses_another_model_and_a_damaged_checkpoint_and_warns_about_other_data(
    reference: Path, tmp_path: Path, caplog
) -> None:
    run = RunFolder(Path(shutil.copytree(reference, tmp_path / "run")))
    config = run.config.read_text()
    run.config.write_text(config.replace("width: 16", "width: 24"))
    with pytest.raises(UsageError) as error:
        train(resume=run.path, quiet=True)
    assert error.value.value.startswith("model.")
    run.config.write_text(config.replace("path: scenes:8:7", "path: scenes:4:7"))
    train(resume=run.path, quiet=True)
    assert "8 training samples and continues with 4" in caplog.text
    for content in (run.checkpoint.read_bytes()[:5000], b""):
        run.checkpoint.write_bytes(content)
        with pytest.raises(DataError) as damage:
            train(resume=run.path, quiet=True)
        assert "train.init_from=" in str(damage.value)
