"""Answers the test set of Sintel or KITTI with the files that its server takes.

python tools/submit_flow.py sintel /data/sintel OUT --weights torchvision/raft_large --iterations 32 --warm-start
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from densevision import load
from densevision.errors import DenseVisionError
from densevision.tasks.flow.submission import submit_kitti, submit_sintel

WRITERS = {"sintel": submit_sintel, "kitti": submit_kitti}


@click.command(help=__doc__)
@click.argument("dataset", type=click.Choice(tuple(WRITERS)))
@click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--weights", required=True, help="A file, or a name that `densevision models` lists.")
@click.option("--iterations", type=int, help="Refinement steps; as the weights say when not given.")
@click.option("--warm-start", is_flag=True, help="Start each pair of a sequence from the one before.")
def main(dataset: str, root: Path, out: Path, weights: str, iterations: int | None, warm_start: bool) -> None:
    options = {"iterations": iterations} | ({"warm_start": True} if warm_start else {})
    try:
        for path in WRITERS[dataset](load(weights, "flow"), root, out, **options):
            click.echo(str(path))
    except DenseVisionError as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
