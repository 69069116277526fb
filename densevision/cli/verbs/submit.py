"""densevision flow submit"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb."""

    @click.command("submit", help="Predict the test set of Sintel or KITTI 2015 and write the files its server takes.")
    @click.argument("dataset", type=click.Choice(["sintel", "kitti"]))
    @click.argument("root", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.argument("out", type=click.Path(file_okay=False, path_type=Path))
    @click.option("--weights", required=True, help="A file, or a name that `densevision models` lists.")
    @click.option("--iterations", type=click.IntRange(1), help="Refinement steps; as in the weights by default.")
    @click.option("--warm-start", is_flag=True, help="Start each pair of a sequence from the previous flow.")
    def submit(dataset: str, root: Path, out: Path, weights: str, iterations: int | None, warm_start: bool) -> None:
        from densevision import api
        from densevision.tasks.flow.submission import submit_kitti, submit_sintel

        options: dict[str, Any] = {"iterations": iterations} if iterations else {}
        options |= {"warm_start": True} if warm_start else {}
        write = submit_sintel if dataset == "sintel" else submit_kitti
        for path in write(api.load(weights, task), root, out, **options):
            click.echo(escape_control(path))

    return submit
