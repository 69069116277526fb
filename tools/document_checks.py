"""Writes docs/checks.md from the tables of checks: python tools/document_checks.py."""

from __future__ import annotations

from pathlib import Path

from densevision.datasets.checks.documentation import page
from densevision.io.atomic_write import write_text
from densevision.tasks import TASKS, load_check

PAGE = Path(__file__).parent.parent / "docs" / "checks.md"


def main() -> None:
    write_text(PAGE, page({task: load_check(task).CHECKS for task in TASKS}))


if __name__ == "__main__":
    main()
