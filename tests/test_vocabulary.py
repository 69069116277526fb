"""Identifiers, texts and file names use the standard terms of the field in American spelling."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import click
import pytest

from densevision.cli.main import root

ROOT = Path(__file__).parent.parent

IDENTIFIER_WORDS = """
alone answer answers arrivals basis believed centre centres colour colours continued counterparts critic decodes
glossary grey guided heeded heeds judge judged judgement keeper learnt licence likeness looks meant mend mended mends
optimiser perfect picture pictures rehearsal rehearse rehearsed semblance steering stilled stray strays suited
suppressed survivors told truths unanswered unheeded unmeant unreturned untold watch witness witnesses zoo
""".split()
"""Words that name nothing in this field, which has terms for what they stood for: image, prediction, hint, monitor,
supported options, discriminator, bundled weights. And British spellings."""

PROSE_WORDS = {"alone", "continued", "decodes", "perfect", "suppressed"}
"""Of these, words that the sentences of test names may have."""

TEXT_WORDS = """
centre centres colour colours grey heeded heeds judgement keeper learnt licence mend mended mends optimiser rehearsal
rehearse semblance steering unheeded unmeant untold witnesses
""".split()
"""Words that appear in no text either."""

PRIVATE = re.compile(r"/work/|/tmp/|\.\./shared|\bissue #?\d+\b")
"""Documentation does not name the machines of its authors; the folder of test data is the one exception."""
TEST_DATA = "DENSEVISION_TEST_DATA"


def compile_words(words: list[str]) -> re.Pattern[str]:
    alternatives = "|".join(sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![a-z])(?:{alternatives})(?![a-z])", re.IGNORECASE)


NAMES = compile_words(IDENTIFIER_WORDS)
TEST_NAMES = compile_words([word for word in IDENTIFIER_WORDS if word not in PROSE_WORDS])
TEXTS = compile_words(TEXT_WORDS)


def split_identifier(name: str) -> str:
    """`makeColorMap` and `make_color_map` to "make color map"."""
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()


@lru_cache(None)
def is_forbidden(name: str) -> bool:
    return NAMES.search(split_identifier(name)) is not None


@lru_cache(None)
def list_nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def list_identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Names of definitions, arguments, variables and attributes with their lines."""
    for node in list_nodes(path):
        for attribute in ("name", "arg", "attr", "id"):
            name = getattr(node, attribute, None)
            if isinstance(name, str):
                yield name, getattr(node, "lineno", 0)


def list_sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def list_documents() -> list[Path]:
    folders = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.yaml")]
    return sorted([*ROOT.glob("*.md"), *folders])


def list_files() -> list[Path]:
    folders = ("densevision", "tools", "tests", "configs", "docs")
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("folder", ["densevision", "tools"])
def test_identifiers__use_the_terms_of_the_field(folder: str) -> None:
    places = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in list_sources(folder)
        for name, line in list_identifiers(path)
        if is_forbidden(name)
    ]
    assert not sorted(set(places))


def test_tests__are_named_in_the_terms_of_the_field() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in list_sources("tests")
        for node in list_nodes(path)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and TEST_NAMES.search(split_identifier(node.name))
    ]
    assert not places


def test_files__are_named_in_the_terms_of_the_field() -> None:
    assert not [str(path.relative_to(ROOT)) for path in list_files() if NAMES.search(split_identifier(path.name))]


def test_texts__american_spelling_in_code() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number} {match[0]}"
        for path in list_sources("densevision", "tools")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in TEXTS.finditer(line)
    ]
    assert not lines


def test_texts__documents() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{number} {match[0]}"
        for path in list_documents()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in (*TEXTS.finditer(line), *(PRIVATE.finditer(line) if TEST_DATA not in line else ()))
    ]
    assert not places


def list_helps() -> Iterator[tuple[str, str]]:
    """The help of every command, task and verb."""
    groups: list[tuple[str, click.Command]] = [("densevision", root)]
    while groups:
        name, command = groups.pop()
        context = click.Context(command, info_name=name)
        yield name, command.get_help(context)
        if isinstance(command, click.Group):
            children = ((child, command.get_command(context, child)) for child in command.list_commands(context))
            groups += [(f"{name} {child}", each) for child, each in children if each is not None]


def test_texts__help_of_every_verb() -> None:
    helps = dict(list_helps())
    assert {"densevision models", "densevision detection train", "densevision flow submit"} <= set(helps)
    assert not [f"{name}: {match[0]}" for name, text in helps.items() for match in TEXTS.finditer(text)]
