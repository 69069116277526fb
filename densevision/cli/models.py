"""densevision models"""

from __future__ import annotations

import click


def command() -> click.Command:
    """The command."""

    @click.command(
        "models", help="List the starter weights, the named weights with license and size, and the backbones."
    )
    @click.option("--backbones", is_flag=True, help="List every timm model that works as a pyramid.")
    @click.option("--filter", "pattern", default="*", help="Only names that fit this pattern, e.g. 'mobilenet*'.")
    def models(backbones, pattern):
        from fnmatch import fnmatch

        if backbones:
            from densevision.nn.backbone import pyramid_models

            for name in pyramid_models():
                if fnmatch(name, pattern):
                    click.echo(name)
            return
        _print_weights(pattern)

    return models


def _print_weights(pattern: str) -> None:
    from fnmatch import fnmatch

    from rich.console import Console
    from rich.table import Table

    from densevision.io.weights import load_card
    from densevision.published_weights import announcement, bundled_weights, published_weights
    from densevision.tasks import TASKS

    console = Console()
    for task in TASKS:
        path = bundled_weights(task)
        if path is not None:
            console.print(f"{announcement(load_card(path))}; {path.stat().st_size / 1e6:.1f} MB", highlight=False)
    table = Table("name", "task", "trained on", "license", "MB")
    for weights in published_weights().values():
        if fnmatch(weights.name, pattern):
            table.add_row(weights.name, weights.task, weights.trained_on, weights.license, f"{weights.megabytes:.0f}")
    if table.row_count:
        console.print(table)
    console.print("Backbones: densevision models --backbones", highlight=False)
