"""densevision demo"""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "demo", help="Run every task on fresh synthetic scenes and write one page; at most three minutes, offline."
    )
    @click.option("--out", metavar="FOLDER", default="demo", show_default=True, help="Output folder.")
    @click.option("--seed", type=int, help="Seed of the scenes; random by default.")
    def demo(out: str, seed: int | None) -> None:
        from densevision.demo import run_demo

        page = run_demo(Path(out), seed, report_progress=lambda text: click.echo(text, err=True))
        click.echo(f"open {page}")

    return demo
