"""densevision TASK predict"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import click

from densevision.cli.options import given, predict_options, quiet_flag, set_option, weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("predict", help=f"Answer images, a folder, a pattern or a video: {task}.")
    @click.argument("source", nargs=-1, required=True)
    @weights_option
    @set_option
    @click.option(
        "--out",
        metavar="FOLDER",
        help="Where the answers go, by the images' paths below SOURCE; predictions/ when not given.",
    )
    @click.option(
        "--save",
        metavar="SUFFIX",
        multiple=True,
        help="Form of the answers: png (drawn), json, ...; mp4 makes one video of the answers to a video; repeatable.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image instead of writing files.")
    @quiet_flag
    @predict_options
    def predict(source, weights, settings, out, save, as_json, quiet, **options):
        if as_json and (out or save):
            raise click.UsageError("--out and --save have no effect with --json.")
        from densevision import api
        from densevision.cli.answer_files import PredictionWriter
        from densevision.cli.printing import remarks

        if quiet:
            remarks(quiet)
        files = None if as_json else PredictionWriter(source, Path(out or "predictions"), save or ("png",))
        target = source[0] if len(source) == 1 else list(source)
        results = api.predict(target, task, weights, stream=True, set=settings, **given(options))
        film = None if files is None else files.film
        with film or nullcontext():
            for number, result in enumerate(results):
                name = result.source if isinstance(result.source, str) else f"{number:06d}"
                if files is None:
                    click.echo(json.dumps({"source": name, **result.to_dict()}, allow_nan=False))
                    continue
                for file in files.write(result, name):
                    if not quiet:
                        click.echo(str(file))
        if film is not None and not quiet:
            click.echo(str(film.path))

    return predict
