"""Names of the public API: what modules export, and that the package gives all it names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import densevision
from densevision import errors, results

PACKAGE = Path(densevision.__file__).parent


def find_module_without_all(source: str) -> list[str]:
    """Public functions and classes of a module that has no `__all__`."""
    body = ast.parse(source).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        return []
    definitions = (node for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)))
    return [node.name for node in definitions if not node.name.startswith("_")]


def test_modules__say_what_they_export() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    missing = {str(file.relative_to(PACKAGE)): find_module_without_all(file.read_text("utf-8")) for file in files}
    assert {file: names for file, names in missing.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "missing"),
    [("def f(): pass", ["f"]), ("__all__ = ['f']\ndef f(): pass", []), ("def _f(): pass\nX = 1", [])],
)
def test_find_module_without_all__planted(source: str, missing: list[str]) -> None:
    assert find_module_without_all(source) == missing


def test_package__gives_every_name() -> None:
    assert [name for name in densevision.__all__ if not hasattr(densevision, name)] == []
    assert set(densevision.__all__) <= set(dir(densevision))


def test_package__every_result_class_and_error() -> None:
    classes = {name for name in results.__all__ if isinstance(getattr(results, name), type)}
    raised = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes | raised <= set(densevision.__all__)
