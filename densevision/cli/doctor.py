"""densevision doctor"""

from __future__ import annotations

import json

import click

from densevision.cli.options import json_flag
from densevision.escaping import escape_control

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "doctor",
        help="Check whether this machine can run densevision: Python, packages, devices, memory, threads, codecs, "
        "folders, network settings, and a tiny loop of training, prediction and export. One line per finding; exit "
        "code 1 when there are errors.",
    )
    @click.option("--quick", is_flag=True, help="Leave out the loop, which takes about a minute.")
    @json_flag
    @click.pass_context
    def doctor(ctx: click.Context, quick: bool, as_json: bool) -> None:
        from densevision.system_checks.finding import SystemFinding
        from densevision.system_checks.report import doctor as run_checks
        from densevision.system_checks.report import format_finding

        def print_finding(finding: SystemFinding) -> None:
            click.echo(escape_control(format_finding(finding)))

        report = run_checks(quick=quick, on_finding=None if as_json else print_finding)
        if as_json:
            click.echo(json.dumps(report.to_dict()))
        ctx.exit(1 if report.has_errors else 0)

    return doctor
