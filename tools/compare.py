"""Compares two runs on the same truth: the change of each number with a paired bootstrap interval over the pictures.

    python tools/compare.py TASK ONE OTHER --truth TRUTH [--images FOLDER] [--out FOLDER]   two sets of prediction files
    python tools/compare.py TASK ONE OTHER --data DATA [--split val] [--out FOLDER]         two weights

With --out, a page shows the pictures that changed most, drawn side by side.
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
@click.argument("one")
@click.argument("other")
@click.option("--truth", help="What is true: ONE and OTHER are prediction files or folders.")
@click.option("--images", help="With --truth: folder of the pictures, to be drawn on.")
@click.option("--data", help="A dataset: ONE and OTHER are weights.")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--draws", type=click.IntRange(1), default=1000, show_default=True, help="Draws of the pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--out", help="Folder for a page and compare.json.")
@json_flag
def main(task, one, other, truth, images, data, split, draws, seed, out, as_json):
    """Judges both sides, compares, prints."""
    import json

    from densevision.cli.printing import print_comparison
    from densevision.engine.comparison import Comparison
    from densevision.io.files import write_text

    if (truth is None) == (data is None):
        raise click.UsageError("Give either --truth (for prediction files) or --data (for weights).")
    sides = [_judged(task, side, truth, images, data, split) for side in (one, other)]
    found = Comparison.of(*sides, draws, seed)
    if out is not None:
        found.write(Path(out), shlex.join(["python", *sys.argv]))
        write_text(Path(out) / "compare.json", json.dumps(found.to_dict(), indent=1) + "\n")
    print_comparison(found, as_json)


def _judged(task, side, truth, images, data, split):
    if truth is not None:
        from densevision.engine.judgement import judge_files

        return judge_files(task, Path(truth), Path(side), images=None if images is None else Path(images))
    from densevision import api

    return api.judge(side, data, task, split=split)


if __name__ == "__main__":
    from densevision.cli.main import guarded

    guarded(main)
