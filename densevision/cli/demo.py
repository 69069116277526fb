"""densevision demo"""

from __future__ import annotations

from pathlib import Path

import click


def command() -> click.Command:
    """The command."""

    @click.command("demo", help="Show every task at work on fresh scenes, in one page; three minutes at most, offline.")
    @click.option("--out", metavar="FOLDER", default="demo", show_default=True, help="Where the page goes.")
    @click.option("--seed", type=int, help="Seed of the scenes; fresh ones when not given.")
    def demo(out, seed):
        from densevision.demo import demo as run

        page = run(Path(out), seed, say=lambda text: click.echo(text, err=True))
        click.echo(f"open {page}")

    return demo
