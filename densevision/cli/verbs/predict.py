"""densevision TASK predict"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from densevision.cli.bulk_options import bulk_options, take_ray_options
from densevision.cli.options import (
    count_options,
    engine_option,
    json_flag,
    predict_options,
    quiet_flag,
    save_option,
    select_given,
    sequence_options,
    set_option,
    unpack_sources,
    weights_option,
)
from densevision.errors import DataError
from densevision.escaping import escape_control

if TYPE_CHECKING:
    from densevision.cli.prediction_writer import PredictionWriter
    from densevision.inference.counting import ObjectCounter

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("predict", help=f"Run {task} inference on images, a folder, a glob pattern, a video or a stream.")
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
    @save_option(task)
    @bulk_options
    @json_flag
    @quiet_flag
    @sequence_options(task)
    @count_options(task)
    @predict_options(task)
    def predict(
        source: tuple[str, ...],
        weights: str | None,
        overrides: dict[str, Any],
        out: str | None,
        save: tuple[str, ...],
        as_json: bool,
        quiet: bool,
        lines: tuple[list[float], ...] = (),
        zones: tuple[list[float], ...] = (),
        **options: Any,
    ) -> None:
        ray_options = take_ray_options(options)
        if as_json and (out or save or lines or zones):
            raise click.UsageError("--out, --save, --line and --zone have no effect with --json.")
        if options["engine"] == "ray" and (as_json or lines or zones):
            raise click.UsageError("--json, --line and --zone have no effect with --engine ray; use --save jsonl.")
        from densevision import api
        from densevision.cli.prediction_writer import PredictionWriter
        from densevision.cli.printing import configure_logging

        configure_logging(quiet)
        target = unpack_sources(source)
        given: dict[str, Any] = {"overrides": overrides, **select_given(options)}
        if options["engine"] == "ray":
            more = {**given, **ray_options, "save": save or ("parquet",), "quiet": quiet}
            del more["engine"]
            run = api.predict(target, task, weights, engine="ray", out=out or "predictions", **more)
            click.echo(escape_control(run))
            return
        counter = _create_counter(lines, zones, options.get("track"))
        writer = None
        if not as_json:
            folder, is_tracked = Path(out or "predictions"), options.get("track") is not None
            writer = PredictionWriter(source, folder, save or ("png",), is_tracked, counter)
        results = api.predict(target, task, weights, stream=True, **given)
        _write_results(results, writer, quiet)
        if counter is not None and not quiet:
            _print_counts(counter)

    return predict


def _create_counter(lines: Any, zones: Any, track: str | None) -> ObjectCounter | None:
    if not lines and not zones:
        return None
    if lines and track is None:
        raise click.UsageError("--line counts tracked objects: add --track bytetrack.")
    from densevision.inference.counting import ObjectCounter

    return ObjectCounter(lines, zones)


def _print_counts(counter: ObjectCounter) -> None:
    for row in counter.get_counts():
        counts = ", ".join(f"{row[name]} {name}" for name in ("in", "out", "inside") if row[name] is not None)
        click.echo(escape_control(f"{row['region']}: {row['class']}: {counts}"))


def _write_results(results: Any, writer: PredictionWriter | None, quiet: bool) -> None:
    """Writes results as they come. A live stream may end at any moment: what was written until then is kept."""
    from densevision.inference.read_ahead import read_ahead

    end: BaseException | None = None
    with writer or nullcontext():
        if writer is not None:
            writer.fps = results.fps
        try:
            for number, result in enumerate(read_ahead(results)):  # writing overlaps with predicting
                name = result.source if isinstance(result.source, str) else f"{number:06d}"
                if writer is None:
                    click.echo(json.dumps({"source": name, **result.to_dict()}, allow_nan=False))
                    continue
                for file in writer.write(result, name):
                    if not quiet:
                        click.echo(escape_control(file))
        except (DataError, KeyboardInterrupt) as error:
            if not results.is_live:
                raise
            end = error
    for path in writer.files if writer is not None and not quiet else ():
        click.echo(escape_control(path))
    if end is not None:
        raise end
