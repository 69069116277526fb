"""The documentation site: every page is in the navigation, links and anchors lead somewhere, and it builds strictly."""

from __future__ import annotations

import ast
import importlib.util
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted(str(file.relative_to(DOCS).as_posix()) for file in DOCS.rglob("*.md"))


@cache
def load_hooks() -> ModuleType:
    """The module that generates pages."""
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "tools" / "docs_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_nav(entry: Any) -> Iterator[str]:
    """The pages of the navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from list_nav(value)
    else:
        for value in entry:
            yield from list_nav(value)


@cache
def read_page(page: str) -> str:
    """The Markdown of a page, without code blocks."""
    generated = load_hooks().list_generated_pages()
    text = generated[page]() if page in generated else (DOCS / page).read_text(encoding="utf-8")
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


def list_anchors(page: str) -> set[str]:
    """The anchors of a page: its headings as MkDocs writes them, and the objects of the API reference."""
    text = read_page(page)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    return slugs | set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def test_nav__lists_every_page_once() -> None:
    listed = list(list_nav(SITE["nav"]))
    assert sorted(listed) == sorted([*PAGES, *load_hooks().list_generated_pages()])


@pytest.mark.parametrize("page", sorted(set(list_nav(SITE["nav"]))))
def test_links__lead_to_pages_files_and_anchors(page: str) -> None:
    generated = load_hooks().list_generated_pages()
    broken = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", read_page(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (DOCS / page).parent / target if target else DOCS / page
        name = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
        is_page = name in PAGES or name in generated
        if not is_page and not path.resolve().exists():
            broken.append(target)
        elif anchor and is_page and anchor not in list_anchors(name):
            broken.append(f"{target}#{anchor}")
    assert not broken


def test_safeguards__name_tests_that_exist() -> None:
    rows = re.findall(r"\]\(../../(tests/[\w/]+\.py)\)(?:<br>`(\w+)`)?", read_page("guides/safeguards.md"))
    assert len(rows) >= 15
    for file, name in rows:
        functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")]
        assert not name or name in functions, f"{file} has no {name}"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_reference__names_objects_that_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"^::: ([\w.]+)", read_page(page), re.MULTILINE):
            parts = name.split(".")
            prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
            module = next(prefix for prefix in prefixes if is_module(prefix))
            member = parts[len(module.split(".")) :]
            assert not member or hasattr(import_module(module), member[0]), name


def test_configuration__has_every_option() -> None:
    from densevision.tasks import TASKS, load_config

    page = load_hooks().build_configuration_page()
    for task in TASKS:
        missing = [
            option.name
            for option in load_config(task).iterate_options()
            if option.name != "task" and f"| `{option.name}` |" not in page
        ]
        assert not missing


@pytest.mark.slow
def test_site__builds_strictly_and_asks_for_nothing_outside(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    requests = re.compile(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(https?:)?//(?!github\.com)[^"'> ]+""")
    for page in tmp_path.rglob("*.html"):
        found = [match[0] for match in requests.finditer(page.read_text(encoding="utf-8"))]
        assert not [text for text in found if 'rel="canonical"' not in text], page
