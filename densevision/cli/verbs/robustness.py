"""densevision TASK robustness"""

from __future__ import annotations

from typing import Any, Literal

import click

from densevision.cli.options import (
    data_option,
    describe_invocation,
    folder_or_none,
    json_flag,
    quiet_flag,
    set_option,
    weights_option,
)

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""
    from densevision.datasets.corruptions import CORRUPTIONS

    @click.command(
        "robustness", help="Evaluate weights on images that are rotated, blurred, noisy, compressed or dark."
    )
    @weights_option
    @data_option
    @set_option
    @click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
    @click.option(
        "--only", type=click.Choice(list(CORRUPTIONS)), multiple=True, help="A corruption to measure; repeatable."
    )
    @click.option("--limit", type=click.IntRange(1), help="Use this many first images.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of noise and blur.")
    @click.option("--out", metavar="FOLDER", help="Write a page and robustness.json there.")
    @json_flag
    @quiet_flag
    def robustness(
        weights: str | None,
        data: str | None,
        overrides: dict[str, Any],
        split: Literal["train", "val"],
        only: tuple[str, ...],
        out: str | None,
        as_json: bool,
        quiet: bool,
        **sampling: Any,
    ) -> None:
        from densevision import api
        from densevision.cli.printing import configure_logging, print_robustness
        from densevision.evaluation.robustness import measure_robustness
        from densevision.inference.progress import hide_progress, show_progress

        is_quiet = configure_logging(quiet or as_json)
        predictor, samples, options = api.open_for_evaluation(task, data, weights, overrides=overrides, split=split)
        result = measure_robustness(
            predictor,
            samples,
            corruptions=only or None,
            options=options,
            out=folder_or_none(out),
            command=describe_invocation(),
            progress=hide_progress if is_quiet else show_progress,
            **sampling,
        )
        print_robustness(result, as_json)

    return robustness
