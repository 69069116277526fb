"""Studies: the space is searched, weak trials stop early, and a study that was killed equals one that was not."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

import densevision
from densevision.cli.main import root
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.tasks import load_config
from densevision.training import tune as tuning
from densevision.training.search_space import Choices, Range, parse_space
from densevision.training.validation import EpochEnd

DATA = "scenes:8:7"
SEARCH = {
    "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "train.batch": {"low": 2, "high": 4, "step": 2},
    "augment.scale": [[0.5, 1.5], [0.9, 1.1]],
}


def read_trials(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def reference(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trials that was never interrupted."""
    out = tmp_path_factory.mktemp("studies") / "reference"
    overrides = {**tiny, "backbone.pretrained": False}
    densevision.tune("detection", DATA, overrides=overrides, search=SEARCH, trials=2, out=out, quiet=True)
    return out


def test_tune__writes_the_winner(reference: Path, tiny: dict[str, Any]) -> None:
    trials = read_trials(reference)
    assert [row["state"] for row in trials] == ["complete", "complete"]
    best = max(trials, key=lambda row: float(row["value"]))
    config = load_config("detection").resolve(reference / "best.yaml")
    assert config.train.lr == pytest.approx(float(best["train.lr"])) and 1e-4 <= config.train.lr <= 1e-2
    assert config.train.batch == int(best["train.batch"]) in (2, 4)
    assert config.augment.scale in ((0.5, 1.5), (0.9, 1.1))
    assert config.data.path == DATA and config.train.epochs == tiny["train.epochs"]
    # The winner's weights are there, and its own run says the same.
    run = load_config("detection").resolve(reference / best["run"] / "config.yaml")
    assert run.train.lr == config.train.lr and (reference / best["run"] / "best.safetensors").exists()
    assert optuna.load_study(study_name=None, storage=f"sqlite:///{reference / 'study.db'}").best_value == float(
        best["value"]
    )


@pytest.mark.slow
def test_tune__an_interrupted_study_equals_one_that_was_not(
    reference: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_epoch, epochs = EpochEnd.__call__, []

    def end_and_interrupt(self: EpochEnd, row: dict[str, float]) -> bool:
        is_stopped = end_epoch(self, row)
        epochs.append(row["epoch"])
        if len(epochs) == 3:  # in the first epoch of the second trial
            raise KeyboardInterrupt
        return is_stopped

    overrides = {**tiny, "backbone.pretrained": False}
    with monkeypatch.context() as patch:
        patch.setattr(EpochEnd, "__call__", end_and_interrupt)
        with pytest.raises(DenseVisionError, match="tune --resume") as failure:
            densevision.tune(
                "detection", DATA, overrides=overrides, search=SEARCH, trials=2, out=tmp_path / "cut", quiet=True
            )
    assert failure.value.exit_code == 130
    assert len(read_trials(tmp_path / "cut")) == 1
    result = densevision.tune(resume=tmp_path / "cut", trials=2, quiet=True)
    assert read_trials(tmp_path / "cut") == read_trials(reference)
    assert result.config.read_text() == (reference / "best.yaml").read_text()


@pytest.mark.slow
def test_tune__a_killed_study_equals_one_that_was_not(reference: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "killed"
    settings = [f"--set={name}={value}" for name, value in {**tiny, "backbone.pretrained": "false"}.items()]
    ranges = [f"--search={name}={yaml.safe_dump(value, default_flow_style=True)}" for name, value in SEARCH.items()]
    command = [sys.executable, "-m", "densevision", "detection", "tune", "--data", DATA, "--out", str(out)]
    process = subprocess.Popen([*command, *settings, *ranges, "--trials=2", "--quiet"])
    deadline = time.monotonic() + 300
    while not (out / "trials" / "1" / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resume = [sys.executable, "-m", "densevision", "detection", "tune", "--resume", str(out), "--trials=2", "--quiet"]
    subprocess.run(resume, check=True)
    assert read_trials(out) == read_trials(reference)


@pytest.mark.slow
def test_tune__prunes_trials_below_the_median(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STARTUP_TRIALS", 1)
    overrides = {**tiny, "backbone.pretrained": False}
    validate = EpochEnd._validate

    def validate_and_score(self: EpochEnd, model: Any) -> dict[str, float]:
        score = 0.5 if self.folder.path.name == "0" else 0.1  # all trials but the first one are weak
        return {**validate(self, model), self.task.monitor[0]: score}

    monkeypatch.setattr(EpochEnd, "_validate", validate_and_score)
    search = {"train.lr": {"low": 1e-4, "high": 1e-3}}
    result = densevision.tune(
        "detection", DATA, overrides=overrides, search=search, trials=2, out=tmp_path / "a", quiet=True
    )
    assert [row["state"] for row in result.trials] == ["complete", "pruned"]
    assert result.value == 0.5 and result.settings == {"train.lr": result.trials[0]["train.lr"]}
    rows = (tmp_path / "a" / "trials" / "1" / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == 1 < tiny["train.epochs"]  # stopped after its first epoch
    result = densevision.tune(
        "detection", DATA, overrides=overrides, search=search, trials=2, out=tmp_path / "b", quiet=True, prune=False
    )
    assert [row["state"] for row in result.trials] == ["complete", "complete"]


def test_config_section__names_the_space(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "task: detection\narch: yolo_n\ntrain: {optimizer: sgd}\ntune:\n  train.momentum: {low: 0.8, high: 2.0}\n"
    )
    with pytest.raises(UsageError, match="momentum"):  # points of the space are validated before the first trial
        densevision.tune(config=file, data=DATA, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()
    with pytest.raises(UsageError, match="tune"):
        densevision.train(config=file, data=DATA, out=tmp_path / "run")


@pytest.mark.parametrize(
    "entry",
    [
        3,
        [1],
        [1, 1],
        {"low": 1},
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 1, "high": 9, "step": 0.5},
        {"low": 1, "high": 9, "base": 2},
        {"low": "a", "high": 9},
        {"low": 1.0, "high": 9.0, "log": True, "step": 1.0},
    ],
    ids=str,
)
def test_parse_space__bad_entry_names_its_option(entry: Any) -> None:
    with pytest.raises(UsageError, match=r"tune\.train\.lr"):
        parse_space({"train.lr": entry})


def test_parse_space() -> None:
    space = parse_space({"a": {"low": 1, "high": 8}, "b": {"low": 0.1, "high": 1, "log": True}, "c": [[1, 2], None]})
    assert space == {"a": Range(1, 8), "b": Range(0.1, 1, True), "c": Choices(("[1, 2]", None), ([1, 2], None))}
    assert space["a"].is_integer and not space["b"].is_integer


def test_tune__unknown_option_and_missing_study(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.learning_rate"):
        densevision.tune("detection", DATA, search={"train.learning_rate": [1, 2]}, out=tmp_path / "study")
    with pytest.raises(DataError, match=r"tune\.yaml"):
        densevision.tune(resume=tmp_path)
    with pytest.raises(UsageError, match="own options"):
        densevision.tune(resume=tmp_path, seed=3)


def test_command__resume_of_a_finished_study_prints_the_winner(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root.main(["detection", "tune", "--resume", str(reference), "--trials", "2", "--quiet"], standalone_mode=False)
    assert f"densevision detection train --config {reference / 'best.yaml'}" in capsys.readouterr().out
