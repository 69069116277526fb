"""The panel that predicts uploaded images or a video."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from densevision.app.downloads import list_result_formats, save_predictions
from densevision.app.events import connect, connect_prediction, connect_silent
from densevision.app.examples import write_examples
from densevision.app.options import AppOptions
from densevision.app.predictions import (
    LOWEST_THRESHOLD,
    Prediction,
    check_files,
    filter_objects,
    find_threshold,
    predict_files,
)
from densevision.app.videos import predict_video
from densevision.app.viewer import Viewer
from densevision.app.views import draw_thumbnail
from densevision.app.weights import BUNDLED, WeightsShelf, describe_card
from densevision.app.weights_fields import WeightsFields
from densevision.app.work_folder import WorkFolder
from densevision.io.image_files import IMAGE_SUFFIXES
from densevision.io.video import VIDEO_SUFFIXES, is_video

__all__ = ["PredictPanel", "format_commands"]

PAIRS_NOTE = "Two or more images, or a video"
IMAGES_NOTE = "Images, or a video"
HINT = '<p class="dv-note">Add images and press Predict; Try scenes renders some.</p>'


@dataclass
class Shown:
    """What a visitor's page shows.

    Attributes:
        task: Task of the predictions.
        weights: Name of the weights.
        predictions: One per image or pair.
        index: Which of them is shown.
        card: What the weights are, in a line.
    """

    task: str = ""
    weights: str = ""
    predictions: list[Prediction] = field(default_factory=list)
    index: int = 0
    card: str = ""


class PredictPanel:
    """The components and what they do, made in the surrounding layout.

    Args:
        shelf: The weights.
        options: The limits.
        folder: Where files of the page are written.
    """

    def __init__(self, shelf: WeightsShelf, options: AppOptions, folder: WorkFolder):
        self.shelf, self.options, self.folder = shelf, options, folder
        self.state = gr.State(None, time_to_live=24 * 3600)
        self.seed = gr.State(0)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._build_inputs()
            with gr.Column(scale=5, min_width=480):
                self._build_outputs()
        self._connect()

    def _build_inputs(self) -> None:
        self.weights = WeightsFields(self.shelf, "predict")
        suffixes = [*IMAGE_SUFFIXES, *VIDEO_SUFFIXES]
        self.files = gr.File(
            label=IMAGES_NOTE, file_count="multiple", file_types=suffixes, height=180, elem_id="predict-files"
        )
        with gr.Row():
            self.examples = gr.Button("Try scenes", elem_id="predict-examples", min_width=120)
            self.run = gr.Button("Predict", variant="primary", elem_id="predict-run", min_width=120)
        self.threshold = gr.Slider(
            LOWEST_THRESHOLD, 1, step=0.01, label="Score threshold", elem_id="predict-threshold",
            info="Filters what was predicted; nothing is computed again.",
        )  # fmt: skip
        with gr.Group(visible=False) as self.download_group:
            self.format = gr.Dropdown(label="Download as", elem_id="predict-format", filterable=False)
            self.all_images = gr.Checkbox(label="All images, as a ZIP archive", visible=False)
            self.download = gr.Button("Download", elem_id="predict-download")
        self.file = gr.DownloadButton("File", elem_id="predict-file")  # hidden by the style

    def _build_outputs(self) -> None:
        self.gallery = gr.Gallery(
            label="Images", columns=6, height="auto", visible=False, allow_preview=False, object_fit="contain",
            fit_columns=False, buttons=[], elem_id="predict-gallery",
        )  # fmt: skip
        self.viewer = Viewer(self.folder, "Result", "predict", HINT)
        self.video = gr.Video(label="Result", visible=False, interactive=False, buttons=["download"])
        self.video_files = gr.File(
            label="The drawn video", visible=False, interactive=False, elem_id="predict-video-files"
        )
        with gr.Accordion("The same in a terminal and in Python", open=False, visible=False) as self.commands_group:
            self.commands = gr.Code(language="shell", show_label=False, interactive=False, lines=3, wrap_lines=True)

    def _connect(self) -> None:
        self.weights.connect([self.threshold, self.files], self.describe_task)
        outputs = [
            self.state, self.gallery, *self.viewer.outputs, self.video, self.video_files, self.download_group,
            self.format, self.all_images, self.commands_group, self.commands,
        ]  # fmt: skip
        fields = [self.weights.task, self.weights.name, self.files, self.threshold]
        connect_prediction(self.run.click, self.predict, fields, outputs, show_progress_on=self.viewer.image)
        connect(self.examples.click, self.take_examples, [self.seed, self.weights.task], [self.seed, self.files])
        shown = [self.state, self.threshold, self.viewer.names]
        redrawn = [self.gallery, *self.viewer.outputs, self.commands]
        connect_silent(self.threshold.input, self.redraw, shown, redrawn)
        on_image = {"show_progress_on": self.viewer.image}
        connect(self.viewer.names.input, self.show, shown, self.viewer.outputs, **on_image)
        connect(self.gallery.select, self.select, shown, [self.state, *self.viewer.outputs], **on_image)
        chosen = [self.state, self.threshold, self.format, self.all_images]
        connect(self.download.click, self.save, chosen, self.file).success(None, js=CLICK_FILE)

    # -- handlers ------------------------------------------------------------------------------------------------------

    def describe_task(self, task: str, name: str) -> dict[Any, Any]:
        """Updates for the weights that were selected."""
        predictor = self.shelf.load(task, name)
        threshold = find_threshold(predictor.task)
        inputs = len(predictor.task.input_spec)
        return {
            self.threshold: gr.update(visible=threshold is not None, value=threshold or LOWEST_THRESHOLD),
            self.files: gr.update(label=PAIRS_NOTE if task == "flow" and inputs > 1 else IMAGES_NOTE),
        }

    def take_examples(self, seed: int, task: str) -> tuple[int, list[str]]:
        """Renders new synthetic scenes into the field of files."""
        return seed + 1, [str(file) for file in write_examples(task, seed + 1, self.folder.create())]

    def predict(
        self,
        task: str,
        name: str | None,
        files: Sequence[str] | None,
        threshold: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        """Predicts the files and shows the first result."""
        paths = [Path(file) for file in files or ()]
        check_files(paths, self.options)
        progress(0.0, desc="loading weights")
        predictor, name = self.shelf.load(task, name), str(name)
        if is_video(paths[0]):
            return self._predict_video(predictor, paths[0], threshold, progress)
        predictions = predict_files(
            predictor, paths, self.options, lambda fraction, text: progress(fraction, desc=f"predicting {text}")
        )
        shown = Shown(task, name, predictions, card=describe_card(predictor, name))
        formats = list_result_formats(predictions[0].result)
        return {
            self.state: shown,
            **self.redraw(shown, threshold, None),
            self.video: gr.update(value=None, visible=False),
            self.video_files: gr.update(value=None, visible=False),
            self.download_group: gr.update(visible=True),
            self.format: gr.update(choices=formats, value="png" if "png" in formats else formats[0]),
            self.all_images: gr.update(visible=len(predictions) > 1, value=False),
            self.commands_group: gr.update(visible=True),
        }

    def _predict_video(self, predictor: Any, file: Path, threshold: float, progress: gr.Progress) -> dict[Any, Any]:
        limit = None if find_threshold(predictor.task) is None else threshold
        video = predict_video(
            predictor, file, self.folder.create(), self.options, limit, lambda part, text: progress(part, desc=text)
        )
        total = "" if video.total is None or video.total <= video.frames + 1 else f" of {video.total}"
        note = (
            f"<p>{video.frames}{total} frames of {escape(file.name)} in {video.seconds:.1f} s. Another threshold needs "
            "another prediction: results of single frames are not kept.</p>"
        )
        return {
            self.state: Shown(),
            self.gallery: gr.update(visible=False),
            **self.viewer.clear(),
            self.viewer.image: gr.update(value=None, visible=False),
            self.viewer.legend: gr.update(value=note),
            self.video: gr.update(value=str(video.files[0]), visible=True, label=file.name),
            self.video_files: gr.update(value=[str(each) for each in video.files], visible=True),
            self.download_group: gr.update(visible=False),
            self.commands_group: gr.update(visible=False),
        }

    def redraw(self, shown: Shown | None, threshold: float, view: str | None) -> dict[Any, Any]:
        """Draws everything that depends on the threshold."""
        if shown is None or not shown.predictions:
            return {self.gallery: gr.skip()}
        thumbnails = [
            (draw_thumbnail(each, filter_objects(each.result, threshold)), each.name) for each in shown.predictions
        ]
        is_gallery = len(thumbnails) > 1
        return {
            self.gallery: gr.update(value=thumbnails if is_gallery else None, visible=is_gallery),
            **self.show(shown, threshold, view),
            self.commands: format_commands(shown.task, shown.weights, shown.predictions[shown.index], threshold),
        }

    def show(self, shown: Shown | None, threshold: float, view: str | None) -> dict[Any, Any]:
        """Draws the selected result."""
        if shown is None or not shown.predictions:
            return self.viewer.clear()
        prediction = shown.predictions[shown.index]
        updates = self.viewer.show(prediction, threshold, view)
        legend = updates[self.viewer.legend]
        note = f'<p class="dv-note">{prediction.seconds:.2f} s. {escape(shown.card)}</p>'
        return {**updates, self.viewer.legend: gr.update(value=legend["value"] + note)}

    def select(self, shown: Shown, threshold: float, view: str | None, event: gr.SelectData) -> dict[Any, Any]:
        """Shows the image that was clicked in the gallery."""
        shown.index = int(event.index) if int(event.index) < len(shown.predictions) else 0
        return {self.state: shown, **self.show(shown, threshold, view)}

    def save(self, shown: Shown, threshold: float, name: str, all_images: bool) -> str:
        """Writes the selected result, or all of them, for the browser to download."""
        predictions = shown.predictions if all_images else shown.predictions[shown.index : shown.index + 1]
        return str(save_predictions(predictions, threshold, name, self.folder.create()))


CLICK_FILE = "() => setTimeout(() => document.querySelector('#predict-file').click(), 100)"
"""The browser downloads what the hidden button holds, once the page has its new address."""


def format_commands(task: str, weights: str, prediction: Prediction, threshold: float) -> str:
    """The command line and the Python call that compute what is shown."""
    files = [file.name for file in prediction.files]
    chosen = {} if weights == BUNDLED else {"weights": weights}
    options: dict[str, Any] = dict(chosen)
    if filter_objects(prediction.result, 2.0) is not prediction.result:
        options["score_threshold"] = round(threshold, 2)
    words = ["densevision", task, "predict", *files]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    source = repr(files[0]) if len(files) == 1 else repr(tuple(files))
    keywords = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"{shlex.join(words)}\n\n# Python\ndensevision.predict({source}, task={task!r}{keywords})"
