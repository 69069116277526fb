"""densevision TASK check"""

from __future__ import annotations

import json

import click

from densevision.cli.options import set_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("check", help=f"Look for faults in a {task} dataset; exit code 3 when there are any.")
    @click.argument("data")
    @set_option
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @click.pass_context
    def check(ctx, data, settings, as_json):
        from densevision import api
        from densevision.tasks import load_task

        config = api.resolved_config(task, data, None, {"data.on_error": "fix", **settings})
        work = load_task(task)(load_task(task).complete(config))
        findings, counts = {}, {}
        for split in ("train", "val"):
            samples = work.dataset(split)
            findings[split], counts[split] = list(samples.notes), len(samples)
        if as_json:
            click.echo(json.dumps({"task": task, "counts": counts, "findings": findings}, ensure_ascii=False))
        else:
            for split, notes in findings.items():
                click.echo(f"{split}: {counts[split]} samples, {len(notes) or 'no'} kinds of fault")
                for note in notes:
                    click.echo(f"  {note}")
        ctx.exit(3 if any(findings.values()) else 0)

    return check
