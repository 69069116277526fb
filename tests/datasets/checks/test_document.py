"""The documentation page of the checks, and properties of all checks."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from densevision.datasets.checks.catalog import SEVERITIES
from densevision.datasets.checks.documentation import build_page
from densevision.errors import UsageError
from densevision.tasks import TASKS, load_check

PAGE = Path(__file__).parents[3] / "docs" / "checks.md"


def test_page__is_up_to_date() -> None:
    """Run `python tools/document_checks.py` if this fails."""
    assert PAGE.read_text(encoding="utf-8") == build_page({task: load_check(task).CHECKS for task in TASKS})


@pytest.mark.parametrize("task", TASKS)
def test_checks__have_unique_names_and_hints(task: str) -> None:
    checks = load_check(task).CHECKS
    assert not [name for name, count in Counter(check.name for check in checks).items() if count > 1]
    for check in checks:
        assert check.severity in SEVERITIES and check.description
        assert check.hint.endswith((".", "..."))
        assert "|" not in check.description + check.hint + (check.fix or "")


def test_checks__same_name_is_the_same_check() -> None:
    checks = {}
    for task in TASKS:
        for check in load_check(task).CHECKS:
            assert checks.setdefault(check.name, check) == check


def test_checks__do_not_import_torch() -> None:
    """Neither the checks nor the readers that they call import it."""
    modules = [f"densevision.tasks.{task}.dataset" for task in ("semantic", "instance", "depth", "flow", "translation")]
    modules += [f"densevision.tasks.{task}.checks" for task in TASKS]
    program = f"import sys; import {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("task", TASKS)
def test_checks__no_findings_in_scenes(task: str, check) -> None:
    report = check(task, "scenes:40:0")
    assert report.findings == [] and report.counts["train"] == {"scenes": 40}


@pytest.mark.parametrize("task", TASKS)
def test_checks__scenes_cannot_be_cleaned(task: str, check, tmp_path) -> None:
    with pytest.raises(UsageError):
        check(task, "scenes:40:0", fix=tmp_path / "clean")
