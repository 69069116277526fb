"""Planted names: nothing that a terminal or a browser acts upon passes through messages, tables, logs or pages."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

import densevision
from densevision.cli.printing import print_findings, configure_logging, open_console
from densevision.datasets.checks.context import Finding
from densevision.datasets.checks.report import CheckReport
from densevision.draw.html_page import HTMLPage
from densevision.errors import DataError
from densevision.escaping import escape_control, escape_json

PLANTED = (
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
ACTIVE = {"Cc", "Cs", "Zl", "Zp"}


def harmless(text: str) -> bool:
    """By Unicode's own categories: no controls, surrogates, separators of lines, or formats beside the joiners."""
    kinds = {unicodedata.category(c) for c in text if c not in "\n\t"}
    formats = {c for c in text if unicodedata.category(c) == "Cf"} - {"\u200c", "\u200d"}
    return not kinds & ACTIVE and not formats


def test_escape_control__every_character() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        shown = escape_control(character)
        if unicodedata.category(character) in ACTIVE and character not in "\n\t":
            assert harmless(shown) and "\\" in shown
            assert shown.encode().decode("unicode_escape") == character
        elif unicodedata.category(character) not in ("Cf", "Cn"):
            assert shown == character
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert escape_control(family) == family


@pytest.mark.parametrize("planted", PLANTED)
def test_errors__planted_names(planted: str) -> None:
    failure = DataError(f"class {planted}", file=f"a{planted}\n.png", field=planted, value=planted, hint=planted)
    assert harmless(str(failure)) and "\n" not in str(failure)
    assert failure.field == planted  # the value itself stays


def test_errors__file_name_as_bytes() -> None:
    assert harmless(str(DataError("wrong", file=b"\xff\x1b[2J.png")))


@pytest.mark.parametrize("planted", PLANTED)
def test_json__stays_the_same_value(planted: str) -> None:
    text = escape_json(json.dumps({planted: [planted, 1]}, ensure_ascii=False))
    assert harmless(text)
    assert json.loads(text) == {planted: [planted, 1]}


@pytest.mark.parametrize("planted", PLANTED)
def test_terminal__text_and_tables(planted: str) -> None:
    console = open_console()
    console.file, console.width = io.StringIO(), 400
    table = Table(title=planted)
    table.add_column(planted)
    table.add_row(planted)
    console.print(planted)
    console.print(table)
    shown = console.file.getvalue()
    assert harmless(shown) and shown.count(escape_control(planted)) == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_check__planted_names(as_json: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from densevision.datasets.checks.boxes import TINY
    from densevision.datasets.checks.context import CheckContext

    context = CheckContext(lambda items, title: items)
    for planted in PLANTED:
        context.add(TINY, tmp_path / planted.replace("/", "_"), planted, planted)
    findings: list[Finding] = context.findings
    notes = [f"note of {planted}" for planted in PLANTED]
    print_findings(
        CheckReport("detection", "data", {PLANTED[0]: {PLANTED[1]: 1}}, findings, notes, [PLANTED[2]]), as_json
    )
    shown = capsys.readouterr().out
    assert shown and harmless(shown)


def test_logging__planted_names(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("densevision")
    before = log.handlers, log.propagate, log.level
    try:
        configure_logging(quiet=False)
        for planted in PLANTED:
            log.warning("%s: of 100 %%", planted)
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
    shown = capsys.readouterr().err
    assert harmless(shown) and len(shown.splitlines()) == len(PLANTED)


def test_page__planted_names() -> None:
    page = HTMLPage(PLANTED[0])
    for planted in PLANTED:
        page.add_heading(planted).add_text(planted).add_code(planted).add_collapsible(planted, planted)
        page.add_table([[planted, 1.0]], [planted, planted], planted).add_image(np.zeros((4, 4, 3), np.uint8), planted)
    html = page.render()
    html.encode()
    assert harmless(html) and "<script" not in html


@pytest.mark.skipif(os.name == "nt", reason="such names are refused there")
def test_command_line__planted_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2Jdata"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "images" / "a\x1b]0;x\x07.png")
    (folder / "labels" / "a\x1b]0;x\x07.txt").write_text("0 0.5 0.5 \x1b[31m 2\n")
    (folder / "data.yaml").write_text('names: ["\\e[31mred"]\ntrain: images\nval: images\n')
    for arguments in (["check", str(folder)], ["score", str(folder), str(folder)]):
        program = [sys.executable, "-m", "densevision", "detection", *arguments]
        answer = subprocess.run(program, capture_output=True, cwd=Path(densevision.__file__).parents[1])
        text = (answer.stdout + answer.stderr).decode()
        assert text and harmless(text)
