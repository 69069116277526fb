"""Generates docs/checks.md: python tools/document_checks.py"""

from __future__ import annotations

from pathlib import Path

from densevision.datasets.checks.documentation import build_page
from densevision.io.atomic_write import write_text
from densevision.tasks import TASKS, load_check

PAGE = Path(__file__).parent.parent / "docs" / "checks.md"


def main() -> None:
    write_text(PAGE, build_page({task: load_check(task).CHECKS for task in TASKS}))


if __name__ == "__main__":
    main()
