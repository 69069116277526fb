"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import densevision

PACKAGE = Path(densevision.__file__).parent


def list_modules_with_examples() -> list[str]:
    """Modules whose text has a doctest prompt."""
    files = (file for file in sorted(PACKAGE.rglob("*.py")) if ">>> " in file.read_text("utf-8"))
    names = (".".join(("densevision", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files)
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", list_modules_with_examples())
def test_docstrings__examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(import_module(name))
    assert outcome.failed == 0


def test_docstrings__examples_are_found() -> None:
    assert len(list_modules_with_examples()) > 30
    parser, text = doctest.DocTestParser(), "A wrong example.\n\n>>> 1 + 1\n3\n"
    wrong = parser.get_doctest(text, {}, "planted", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    assert runner.run(wrong, out=lambda _: None).failed == 1
