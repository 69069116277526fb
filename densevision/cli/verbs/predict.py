"""densevision TASK predict"""

from __future__ import annotations

import json
from pathlib import Path

import click

from densevision.cli.options import given, predict_options, quiet_flag, set_option, weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("predict", help=f"Answer pictures, a folder, a pattern or a video: {task}.")
    @click.argument("source", nargs=-1, required=True)
    @weights_option
    @set_option
    @click.option("--out", metavar="FOLDER", help="Where the answers go; predictions/ when not given.")
    @click.option(
        "--save", metavar="SUFFIX", multiple=True, help="Form of the answers: png (drawn), json, ...; repeatable."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per picture instead of writing files.")
    @quiet_flag
    @predict_options
    def predict(source, weights, settings, out, save, as_json, quiet, **options):
        if as_json and (out or save):
            raise click.UsageError("--out and --save have no effect with --json.")
        from densevision import api

        target = source[0] if len(source) == 1 else list(source)
        results = api.predict(target, task, weights, stream=True, set=settings, **given(options))
        folder = Path(out or "predictions")
        for number, result in enumerate(results):
            if as_json:
                click.echo(json.dumps({"source": _name(result, number), **result.to_dict()}, allow_nan=False))
                continue
            for suffix in save or ("png",):
                path = result.save(folder / f"{Path(_name(result, number)).stem}.{suffix.lstrip('.')}")
                if not quiet:
                    click.echo(str(path))

    return predict


def _name(result, number: int) -> str:
    return result.source if isinstance(result.source, str) else f"{number:06d}"
