"""Converts weights that other people published into ours: python tools/convert.py NAME FILE OUT."""

from __future__ import annotations

import sys

import click

from densevision.errors import DenseVisionError
from densevision.published_weights import convert, published_weights


@click.command(
    help="Convert FILE, downloaded under NAME, into OUT (safetensors with a card). Known names:\n\n\b\n"
    + "\n".join(sorted(published_weights()))
)
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=click.Path(dir_okay=False))
def main(name: str, file: str, out: str) -> None:
    try:
        convert(name, file, out)
    except DenseVisionError as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(failure.exit_code)
    click.echo(out)


if __name__ == "__main__":
    main()
