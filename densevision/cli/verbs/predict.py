"""densevision TASK predict"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from densevision.cli.bulk_options import bulk_options, take_ray_options
from densevision.cli.options import (
    engine_option,
    json_flag,
    predict_options,
    quiet_flag,
    select_given,
    set_option,
    weights_option,
)
from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("predict", help=f"Run {task} inference on images, a folder, a glob pattern or a video.")
    @click.argument("source", nargs=-1, required=True)
    @weights_option
    @engine_option
    @set_option
    @click.option(
        "--out",
        metavar="FOLDER",
        help="Output folder, with --engine ray also an address; files keep the images' paths below SOURCE. "
        "[default: predictions]",
    )
    @click.option(
        "--save",
        metavar="SUFFIX",
        multiple=True,
        help="Output format: png (drawn), json, ...; mp4 writes one video for a video; repeatable. With --engine ray: "
        "parquet, jsonl, coco, png. [default: png, with --engine ray parquet]",
    )
    @bulk_options
    @json_flag
    @quiet_flag
    @predict_options(task)
    def predict(
        source: tuple[str, ...],
        weights: str | None,
        overrides: dict[str, Any],
        out: str | None,
        save: tuple[str, ...],
        as_json: bool,
        quiet: bool,
        **options: Any,
    ) -> None:
        ray_options = take_ray_options(options)
        if as_json and (out or save):
            raise click.UsageError("--out and --save have no effect with --json.")
        if as_json and options["engine"] == "ray":
            raise click.UsageError("--json has no effect with --engine ray; use --save jsonl.")
        from densevision import api
        from densevision.cli.prediction_writer import PredictionWriter
        from densevision.cli.printing import configure_logging
        from densevision.inference.read_ahead import read_ahead

        configure_logging(quiet)
        target = source[0] if len(source) == 1 else list(source)
        given: dict[str, Any] = {"overrides": overrides, **select_given(options)}
        if options["engine"] == "ray":
            more = {**given, **ray_options, "save": save or ("parquet",), "quiet": quiet}
            del more["engine"]
            run = api.predict(target, task, weights, engine="ray", out=out or "predictions", **more)
            click.echo(escape_control(run))
            return
        writer = None if as_json else PredictionWriter(source, Path(out or "predictions"), save or ("png",))
        results = api.predict(target, task, weights, stream=True, **given)
        video = None if writer is None else writer.video
        with video or nullcontext():
            for number, result in enumerate(read_ahead(results)):  # writing overlaps with predicting
                name = result.source if isinstance(result.source, str) else f"{number:06d}"
                if writer is None:
                    click.echo(json.dumps({"source": name, **result.to_dict()}, allow_nan=False))
                    continue
                for file in writer.write(result, name):
                    if not quiet:
                        click.echo(escape_control(file))
        if video is not None and not quiet:
            click.echo(escape_control(video.path))

    return predict
