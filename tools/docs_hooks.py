"""Hooks of mkdocs.yml: pages that are generated from the code, and links that lead out of docs/."""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from densevision.cli.main import COMMANDS, TASK_VERBS, VERBS, root
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sequence_options import SequenceOptions
from densevision.tasks import TASKS, load_config

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md"}
"""Page -> file of the repository that it shows."""


def list_generated_pages() -> dict[str, Any]:
    """Page -> function that builds its Markdown."""
    pages = {page: (lambda file=file: _read_root_page(file)) for page, file in ROOT_PAGES.items()}
    return {
        **pages,
        "reference/configuration.md": build_configuration_page,
        "reference/command_line.md": build_command_page,
    }


# -- hooks of MkDocs ---------------------------------------------------------------------------------------------------


def on_startup(**_: Any) -> None:
    """Makes up for pixeltable-yolox (extra `parity`), which registers templates in a module that it does not ship."""
    for name in ("tool", "tool.doc_plugins", "tool.doc_plugins.mkdocstrings"):
        module = sys.modules.setdefault(name, ModuleType(name))
    module.get_templates_path = lambda: ROOT / "docs" / "css"  # type: ignore[attr-defined]


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File

    for page, build in list_generated_pages().items():
        files.append(File.generated(config, page, content=build()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Points links that lead out of docs/, or to files that are no pages, to the repository."""
    folder = Path("docs") / Path(page.file.src_uri).parent
    address = f"{config.repo_url.rstrip('/')}/blob/main"

    def replace(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = os.path.normpath(folder / target).replace(os.sep, "/")
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        is_outside = not path.startswith("docs/") or path.startswith("docs/results/") or (ROOT / path).is_dir()
        return f"]({address}/{path}{anchor})" if is_outside else match[0]

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", replace, markdown)


# -- pages -------------------------------------------------------------------------------------------------------------


def build_configuration_page() -> str:
    """Every option of every task's config, from the classes."""
    lines = [
        "# Configuration",
        "",
        "A config is a YAML file with these options; `--config FILE` reads it and `--set NAME=VALUE` overrides single",
        "options. Unknown names, wrong types and options without effect are errors. A run writes its options to",
        "`config.yaml`.",
        "",
        "Options that are the same in every task come first; each task's own follow.",
        "",
        "## All tasks",
        "",
    ]
    shared = {option.name: option for option in TaskConfig.iterate_options() if option.name != "task"}
    sections: dict[str, list[str]] = {}
    for name, option in shared.items():
        sections.setdefault(name.rpartition(".")[0], []).append(_format_option(option))
    for section, rows in sections.items():
        lines += [f"### `{section}`" if section else "### Top level", "", *_make_table(rows)]
    lines += [
        "## Prediction",
        "",
        "Options of `predict` and `evaluate`; a task refuses those that it does not support.",
        "",
    ]
    lines += _make_table([_format_option(option) for option in PredictOptions.iterate_options()])
    lines += ["`predict` alone has those of [videos, streams and folders of frames](../guides/video.md):", ""]
    lines += _make_table([_format_option(option) for option in SequenceOptions.iterate_options()])
    for task in TASKS:
        config = load_config(task)
        own: dict[str, list[str]] = {}
        for option in config.iterate_options():
            base = shared.get(option.name)
            if option.name == "task":
                continue
            if base is None or (base.default, base.help) != (option.default, option.help):
                own.setdefault(option.name.rpartition(".")[0], []).append(_format_option(option))
        lines += [f"## {task}", "", (inspect.getdoc(config) or "").split("\n\n")[0], ""]
        supported = ", ".join(f"`{name}`" for name in sorted(config.predict_options))
        lines += [
            f"Supported options of prediction, besides `device`, `precision`, `batch`, `max_pixels`: {supported}.",
            "",
        ]
        for section, rows in own.items():
            lines += [f"### {task}: `{section}`" if section else f"### {task}: top level", "", *_make_table(rows)]
    return "\n".join(lines)


def build_command_page() -> str:
    """The help of every command."""
    lines = [
        "# Command line",
        "",
        "`densevision TASK VERB` and commands without a task. Exit codes: 0 done, 1 failed while running, 2 usage,",
        "3 data, 4 weights or model, 5 export, 130 Ctrl-C, 143 SIGTERM. `densevision --debug ...` shows tracebacks.",
        "",
        "## Tasks",
        "",
        *[f"- [`{task}`](../{task}.md): {summary}" for task, summary in TASKS.items()],
        "",
        "## Verbs of every task",
        "",
        "The help is that of `detection`; other tasks show the options that they support.",
        "",
    ]
    for verb in VERBS:
        lines += _format_help(f"densevision detection {verb}", ["detection", verb])
    for task, verbs in TASK_VERBS.items():
        for verb in verbs:
            lines += _format_help(f"densevision {task} {verb}", [task, verb])
    lines += ["## Commands without a task", ""]
    for name in COMMANDS:
        lines += _format_help(f"densevision {name}", [name])
    return "\n".join(lines)


def _read_root_page(file: str) -> str:
    """A file of the repository's root, with its links as seen from docs/."""
    text = (ROOT / file).read_text(encoding="utf-8")
    pages = {name: page for page, name in ROOT_PAGES.items()}

    def replace(match: re.Match[str]) -> str:
        target = match[1]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        moved = pages.get(target) or (target[5:] if target.startswith("docs/") else f"../{target}")
        return f"]({moved}{match[2] or ''})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", replace, text)


def _format_option(option: Any) -> str:
    help_text = " ".join(option.help.split()).replace("|", "\\|")
    return f"| `{option.name}` | `{_format_default(option.default)}` | {help_text} |"


def _make_table(rows: list[str]) -> list[str]:
    return ["| option | default | |", "|---|---|---|", *rows, ""]


def _format_default(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_format_default, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value) if value != "" else "''"


def _format_help(title: str, arguments: list[str]) -> list[str]:
    context = click.Context(root, info_name="densevision", terminal_width=100, max_content_width=100)
    command: click.Command = root
    for name in arguments:
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context, terminal_width=100, max_content_width=100)
    command.epilog = None  # the options of the config have a page of their own
    text = command.get_help(context)
    return [f"### `{title}`", "", "```text", text, "```", ""]
