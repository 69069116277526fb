"""densevision similar"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from densevision.cli.options import json_flag, quiet_flag, select_given, unpack_sources
from densevision.escaping import escape_control, escape_json

__all__ = ["command"]


def command() -> click.Command:
    """Builds the command."""

    @click.command(
        "similar",
        help="Find near-duplicates among the images of SOURCE, or those most similar to --query, by the features of an "
        "encoder.",
    )
    @click.argument("source", nargs=-1, required=True)
    @click.option("--query", metavar="IMAGE", multiple=True, help="Find the images that are most similar to it.")
    @click.option(
        "--weights", metavar="FILE|NAME", help="densevision weights whose encoder is used. [default: bundled semantic]"
    )
    @click.option("--encoder", metavar="NAME", help="A timm model instead.")
    @click.option("--encoder-weights", metavar="FILE", help="Weights of --encoder.")
    @click.option("--threshold", type=click.FloatRange(-1, 1), help="Similarity of near-duplicates. [default: 0.7]")
    @click.option("--count", type=click.IntRange(1), help="Images for each --query. [default: 10]")
    @click.option("--out", metavar="FILE", help="A list as .csv or .json, or a page as .html.")
    @click.option("--device", help="auto, cpu, cuda, cuda:1 or mps.")
    @click.option("--on-error", type=click.Choice(["fail", "skip"]), help="What to do with images that cannot be read.")
    @json_flag
    @quiet_flag
    def similar(source: tuple[str, ...], query: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision.cli.printing import configure_logging
        from densevision.selection import find_similar

        if query and options["threshold"] is not None:
            raise click.UsageError("--threshold has no effect with --query.")
        if not query and options["count"] is not None:
            raise click.UsageError("--count has no effect without --query.")
        configure_logging(quiet or as_json)
        target = unpack_sources(source)
        pairs = find_similar(target, list(query) or None, **select_given(options))
        if as_json:
            click.echo(escape_json(json.dumps([asdict(pair) for pair in pairs], ensure_ascii=False)))
            return
        for pair in pairs:
            note = "  mirrored" if pair.is_mirrored else ""
            click.echo(escape_control(f"{pair.similarity:.4f}  {pair.image}  {pair.similar}{note}"))

    return similar
