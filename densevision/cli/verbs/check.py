"""densevision TASK check"""

from __future__ import annotations

import click

from densevision.cli.options import json_flag, quiet_flag, set_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("check", help=f"Example for faults in a {task} dataset; exit code 3 when there are errors.")
    @click.argument("data")
    @click.option("--fix", metavar="OUT", help="Write a cleaned copy into this new folder; DATA stays as it is.")
    @set_option
    @json_flag
    @quiet_flag
    @click.pass_context
    def check(ctx, data, fix, settings, as_json, quiet):
        from densevision.cli.printing import print_findings
        from densevision.datasets.checks.report import examine
        from densevision.inference.progress import bar, silent
        from densevision.tasks import load_check, load_config

        config = load_config(task).resolve(None, {**settings, "data.path": data})
        report = examine(task, config, load_check(task).check, fix, silent if quiet else bar)
        print_findings(report, as_json)
        ctx.exit(3 if report.failed else 0)

    return check
