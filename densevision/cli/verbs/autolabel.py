"""densevision TASK autolabel"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from densevision.cli.options import json_flag, quiet_flag, select_given, set_option, unpack_sources, weights_option
from densevision.escaping import escape_control, escape_json

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""
    from densevision.datasets.conversion import OBJECT_WRITERS

    @click.command(
        "autolabel",
        help="Predict images, and write the predictions as labels for an annotation program, where people correct "
        "them. OUT has copies of the images, and review.csv, which begins with those where the model is least sure.",
    )
    @click.argument("source", nargs=-1, required=True)
    @click.argument("out")
    @weights_option
    @set_option
    @click.option(
        "--to", type=click.Choice(list(OBJECT_WRITERS)), default="cvat", show_default=True, help="The format."
    )
    @click.option(
        "--score-threshold",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.5,
        show_default=True,
        help="Objects of at least this score become labels.",
    )
    @click.option(
        "--review-threshold",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.2,
        show_default=True,
        help="Objects of at least this score are counted in review.csv.",
    )
    @click.option("--device", help="auto, cpu, cuda, cuda:1 or mps.")
    @click.option("--on-error", type=click.Choice(["fail", "skip"]), help="What to do with images that cannot be read.")
    @json_flag
    @quiet_flag
    def autolabel(source: tuple[str, ...], weights: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
        from densevision.cli.printing import configure_logging
        from densevision.labeling import autolabel as write_labels

        configure_logging(quiet or as_json)
        target = unpack_sources(source)
        report = write_labels(target, task, weights, **select_given(options))
        if as_json:
            images = [asdict(review) for review in report.reviews]
            content = {"out": str(report.out), "images": images, "lost": dict(report.losses.counts)}
            click.echo(escape_json(json.dumps(content, ensure_ascii=False)))
            return
        click.echo(escape_control(str(report.out)))
        click.echo(f"  {report.objects} objects in {len(report.reviews)} images; {report.uncertain} are left to people")
        for review in [review for review in report.reviews if review.uncertain][:5]:
            click.echo(escape_control(f"  look first at {review.image}: {review.uncertain} uncertain objects"))

    return autolabel
