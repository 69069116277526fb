"""The part of the page that shows one result: a drawing, an image under a slider, or a surface, with its legend."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from densevision.app.legends import build_legend
from densevision.app.predictions import Prediction, filter_objects
from densevision.app.surface import write_surface
from densevision.app.views import View, draw_view, list_views, split_name
from densevision.app.work_folder import WorkFolder
from densevision.errors import DenseVisionError
from densevision.results import DepthMap, JointResult, Result

__all__ = ["Viewer", "describe_error", "report_errors"]

CAMERA = (90, 90, None)
"""Direction from which a surface is first seen: that of the camera which took the image."""


class Viewer:
    """Components that show a result, made in the surrounding layout.

    Args:
        folder: Where surfaces are written.
        label: Heading of the drawing.
        prefix: Beginning of the element ids.

    Attributes:
        names: Selects one of the drawings of the result.
        outputs: The components that `show` updates.
    """

    def __init__(self, folder: WorkFolder, label: str, prefix: str):
        self.folder, self.label = folder, label
        self.names = gr.Radio(label="View", visible=False, elem_id=f"{prefix}-views")
        self.image = gr.Image(
            label=label, interactive=False, format="png", buttons=["download", "fullscreen"], alt_text=label
        )
        self.slider = gr.ImageSlider(label=label, interactive=False, format="png", visible=False, max_height=900)
        self.surface = gr.Model3D(label=label, visible=False, height=560, camera_position=CAMERA)
        self.legend = gr.HTML(elem_id=f"{prefix}-legend")
        # gradio drops the file of a 3-D component that appears with it: it is set once the component is there.
        self.surface_file = gr.State(None)
        self.surface_file.change(
            lambda file: file, self.surface_file, self.surface, show_progress="hidden", api_visibility="private"
        )
        self.outputs = [self.names, self.image, self.slider, self.surface, self.surface_file, self.legend]

    def show(self, prediction: Prediction, threshold: float, name: str | None) -> dict[Any, Any]:
        """Updates of the components.

        Args:
            prediction: The prediction.
            threshold: Score from which objects are shown.
            name: The drawing; the first one if the result has no such.
        """
        result = filter_objects(prediction.result, threshold)
        names = list_views(result)
        name = name if name in names else names[0]
        view = draw_view(prediction, result, name)
        label = f"{prediction.name}: {name}"
        shown = _select_part(result, name)
        return {
            self.names: gr.update(choices=names, value=name, visible=len(names) > 1),
            **self._show_view(view, label, shown),
            self.legend: gr.update(value=build_legend(shown)),
        }

    def clear(self) -> dict[Any, Any]:
        """Updates of the components when there is nothing to show."""
        return {
            self.names: gr.update(visible=False, choices=[]),
            self.image: gr.update(value=None, visible=True, label=self.label),
            self.slider: gr.update(value=None, visible=False),
            self.surface: gr.update(value=None, visible=False),
            self.surface_file: None,
            self.legend: gr.update(value=""),
        }

    def _show_view(self, view: View, label: str, result: Result) -> dict[Any, Any]:
        hidden = gr.update(value=None, visible=False)
        updates = {self.image: hidden, self.slider: hidden, self.surface: hidden, self.surface_file: None}
        if view.is_surface:
            assert isinstance(result, DepthMap)
            path = self.folder.create() / "surface.glb"
            write_surface(path, result, view.after)
            updates[self.surface] = gr.update(value=None, visible=True, label=label)
            updates[self.surface_file] = str(path)
        elif view.before is not None:
            updates[self.slider] = gr.update(value=(view.before, view.after), visible=True, label=label)
        else:
            updates[self.image] = gr.update(value=view.after, visible=True, label=label, alt_text=label)
        return updates


def report_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Shows errors that a visitor can fix as messages of the page; others are logged with their traceback."""

    @wraps(handler)
    def handle(*args: Any, **keywords: Any) -> Any:
        try:
            return handler(*args, **keywords)
        except DenseVisionError as error:
            raise gr.Error(describe_error(error), duration=None, print_exception=False) from None

    return handle


def describe_error(error: DenseVisionError) -> str:
    """The message of an error as HTML, with the name of a file in the place of its path on this machine."""
    text = str(error)
    if error.file is not None:
        text = text.replace(str(error.file), Path(error.file).name)
    return html.escape(text)


def _select_part(result: Result, name: str) -> Result:
    """The task's result that a drawing of a joint result shows."""
    return result[split_name(name)[0]] if isinstance(result, JointResult) else result
