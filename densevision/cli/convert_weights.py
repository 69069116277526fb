"""densevision convert-weights"""

from __future__ import annotations

import click

from densevision.escaping import escape_control

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "convert-weights",
        help="Convert FILE, published by another project under NAME, into OUT (safetensors with a card). "
        "`densevision models` lists the names.",
    )
    @click.argument("name")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False))
    @click.argument("out", type=click.Path(dir_okay=False))
    def convert_weights(name: str, file: str, out: str) -> None:
        from densevision.published_weights import convert_weights as convert

        convert(name, file, out)
        click.echo(escape_control(out))

    return convert_weights
