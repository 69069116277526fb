"""densevision TASK predict"""

from __future__ import annotations

import glob
import itertools
import json
from pathlib import Path

import click

from densevision.cli.options import given, predict_options, quiet_flag, set_option, weights_option
from densevision.errors import UsageError


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("predict", help=f"Answer pictures, a folder, a pattern or a video: {task}.")
    @click.argument("source", nargs=-1, required=True)
    @weights_option
    @set_option
    @click.option(
        "--out",
        metavar="FOLDER",
        help="Where the answers go, by the pictures' paths below SOURCE; predictions/ when not given.",
    )
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
        from densevision.cli.printing import remarks

        if quiet:
            remarks(quiet)
        target = source[0] if len(source) == 1 else list(source)
        results = api.predict(target, task, weights, stream=True, set=settings, **given(options))
        folder, roots = Path(out or "predictions"), [_root(item) for item in source]
        written: dict[Path, str] = {}
        for number, result in enumerate(results):
            name = result.source if isinstance(result.source, str) else f"{number:06d}"
            if as_json:
                click.echo(json.dumps({"source": name, **result.to_dict()}, allow_nan=False))
                continue
            place = _place(Path(name), roots)
            if place in written:
                mend = "Predict them one by one, each into an --out of its own."
                raise UsageError(f"would be answered where {written[place]} was", file=name, field="--out", mend=mend)
            written[place] = name
            files = [folder / f"{place}.{suffix.lstrip('.')}" for suffix in save or ("png",)]
            for file, write in [
                (file, result.writer(file)) for file in files
            ]:  # all forms are known before any is written
                write(file)
                if not quiet:
                    click.echo(str(file))

    return predict


def _root(source: str) -> Path:
    """The folder below which a source's pictures lie: itself, or what stands before the first wild card or the name."""
    path = Path(source)
    if path.exists():
        return path if path.is_dir() else path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _place(path: Path, roots: list[Path]) -> Path:
    """Where a picture's answer goes below the folder of answers: its path below the widest root, without suffix."""
    below = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    inside = [place for place in below if ".." not in place.parts]
    return max(inside, key=lambda place: len(place.parts), default=Path(path.name)).with_suffix("")
