"""The layout of the page: its panels as tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from densevision.app.compare_panel import ComparePanel
from densevision.app.dataset_panel import DatasetPanel
from densevision.app.events import connect_silent
from densevision.app.options import AppOptions
from densevision.app.predict_panel import PredictPanel
from densevision.app.run_panel import RunPanel
from densevision.app.weights import WeightsShelf
from densevision.app.work_folder import MAX_AGE_SECONDS, WorkFolder

__all__ = ["build_page"]

HEADER = """<header class="dv-header"><h1>densevision</h1>
<p>Detection, segmentation, depth, flow, super-resolution and translation. Images stay on this machine.</p></header>"""


def build_page(
    weights: Sequence[Any], runs: Sequence[Any], data: Sequence[Any], options: AppOptions, folder: WorkFolder
) -> gr.Blocks:
    """Builds the page; the arguments are those of `densevision.app.build_app`."""
    shelf = WeightsShelf(weights, options)
    with gr.Blocks(
        title="densevision", analytics_enabled=False, delete_cache=(600, MAX_AGE_SECONDS), fill_width=True
    ) as page:
        gr.HTML(HEADER)
        with gr.Tab("Predict", id="predict"):
            predict_panel = PredictPanel(shelf, options, folder)
        with gr.Tab("Compare", id="compare"):
            ComparePanel(shelf, options, folder)
        with gr.Tab("Run", id="run"):
            RunPanel(runs, options)
        with gr.Tab("Dataset", id="dataset"):
            DatasetPanel(data, options, folder)
        connect_silent(
            page.load,
            predict_panel.describe_task,
            [predict_panel.weights.task, predict_panel.weights.name],
            [predict_panel.threshold, predict_panel.files],
        )
    return page
