"""The panel that shows the results of two weights for the same image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from densevision.app.comparison import compare_results, draw_difference
from densevision.app.events import connect, connect_prediction, connect_silent
from densevision.app.examples import write_examples
from densevision.app.legends import build_table
from densevision.app.options import AppOptions
from densevision.app.predictions import (
    LOWEST_THRESHOLD,
    Prediction,
    check_files,
    filter_objects,
    find_threshold,
    predict_files,
)
from densevision.app.viewer import build_image, build_slider
from densevision.app.views import draw_view, list_views
from densevision.app.weights import WeightsShelf
from densevision.app.weights_fields import WeightsFields
from densevision.app.work_folder import WorkFolder
from densevision.errors import UsageError
from densevision.io.image_files import IMAGE_SUFFIXES
from densevision.io.video import is_video

__all__ = ["ComparePanel"]

Pair = tuple[Prediction, Prediction]
HINT = '<p class="dv-note">Select two weights of a task, add an image, and press Compare.</p>'


class ComparePanel:
    """The components and what they do, made in the surrounding layout.

    Args:
        shelf: The weights.
        options: The limits.
        folder: Where files of the page are written.
    """

    def __init__(self, shelf: WeightsShelf, options: AppOptions, folder: WorkFolder):
        self.shelf, self.options, self.folder = shelf, options, folder
        self.state = gr.State(None, time_to_live=24 * 3600)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self.weights = WeightsFields(shelf, "compare", ("First weights", "Second weights"))
                self.files = gr.File(
                    label="An image; for flow, a pair", file_count="multiple", file_types=list(IMAGE_SUFFIXES),
                    height=150, elem_id="compare-files",
                )  # fmt: skip
                with gr.Row():
                    self.examples = gr.Button("Try a scene", elem_id="compare-examples", min_width=120)
                    self.run = gr.Button("Compare", variant="primary", elem_id="compare-run", min_width=120)
                self.threshold = gr.Slider(
                    LOWEST_THRESHOLD, 1, value=0.25, step=0.01, label="Score threshold", elem_id="compare-threshold"
                )
            with gr.Column(scale=5, min_width=480):
                self.names = gr.Radio(label="View", visible=False)
                self.slider = build_slider("First and second", elem_id="compare-slider")
                with gr.Row():
                    self.first, self.second = build_image("First"), build_image("Second")
                self.table = gr.HTML(HINT, elem_id="compare-table")
                self.difference = build_image("Difference", visible=False)
        self._connect()

    def _connect(self) -> None:
        outputs = [self.names, self.slider, self.first, self.second, self.table, self.difference]
        shown = [self.state, self.threshold, self.names]
        self.weights.connect([self.threshold], self._describe_task)
        fields = [self.weights.task, *self.weights.names, self.files, self.threshold]
        connect_prediction(self.run.click, self.compare, fields, [self.state, *outputs], show_progress_on=self.slider)
        connect(self.examples.click, self.take_example, [self.weights.task], self.files)
        connect(self.names.input, self.show, shown, outputs, show_progress_on=self.slider)
        connect_silent(self.threshold.input, self.show, shown, outputs)

    # -- handlers ------------------------------------------------------------------------------------------------------

    def _describe_task(self, task: str, name: str) -> dict[Any, Any]:
        threshold = find_threshold(self.shelf.load(task, name).task)
        return {self.threshold: gr.update(visible=threshold is not None, value=threshold or LOWEST_THRESHOLD)}

    def take_example(self, task: str) -> list[str]:
        """Renders a synthetic scene into the field of files."""
        files = write_examples(task, 1, self.folder.create())
        return [str(file) for file in (files if task == "flow" else files[:1])]

    def compare(
        self,
        task: str,
        first: str | None,
        second: str | None,
        files: Sequence[str] | None,
        threshold: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        """Predicts with both weights and shows the results."""
        paths = [Path(file) for file in files or ()]
        check_files(paths, self.options)
        if any(is_video(path) for path in paths):
            raise UsageError("videos are not compared", file=paths[0].name, hint="Upload an image.")
        pair = []
        for number, name in enumerate((first, second)):
            progress(number / 2, desc=f"predicting with {name}")
            predictor = self.shelf.load(task, name)
            pair.append(replace(predict_files(predictor, paths, self.options)[0], name=str(name)))
        return {self.state: tuple(pair), **self.show(tuple(pair), threshold, None)}  # type: ignore[arg-type]

    def show(self, pair: Pair | None, threshold: float, name: str | None) -> dict[Any, Any]:
        """Draws both results."""
        if pair is None:
            return {self.names: gr.skip()}
        results = [filter_objects(each.result, threshold) for each in pair]
        names = [each for each in list_views(results[0]) if "3-D" not in each and each in list_views(results[1])]
        name = name if name in names else names[0]
        first, second = (draw_view(each, result, name).after for each, result in zip(pair, results))
        labels = [each.name for each in pair]
        rows = compare_results(*pair, threshold)
        difference = draw_difference(*results)
        is_same_size = first.shape == second.shape
        return {
            self.names: gr.update(choices=names, value=name, visible=len(names) > 1),
            self.slider: gr.update(
                value=(first, second) if is_same_size else None, label=" | ".join(labels), visible=is_same_size
            ),
            self.first: gr.update(value=first, label=labels[0], alt_text=f"Result of {labels[0]}"),
            self.second: gr.update(value=second, label=labels[1], alt_text=f"Result of {labels[1]}"),
            self.table: build_table("Comparison", ("", *labels), rows),
            self.difference: gr.update(
                value=None if difference is None else difference[0],
                visible=difference is not None,
                label="" if difference is None else escape(difference[1]),
            ),
        }
