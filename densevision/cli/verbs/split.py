"""densevision joint split"""

from __future__ import annotations

import click

from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb."""

    @click.command("split", help="Write the weights of each task of a joint model as weights of their own.")
    @click.argument("weights", type=click.Path(exists=True, dir_okay=False))
    @click.argument("out", metavar="OUT_FOLDER", type=click.Path(file_okay=False))
    def split(weights: str, out: str) -> None:
        from densevision.inference.joint_files import split as split_file

        for path in split_file(weights, out):
            click.echo(escape_control(path))

    return split
