"""Processes that torchrun starts on several machines, here all on 127.0.0.1: training, resuming, starting again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from densevision import evaluate
from densevision.errors import UsageError
from densevision.run_folder import RunFolder
from densevision.tasks import load_config
from densevision.training.train import train

DATA = "scenes:8:7"
SECONDS = 2000


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(command: Sequence[str], nodes: int = 1, processes: int = 1, options: Sequence[str] = ()) -> list[str]:
    """Runs a command of densevision under torchrun on some machines; returns the standard output of each."""
    port = find_free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = []
    for rank in range(nodes):
        words = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", f"--node_rank={rank}"]
        words += [f"--nproc_per_node={processes}", "--master_addr=127.0.0.1", f"--master_port={port}", *options]
        words += ["-m", "densevision", *command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(words, env=environment, text=True, **pipes))  # type: ignore[call-overload]
    try:
        results = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, results):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in results]


def list_options(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def have_same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(run / "last.safetensors") for run in (first, second))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


@pytest.fixture
def settings(tiny: dict[str, Any]) -> dict[str, Any]:
    return {**tiny, "train.batch": 2, "train.device": "cpu", "train.epochs": 2}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_nodes_equal_two_devices__and_resume_exactly(settings: dict[str, Any], tmp_path: Path) -> None:
    command = ["detection", "train", "--data", DATA, "--quiet"]
    devices, nodes, cut = (tmp_path / name for name in ("devices", "nodes", "cut"))
    two_devices = list_options({**settings, "train.devices": 2})
    subprocess.run(
        [sys.executable, "-m", "densevision", *command, *two_devices, "--out", str(devices)],
        check=True,
        timeout=SECONDS,
    )
    two_nodes = list_options({**settings, "train.nodes": 2})
    launch([*command, *two_nodes, "--out", str(nodes)], nodes=2)
    assert have_same_weights(devices, nodes)
    # A limit that no epoch meets stops the run after the first one, as a scheduler's time limit does.
    short = list_options({**settings, "train.nodes": 2, "train.max_time": 1e-9})
    launch([*command, *short, "--out", str(cut)], nodes=2)
    assert len(RunFolder(cut).read_rows()) == 1 and not have_same_weights(nodes, cut)
    launch(["detection", "train", "--resume", str(cut), "--quiet"], nodes=2)
    assert len(RunFolder(cut).read_rows()) == 2 and have_same_weights(nodes, cut)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_worker_that_dies__is_started_again_and_the_run_ends_the_same(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('RANK') == '1' and os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0':\n"
        "    import densevision.training.validation as module\n"
        "    end = module.EpochEnd.__call__\n"
        "    def end_and_die(self, row):\n"
        "        end(self, row)\n"
        "        os._exit(9)\n"
        "    module.EpochEnd.__call__ = end_and_die\n"
    )
    command = ["detection", "train", "--data", DATA, "--quiet", *list_options({**settings, "train.devices": 2})]
    launch([*command, "--out", str(tmp_path / "whole")], processes=2)
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(tmp_path), path)))
    try:
        launch([*command, "--out", str(tmp_path / "again")], processes=2, options=["--max-restarts=1"])
    finally:
        os.environ["PYTHONPATH"] = path
    assert len(RunFolder(tmp_path / "again").read_rows()) == 2
    assert have_same_weights(tmp_path / "whole", tmp_path / "again")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_evaluate__two_processes_equal_one_and_print_once(task: str, tmp_path: Path) -> None:
    command = [task, "evaluate", "--data", "scenes:200:3", "--quiet", "--json", "--batch", "3", "--device", "cpu"]
    alone = evaluate(task, "scenes:200:3", batch=3, device="cpu", quiet=True, out=tmp_path / "one")
    (printed,) = launch([*command, "--out", str(tmp_path / "two")], processes=2)
    assert printed.count('"metrics"') == 1
    one, two = ((tmp_path / name / "report.json").read_text() for name in ("one", "two"))
    assert one == two and alone.counts["images"] == 40


def test_train__several_processes_need_a_folder(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = load_config("detection").resolve(None, {**settings, "data.path": DATA})
    with pytest.raises(UsageError) as error:
        train(config)
    assert error.value.field == "out"
