"""Hostile names: messages, tables, logs and pages contain nothing that controls a terminal or a browser."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

from densevision.cli.main import run
from densevision.cli.printing import configure_logging, open_console, print_findings
from densevision.datasets.checks.context import Finding
from densevision.datasets.checks.report import CheckReport
from densevision.draw.html_page import HTMLPage
from densevision.errors import DataError
from densevision.escaping import escape_control, escape_json

HOSTILE_NAMES = (
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://example.com\x1b\\link",
    "\x9b2J",
    "over\rwritten",
    "back\b\b\bspace",
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "line\u2028separator",
    "\x7fdelete",
    "\udcff\udcfe",
    "[bold red]markup[/]",
    "<script>alert(1)</script>",
)
UNSAFE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}


def is_harmless(text: str) -> bool:
    """By Unicode categories: no controls, surrogates, line separators, or format characters other than joiners."""
    categories = {unicodedata.category(c) for c in text if c not in "\n\t"}
    formats = {c for c in text if unicodedata.category(c) == "Cf"} - {"\u200c", "\u200d"}
    return not categories & UNSAFE_CATEGORIES and not formats


def test_escape_control__all_characters() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        shown = escape_control(character)
        if unicodedata.category(character) in UNSAFE_CATEGORIES and character not in "\n\t":
            assert is_harmless(shown) and "\\" in shown
            assert shown.encode().decode("unicode_escape") == character
        elif unicodedata.category(character) not in ("Cf", "Cn"):
            assert shown == character
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert escape_control(family) == family


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_errors__hostile_names(name: str) -> None:
    error = DataError(f"class {name}", file=f"a{name}\n.png", field=name, value=name, hint=name)
    assert is_harmless(str(error)) and "\n" not in str(error)
    assert error.field == name  # the value itself stays


def test_errors__file_name_as_bytes() -> None:
    assert is_harmless(str(DataError("wrong", file=b"\xff\x1b[2J.png")))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_escape_json__value_is_unchanged(name: str) -> None:
    text = escape_json(json.dumps({name: [name, 1]}, ensure_ascii=False))
    assert is_harmless(text)
    assert json.loads(text) == {name: [name, 1]}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_terminal__text_and_tables(name: str) -> None:
    console = open_console()
    console.file, console.width = io.StringIO(), 400
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console.print(name)
    console.print(table)
    shown = console.file.getvalue()
    assert is_harmless(shown) and shown.count(escape_control(name)) == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_check__hostile_names(as_json: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from densevision.datasets.checks.boxes import TINY
    from densevision.datasets.checks.context import CheckContext

    context = CheckContext(lambda items, title: items)
    for name in HOSTILE_NAMES:
        context.add(TINY, tmp_path / name.replace("/", "_"), name, name)
    findings: list[Finding] = context.findings
    notes = [f"note of {name}" for name in HOSTILE_NAMES]
    print_findings(
        CheckReport(
            "detection", "data", {HOSTILE_NAMES[0]: {HOSTILE_NAMES[1]: 1}}, findings, notes, [HOSTILE_NAMES[2]]
        ),
        as_json,
    )
    shown = capsys.readouterr().out
    assert shown and is_harmless(shown)


def test_logging__hostile_names(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("densevision")
    before = log.handlers, log.propagate, log.level
    try:
        configure_logging(quiet=False)
        for name in HOSTILE_NAMES:
            log.warning("%s: of 100 %%", name)
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
    shown = capsys.readouterr().err
    assert is_harmless(shown) and len(shown.splitlines()) == len(HOSTILE_NAMES)


def test_html_page__hostile_names() -> None:
    page = HTMLPage(HOSTILE_NAMES[0])
    for name in HOSTILE_NAMES:
        page.add_heading(name).add_text(name).add_code(name).add_collapsible(name, name)
        page.add_table([[name, 1.0]], [name, name], name).add_image(np.zeros((4, 4, 3), np.uint8), name)
    html = page.render()
    html.encode()
    assert is_harmless(html) and "<script" not in html


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")
def test_command_line__hostile_file_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "\x1b[2Jdata"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "images" / "a\x1b]0;x\x07.png")
    (folder / "labels" / "a\x1b]0;x\x07.txt").write_text("0 0.5 0.5 \x1b[31m 2\n")
    (folder / "data.yaml").write_text('names: ["\\e[31mred"]\ntrain: images\nval: images\n')
    for arguments in (["check", str(folder)], ["score", str(folder), str(folder)]):
        with contextlib.suppress(SystemExit):
            run(["detection", *arguments])
        printed = capfd.readouterr()
        assert printed.out + printed.err and is_harmless(printed.out + printed.err)
