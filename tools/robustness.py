"""Measures how answers degrade when images do: turned, blurred, noisy, compressed, dark, smaller or larger.

    python tools/robustness.py TASK [WEIGHTS] --data DATA [--only NAME ...] [--limit N] [--out FOLDER]

The starter weights are taken when none are given. Truth is turned and scaled along with its image.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from densevision.cli.options import json_flag, quiet_flag, set_option
from densevision.tasks import TASKS


@click.command(help=__doc__.splitlines()[0])
@click.argument("task", type=click.Choice(list(TASKS)))
@click.argument("weights", required=False)
@click.option("--data", help="A dataset; the one that the weights were trained on when not given.")
@set_option
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--only", multiple=True, help="A corruption, repeatable; all when not given.")
@click.option("--limit", type=click.IntRange(1), help="Only so many of the first images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of noise and blur.")
@click.option("--out", help="Folder for a page and robustness.json.")
@json_flag
@quiet_flag
def main(task, weights, data, settings, split, only, limit, seed, out, as_json, quiet):
    """Judges the model under each corruption, prints."""
    from densevision import api
    from densevision.cli.printing import print_robustness, remarks
    from densevision.evaluation.robustness import measure
    from densevision.inference.progress import bar, silent

    remarks(quiet or as_json)
    model, samples, options = api.open_for_evaluation(weights, data, task, settings, split)
    progress = silent if quiet or as_json else bar
    found = measure(model, samples, tuple(dict.fromkeys(only)) or None, limit, seed, options, progress)
    if out is not None:
        found.write(Path(out), shlex.join(["python", *sys.argv]))
    print_robustness(found, as_json)


if __name__ == "__main__":
    from densevision.cli.main import guarded

    guarded(main)
