"""Tells what kinds of errors there are and what they cost, with the worst pictures drawn.

    python tools/errors.py TASK PREDICTIONS --truth TRUTH [--images FOLDER] [--out FOLDER]   prediction files
    python tools/errors.py TASK WEIGHTS --data DATA [--split val] [--out FOLDER]             weights

Boxes and masks: TIDE's kinds (classification, localisation, both, duplicate, background, missed) with what each costs.
Maps: confusions between classes with their costs, and the error by distance to borders, depth, speed, texture and
occlusion.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from densevision.cli.options import json_flag
from densevision.tasks import TASKS


@click.command(help=__doc__.splitlines()[0])
@click.argument("task", type=click.Choice(list(TASKS)))
@click.argument("source")
@click.option("--truth", help="What is true: SOURCE is prediction files.")
@click.option("--images", help="With --truth: folder of the pictures, to be drawn on and for texture.")
@click.option("--data", help="A dataset: SOURCE is weights.")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--out", help="Folder for a page and errors.json.")
@json_flag
def main(task, source, truth, images, data, split, out, as_json):
    """Judges, looks at the errors, prints."""
    from densevision.cli.printing import print_errors
    from densevision.engine.diagnosis import Diagnosis

    if (truth is None) == (data is None):
        raise click.UsageError("Give either --truth (for prediction files) or --data (for weights).")
    if truth is not None:
        from densevision.engine.judgement import judge_files

        judgement = judge_files(task, Path(truth), Path(source), images=None if images is None else Path(images))
    else:
        from densevision import api

        judgement = api.judge(source, data, task, split=split)
    found = Diagnosis.of(judgement)
    if out is not None:
        found.write(Path(out), shlex.join(["python", *sys.argv]))
    print_errors(found, as_json)


if __name__ == "__main__":
    from densevision.cli.main import guarded

    guarded(main)
