"""densevision joint combine"""

from __future__ import annotations

import click

from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb."""

    @click.command("combine", help="Write weights of single tasks as those of a joint model, to be trained on.")
    @click.argument("parts", metavar="TASK=FILE...", nargs=-1, required=True)
    @click.option("--out", required=True, metavar="FILE", help="The file to write.")
    @click.option("--encoder", metavar="TASK", help="The task whose encoder is shared; the first one by default.")
    def combine(parts: tuple[str, ...], out: str, encoder: str | None) -> None:
        from densevision.cli.printing import configure_logging
        from densevision.inference.joint_files import combine as combine_files

        pairs = dict(part.partition("=")[::2] for part in parts)
        if not all(pairs.values()) or len(pairs) < len(parts):
            raise click.UsageError("Give TASK=FILE for each task, such as detection=a.safetensors.")
        configure_logging(quiet=False)
        click.echo(escape_control(combine_files(pairs, out, encoder)))

    return combine
