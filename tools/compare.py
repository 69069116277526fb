"""Compares two runs on the same truth: the change of each number with a paired bootstrap interval over the images.

    python tools/compare.py TASK ONE OTHER --truth TRUTH [--images FOLDER] [--out FOLDER]   two sets of prediction files
    python tools/compare.py TASK ONE OTHER --data DATA [--split val] [--out FOLDER]         two weights

--set and --on-error are those of `score` and `evaluate`. With --out, a page shows the images that changed most, drawn
side by side.
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
@click.argument("one")
@click.argument("other")
@answers_options
@click.option("--draws", type=click.IntRange(1), default=1000, show_default=True, help="Draws of the images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draws.")
@click.option("--out", help="Folder for a page and compare.json.")
@json_flag
def main(task, one, other, draws, seed, out, as_json, quiet, **given):
    """Judges both sides, compares, prints."""
    import json

    from densevision.cli.printing import print_comparison, remarks
    from densevision.evaluation.comparison import Comparison
    from densevision.io.atomic_write import write_text

    silent = quiet or as_json
    remarks(silent)
    sides = [judged(task, side, silent, **given) for side in (one, other)]
    found = Comparison.of(*sides, draws, seed, given["on_error"] or "fail")
    if out is not None:
        found.write(Path(out), shlex.join(["python", *sys.argv]))
        write_text(Path(out) / "compare.json", json.dumps(found.to_dict(), indent=1) + "\n")
    print_comparison(found, as_json)


if __name__ == "__main__":
    from densevision.cli.main import guarded

    guarded(main)
