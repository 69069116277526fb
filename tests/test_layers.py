"""Layers, start-up, and silence on the network."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from densevision.tasks import TASKS

ROOT = Path(__file__).parent.parent

LIGHT = ("densevision", "densevision.config", "densevision.run_config", "densevision.results", "densevision.cli.main")


def test_layers__import_linter() -> None:
    program = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-1000:]


def test_layers__keep_every_task_from_its_neighbors() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    layers = config["importlinter:contract:layers"]["layers"].split("\n")
    (tasks,) = (layer for layer in layers if "|" in layer)
    assert tasks.split(" | ") == [f"densevision.tasks.{task}" for task in TASKS]


def test_modules__no_import_circle() -> None:
    # Also imports inside functions: a circle that is cut at run time is a circle for the reader.
    graph = grimp.build_graph("densevision", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    TopologicalSorter(imports).prepare()  # CycleError names the modules of a circle


def test_start__no_torch() -> None:
    program = f"import sys; import {', '.join(LIGHT)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_task_configs__no_torch() -> None:
    program = (
        "import sys; from densevision.tasks import TASKS, load_config\n"
        "for task in TASKS: load_config(task).resolve()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_scores__start_with_neither_torch_nor_configs() -> None:
    program = (
        "import sys; from densevision.tasks import TASKS, load_files, load_score\n"
        "for task in TASKS: load_score(task), load_files(task)\n"
        "sys.exit(not {'torch', 'pydantic'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
