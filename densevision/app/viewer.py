"""The part of the page that shows one result: a drawing, an image under a slider, or a surface, with its legend."""

from __future__ import annotations

from typing import Any

import gradio as gr

from densevision.app.events import connect_silent
from densevision.app.legends import build_legend
from densevision.app.predictions import Prediction, filter_objects
from densevision.app.surface import write_surface
from densevision.app.views import View, draw_view, list_views, split_name
from densevision.app.work_folder import WorkFolder
from densevision.results import DepthMap, JointResult, Result

__all__ = ["Viewer", "build_image", "build_slider"]

DIRECTION = (90, 90)
"""Angles in degrees from which a surface is first seen: those of the camera which took the image."""
STEP_BACK = 1.5
"""How much farther than that camera one stands at first, so that the nearest objects are in sight."""
MAX_HEIGHT = 640
"""Height of drawings in pixels of the page, so that the legend below is seen without scrolling."""


class Viewer:
    """Components that show a result, made in the surrounding layout.

    Args:
        folder: Where surfaces are written.
        label: Heading of the drawing.
        prefix: Beginning of the element ids.
        hint: What stands in the place of the legend before there is a result, as HTML.

    Attributes:
        names: Selects one of the drawings of the result.
        outputs: The components that `show` updates.
    """

    def __init__(self, folder: WorkFolder, label: str, prefix: str, hint: str = ""):
        self.folder, self.label = folder, label
        self.names = gr.Radio(label="View", visible=False, elem_id=f"{prefix}-views")
        self.image = build_image(label)
        self.slider = build_slider(label, visible=False)
        self.surface = gr.Model3D(label=label, visible=False, height=MAX_HEIGHT)
        self.legend = gr.HTML(hint, elem_id=f"{prefix}-legend")
        # gradio drops the file of a 3-D component that appears with it: it is set once the component is there.
        self.surface_file = gr.State(None)
        connect_silent(self.surface_file.change, lambda file: file, self.surface_file, self.surface)
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
            distance = write_surface(path, result, view.after)
            camera = (*DIRECTION, STEP_BACK * distance)
            updates[self.surface] = gr.update(value=None, visible=True, label=label, camera_position=camera)
            updates[self.surface_file] = str(path)
        elif view.before is not None:
            updates[self.slider] = gr.update(value=(view.before, view.after), visible=True, label=label)
        else:
            updates[self.image] = gr.update(value=view.after, visible=True, label=label, alt_text=label)
        return updates


def build_image(label: str, visible: bool = True) -> gr.Image:
    """A component that shows an image; its label is also what screen readers say."""
    return gr.Image(
        label=label, visible=visible, interactive=False, format="png", buttons=["download", "fullscreen"],
        alt_text=label, elem_classes="dv-image",
    )  # fmt: skip


def build_slider(label: str, visible: bool = True, elem_id: str | None = None) -> gr.ImageSlider:
    """A component that shows two images under a slider."""
    return gr.ImageSlider(
        label=label, visible=visible, interactive=False, format="png", max_height=MAX_HEIGHT,
        buttons=["download", "fullscreen"], elem_id=elem_id,
    )  # fmt: skip


def _select_part(result: Result, name: str) -> Result:
    """The task's result that a drawing of a joint result shows."""
    return result[split_name(name)[0]] if isinstance(result, JointResult) else result
