"""The panel that opens a run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from densevision.app.events import connect, connect_prediction
from densevision.app.legends import build_table, build_wide_table
from densevision.app.options import AppOptions
from densevision.app.runs import list_images, open_run, rank_images
from densevision.errors import UsageError

__all__ = ["RunPanel"]

DEFAULT_COUNT, MAX_COUNT = 50, 500
"""Validation images that are ranked."""


class RunPanel:
    """The components and what they do, made in the surrounding layout.

    Args:
        runs: Run folders.
        options: Whether further folders may be named.

    Raises:
        UsageError: A folder holds no run.
    """

    def __init__(self, runs: Sequence[str | os.PathLike[str]], options: AppOptions):
        self.options = options
        self.runs = list(dict.fromkeys(os.fspath(run) for run in runs))
        for run in self.runs:
            open_run(Path(run))
        with gr.Row():
            self.run = gr.Dropdown(
                choices=self.runs,
                value=self.runs[0] if self.runs else None,
                label="Run folder",
                info="Or type the path of a run folder." if options.allows_paths else None,
                allow_custom_value=options.allows_paths,
                scale=4,
                elem_id="run-folder",
            )
            self.open = gr.Button("Open", variant="primary", scale=1, min_width=120, elem_id="run-open")
        self.summary = gr.HTML(elem_id="run-summary")
        self.images = gr.Gallery(
            label="Curves, first batches and predictions", columns=3, height="auto", visible=False,
            object_fit="contain", buttons=["fullscreen"], elem_id="run-images", elem_classes="dv-wide",
        )  # fmt: skip
        self.table = gr.HTML()
        with gr.Row(visible=False) as self.rank_row:
            self.count = gr.Slider(
                1, MAX_COUNT, value=DEFAULT_COUNT, step=1, label="Validation images to rank", scale=4,
                info="The best weights are evaluated on the first images of the validation split.",
            )  # fmt: skip
            self.rank = gr.Button("Best and worst", scale=1, min_width=120, elem_id="run-rank")
        self.ranking = gr.HTML()
        self.worst, self.best = (
            gr.Gallery(
                label=label, columns=1, visible=False, object_fit="contain", height="auto", buttons=["fullscreen"],
                elem_id=f"run-{label.lower()}", elem_classes="dv-natural",
            )
            for label in ("Worst", "Best")
        )  # fmt: skip
        self._connect()

    def _connect(self) -> None:
        outputs = [self.summary, self.images, self.table, self.rank_row, self.ranking, self.worst, self.best]
        connect(self.open.click, self.show, self.run, outputs)
        ranked = [self.ranking, self.worst, self.best]
        connect_prediction(
            self.rank.click, self.show_ranking, [self.run, self.count], ranked, show_progress_on=self.ranking
        )

    # -- handlers ------------------------------------------------------------------------------------------------------

    def show(self, name: str | None) -> dict[Any, Any]:
        """Shows what the run folder holds."""
        run = open_run(self._find(name))
        images = list_images(run.path)
        return {
            self.summary: _describe(run.summary),
            self.images: gr.update(value=images, visible=bool(images)),
            self.table: build_wide_table("Epochs, the last one first", run.columns, run.rows),
            self.rank_row: gr.update(visible=run.summary["weights"] is not None),
            self.ranking: "",
            self.worst: gr.update(value=None, visible=False),
            self.best: gr.update(value=None, visible=False),
        }

    def show_ranking(
        self,
        name: str | None,
        count: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        """Evaluates the best weights and shows the best and the worst images."""
        path = self._find(name)
        metric, worst, best = rank_images(path, int(count), lambda fraction, text: progress(fraction, desc=text))
        return {
            self.ranking: f"<p>By <b>{escape(metric)}</b> of single images.</p>",
            self.worst: gr.update(value=worst, visible=True, label=f"Worst by {metric}"),
            self.best: gr.update(value=best, visible=bool(best), label=f"Best by {metric}"),
        }

    def _find(self, name: str | None) -> Path:
        if not name:
            raise UsageError("no run folder is given", hint="Start the page with --run, or type a path.")
        if name not in self.runs and not self.options.allows_paths:
            hint = "Start the page with --run to offer it."
            raise UsageError("the page does not offer this run", field="run", value=name, hint=hint)
        return Path(name)


def _describe(summary: dict[str, Any]) -> str:
    best = summary["best"]
    rows = [
        ("task", summary["task"]),
        ("architecture", summary["arch"]),
        ("data", str(summary["data"])),
        ("epochs", f"{summary['finished_epochs']} of {summary['epochs']}"),
        ("best", "" if best is None else f"{best['metric']} {best['value']:.4g} in epoch {best['epoch']}"),
    ]
    return build_table("Run", ("", ""), rows)
