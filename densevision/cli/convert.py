"""densevision convert"""

from __future__ import annotations

import json
from typing import Any

import click

from densevision.cli.options import json_flag
from densevision.escaping import escape_control

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""
    from densevision.datasets.conversion import TARGET_FORMATS

    @click.command(
        "convert",
        help="Convert the dataset SOURCE into another format, and list what that format cannot hold. The format of "
        "SOURCE is recognized as by `densevision TASK train`. OUT is written completely or not at all.",
    )
    @click.argument("source")
    @click.argument("out")
    @click.option("--to", type=click.Choice(TARGET_FORMATS), required=True, help="The format of OUT.")
    @click.option("--masks/--boxes", default=None, help="Keep masks, or only boxes; whatever there is by default.")
    @click.option(
        "--on-error", type=click.Choice(("fail", "fix", "skip")), help="What to do with bad labels. [default: fail]"
    )
    @click.option(
        "--uncovered",
        type=click.Choice(("background", "unknown")),
        help="To masks, from objects: the class of pixels without object. [default: background]",
    )
    @click.option("--palette", metavar="FILE", help="From color masks: lines `R G B name`; the name - means unknown.")
    @click.option(
        "--scale",
        type=click.FloatRange(min=0, min_open=True),
        help="To depth: steps per unit of the source, where it does not state them.",
    )
    @json_flag
    def convert(source: str, out: str, to: str, as_json: bool, **options: Any) -> None:
        from densevision.datasets.conversion import convert_dataset

        report = convert_dataset(source, out, to, **options)
        if as_json:
            content = {"out": out, "lost": dict(report.counts), "notes": list(report.notes)}
            click.echo(json.dumps(content, ensure_ascii=False))
            return
        click.echo(escape_control(out))
        for line in report.format_lines():
            prefix = "" if line in report.notes else "not carried over: "
            click.echo(escape_control(f"  {prefix}{line}"))

    return convert
