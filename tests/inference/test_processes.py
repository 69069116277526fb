"""Several processes train one run: one folder, one checkpoint, one message."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from safetensors.torch import load_file

from densevision.inference.processes import RUN_VARIABLE, find_run_to_join, get_launch_rank
from densevision.run_folder import RunFolder


@pytest.mark.parametrize(
    ("environment", "rank", "joins"),
    [
        ({}, 0, False),
        ({RUN_VARIABLE: "a"}, 0, False),
        ({RUN_VARIABLE: "a", "LOCAL_RANK": "1"}, 1, True),
        ({"RANK": "3"}, 3, False),
    ],
)
def test_run_to_join__only_for_started_processes(environment, rank, joins, monkeypatch) -> None:
    for name in (RUN_VARIABLE, "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert get_launch_rank() == rank and find_run_to_join() == (Path("a") if joins else None)


@pytest.mark.slow
def test_train__two_processes_share_a_run(tiny: dict, tmp_path: Path) -> None:
    settings = {**tiny, "train.epochs": 2, "train.devices": 2, "train.device": "cpu"}
    command = [sys.executable, "-m", "densevision", "detection", "train", "--data", "scenes:16:7", "--quiet"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    out = tmp_path / "run"
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained:") == 1
    run = RunFolder(out)
    assert [row["epoch"] for row in run.read_rows()] == ["1", "2"] and zipfile.is_zipfile(run.checkpoint)
    assert all(value.isfinite().all() for value in load_file(run.last).values())
    assert not (tmp_path / "runs").exists(), "the second process has no run of its own"
