"""Tells what kinds of errors there are and what they cost, with the worst images drawn.

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

from densevision.cli.answers import answers_options, judged
from densevision.cli.options import json_flag
from densevision.tasks import TASKS


@click.command(help=__doc__.splitlines()[0])
@click.argument("task", type=click.Choice(list(TASKS)))
@click.argument("source")
@answers_options
@click.option("--out", help="Folder for a page and errors.json.")
@json_flag
def main(task, source, out, as_json, quiet, **given):
    """Judges, looks at the errors, prints."""
    from densevision.cli.printing import print_errors, remarks
    from densevision.evaluation.error_analysis import Diagnosis
    from densevision.inference.progress import bar, silent

    still = quiet or as_json
    remarks(still)
    found = Diagnosis.of(judged(task, source, still, **given), silent if still else bar)
    if out is not None:
        found.write(Path(out), shlex.join(["python", *sys.argv]))
    print_errors(found, as_json)


if __name__ == "__main__":
    from densevision.cli.main import guarded

    guarded(main)
