"""densevision TASK check"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.options import json_flag, quiet_flag, set_option

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("check", help=f"Check a {task} dataset for problems; exit code 3 when there are errors.")
    @click.argument("data")
    @click.option("--fix", metavar="OUT", help="Write a cleaned copy into this new folder; DATA is not changed.")
    @set_option
    @json_flag
    @quiet_flag
    @click.pass_context
    def check(
        ctx: click.Context, data: str, fix: str | None, overrides: dict[str, Any], as_json: bool, quiet: bool
    ) -> None:
        from densevision import api
        from densevision.cli.printing import print_findings

        report = api.check(task, data, overrides=overrides, fix=fix, quiet=quiet)
        print_findings(report, as_json)
        ctx.exit(3 if report.has_errors else 0)

    return check
