"""The panel that browses a dataset and shows the findings of `check`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from densevision.app.datasets import PAGE_SIZE, DatasetShelf, draw_page, list_findings, make_prediction
from densevision.app.events import connect, connect_prediction
from densevision.app.legends import build_wide_table
from densevision.app.options import AppOptions
from densevision.app.viewer import Viewer
from densevision.app.views import resize_to_view
from densevision.app.work_folder import WorkFolder
from densevision.errors import UsageError
from densevision.io.image import to_display
from densevision.tasks import TASKS

__all__ = ["DatasetPanel"]

HINT = '<p class="dv-note">Browse, and select a sample to enlarge it. Check lists problems of the dataset.</p>'


class DatasetPanel:
    """The components and what they do, made in the surrounding layout.

    Args:
        data: Datasets, as `train` takes them.
        options: Whether further datasets may be named.
        folder: Where files of the page are written.
    """

    def __init__(self, data: Sequence[str | os.PathLike[str]], options: AppOptions, folder: WorkFolder):
        self.shelf = DatasetShelf(data, options)
        self.index = gr.State(0)
        tasks = list(TASKS)
        with gr.Row():
            self.data = gr.Dropdown(
                choices=self.shelf.names,
                value=self.shelf.names[0],
                label="Dataset",
                info="Or type a path, as `train` takes it." if options.allows_paths else None,
                allow_custom_value=options.allows_paths,
                scale=3,
                elem_id="dataset-data",
            )
            self.task = gr.Dropdown(
                choices=tasks, value=tasks[0], label="Task", info="How to read its labels.", filterable=False, scale=2,
                elem_id="dataset-task",
            )  # fmt: skip
            self.split = gr.Radio(["train", "val"], value="train", label="Split", scale=1)
            with gr.Column(scale=1, min_width=120):
                self.browse = gr.Button("Browse", variant="primary", elem_id="dataset-browse")
                self.check = gr.Button("Check", elem_id="dataset-check")
        self.summary = gr.HTML()
        self.page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="dataset-page")
        with gr.Row():
            self.gallery = gr.Gallery(
                label="Samples with labels", columns=4, height=620, visible=False, allow_preview=False,
                object_fit="contain", buttons=[], elem_id="dataset-gallery",
            )  # fmt: skip
            with gr.Column():
                self.viewer = Viewer(folder, "Sample", "dataset", HINT)
        self.findings = gr.HTML(elem_id="dataset-findings")
        self._connect()

    def _connect(self) -> None:
        source = [self.task, self.data, self.split]
        viewer = self.viewer.outputs
        connect(self.browse.click, self.show, source, [self.summary, self.page, self.gallery, *viewer])
        connect(self.page.input, self.show_page, [*source, self.page], self.gallery, trigger_mode="always_last")
        connect(self.gallery.select, self.select, [*source, self.page], [self.index, *viewer])
        connect(self.viewer.names.input, self.show_view, [*source, self.index, self.viewer.names], viewer)
        connect_prediction(self.check.click, self.show_findings, [self.task, self.data], self.findings)

    # -- handlers ------------------------------------------------------------------------------------------------------

    def show(self, task: str, data: str, split: str) -> dict[Any, Any]:
        """Opens the split and shows its first page."""
        dataset = self.shelf.open(task, data, split)
        if not len(dataset):
            raise UsageError("the split is empty", field="split", value=split)
        pages = math.ceil(len(dataset) / PAGE_SIZE)
        classes = "" if dataset.classes is None else f", {len(dataset.classes)} classes: {', '.join(dataset.classes)}"
        notes = "".join(f"<li>{escape(note)}</li>" for note in dataset.notes)
        text = escape(f"{len(dataset):,} samples{classes}")
        return {
            self.summary: f"<p>{text}</p>" + (f"<ul>{notes}</ul>" if notes else ""),
            self.page: gr.update(maximum=max(2, pages), value=1, visible=pages > 1),
            self.gallery: gr.update(value=draw_page(dataset, 1), visible=True, selected_index=None),
            **self.viewer.clear(),
        }

    def show_page(self, task: str, data: str, split: str, page: int) -> Any:
        """Shows a page of the samples."""
        return gr.update(value=draw_page(self.shelf.open(task, data, split), int(page)), selected_index=None)

    def select(self, task: str, data: str, split: str, page: int, event: gr.SelectData) -> dict[Any, Any]:
        """Shows the sample that was clicked in the gallery."""
        index = (int(page) - 1) * PAGE_SIZE + int(event.index)
        updates = self.show_view(task, data, split, index, None)
        return {self.index: index, **updates}

    def show_view(self, task: str, data: str, split: str, index: int, name: str | None) -> dict[Any, Any]:
        """Draws a sample with its labels."""
        sample = self.shelf.open(task, data, split)[index]
        prediction = make_prediction(sample)
        if prediction is not None:
            return self.viewer.show(prediction, 0.0, name)
        image = resize_to_view(to_display(next(iter(sample.images.values()))))
        return {**self.viewer.clear(), self.viewer.image: gr.update(value=image, visible=True, label=str(sample.id))}

    def show_findings(self, task: str, data: str) -> str:
        """Checks the dataset and shows what was found."""
        report = self.shelf.check(task, data)
        counts = "; ".join(
            f"{split}: {', '.join(f'{count:,} {unit}' for unit, count in units.items())}"
            for split, units in report.counts.items()
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        header = ("severity", "problem", "count", "meaning", "places", "what to do")
        rows = list_findings(report)
        table = build_wide_table("Findings", header, rows) if rows else "<p><b>No problems found.</b></p>"
        return f"<p>Checked {escape(counts)}.</p>{table}" + (f"<ul>{notes}</ul>" if notes else "")
