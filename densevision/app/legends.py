"""Legends of results as HTML, which can be read aloud and copied: classes, a color bar, the color wheel."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np

from densevision.app.surface import FIELD_OF_VIEW, compute_distance
from densevision.draw.colors import apply_colormap, get_class_color
from densevision.draw.fields import OCCLUSION_COLOR, compute_display_range, render_flow_wheel
from densevision.results import DepthMap, Detections, FlowField, Image, JointResult, Result, SemanticMap

__all__ = ["build_legend", "build_table", "build_wide_table"]

WHEEL_SIDE = 120
RAMP_STEPS = 12
"""Colors of a color bar, between which the browser interpolates."""
NO_OBJECTS = "No object has a score above the threshold."


def build_legend(result: Result) -> str:
    """The legend of a result as HTML; texts of files are escaped."""
    if isinstance(result, JointResult):
        parts = (f"<h4>{escape(name)}</h4>{build_legend(each)}" for name, each in result.results.items())
        return "".join(parts)
    for kind, build in _LEGENDS.items():
        if isinstance(result, kind):
            return build(result)
    return f"<p>{escape(repr(result))}</p>"


def build_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as HTML; header and cells are escaped, but for cells that begin with a swatch of `_swatch`."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    head = f"<thead><tr>{names}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{''.join(f'<td>{_escape_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="dv-table"><caption>{escape(caption)}</caption>{head}<tbody>{body}</tbody></table>'


def build_wide_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where it does not fit."""
    table = build_table(caption, header, rows)
    return f'<div class="dv-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">{table}</div>'


class _Markup(str):
    """Text that is HTML already."""


def _escape_cell(cell: str) -> str:
    return cell if isinstance(cell, _Markup) else escape(str(cell))


def _swatch(color: Sequence[int], name: str) -> _Markup:
    red, green, blue = color
    return _Markup(f'<span class="dv-swatch" style="background:rgb({red},{green},{blue})"></span>{escape(name)}')


def _describe_objects(result: Result) -> str:
    assert isinstance(result, Detections)
    if not len(result):
        return f"<p>{NO_OBJECTS}</p>"
    are_labels = bool((result.scores == 1).all())  # of people: they have no scores
    rows = []
    for label, count in Counter(result.labels.tolist()).most_common():
        scores = result.scores[result.labels == label]
        extremes = () if are_labels else (f"{scores.max():.2f}", f"{scores.min():.2f}")
        rows.append((_swatch(get_class_color(label), result.names[label]), str(count), *extremes))
    noun = "1 object" if len(result) == 1 else f"{len(result)} objects"
    return build_table(noun, ("class", "count", *(() if are_labels else ("best score", "lowest score"))), rows)


def _describe_classes(result: Result) -> str:
    assert isinstance(result, SemanticMap)
    pixels = np.array([np.count_nonzero(result.mask(index)) for index in range(len(result.names))])
    rows = [
        (_swatch(get_class_color(index), result.names[index]), _format_share(pixels[index] / result.labels.size))
        for index in np.argsort(-pixels, kind="stable").tolist()
        if pixels[index]
    ]
    return build_table("Classes by area", ("class", "of all pixels"), rows) if rows else "<p>No known pixels.</p>"


def _format_share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else "below 0.1%"


def _describe_depth(result: Result) -> str:
    assert isinstance(result, DepthMap)
    low, high = compute_display_range(result.depth, result.valid)
    levels = np.linspace(0, 1, RAMP_STEPS)
    ramp = apply_colormap((levels if result.kind == "disparity" else 1 - levels)[None])[0]
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in ramp.tolist())
    name = {"metric": "depth", "relative": "relative depth", "disparity": "disparity"}[result.kind]
    unit = f" {result.unit}" if result.unit else ""
    values = [low + (high - low) * step / 4 for step in range(5)]
    ticks = "".join(f"<span>{value:.3g}{escape(unit)}</span>" for value in values)
    bar = f'<div class="dv-ramp" style="background:linear-gradient(to right, {stops})"></div>'
    known = result.depth[result.valid]
    extent = f"{known.min():.4g} to {known.max():.4g}{unit}, " if known.size else ""
    _, _, distance_unit = compute_distance(result)
    camera = "" if result.camera else f" The camera is unknown: {FIELD_OF_VIEW:g}° are assumed for 3-D."
    scale = "" if distance_unit else " 3-D has no scale."
    return (
        f'<figure class="dv-legend"><figcaption>{name.capitalize()}{f" in{escape(unit)}" if unit else ""}: '
        f'warm is near, cold is far</figcaption>{bar}<div class="dv-ticks">{ticks}</div></figure>'
        f"<p>{escape(extent)}{result.valid.mean():.0%} of the pixels known.{camera}{scale}</p>"
    )


def _describe_flow(result: Result) -> str:
    assert isinstance(result, FlowField)
    speed = np.hypot(*result.flow)[result.valid]
    limit = float(speed.max(initial=0))
    wheel = render_flow_wheel()
    side = (len(wheel) - 1) / 2
    y, x = np.mgrid[-side : side + 1, -side : side + 1]
    opacity = np.clip(side - np.hypot(x, y), 0, 1) * 255
    image = np.dstack([wheel[..., ::-1], opacity.astype(np.uint8)])
    image = cv2.resize(image, (WHEEL_SIDE, WHEEL_SIDE), interpolation=cv2.INTER_AREA)
    data = base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode("ascii")
    text = f"mean {speed.mean():.3g} px, longest {limit:.3g} px" if speed.size else "no known pixels"
    occluded = ""
    if result.occluded is not None:
        share = f"occluded in the second image: {result.occluded.mean():.1%} of the pixels"
        occluded = f"<p>{_swatch(OCCLUSION_COLOR, share)}</p>"
    return (
        f'<figure class="dv-legend dv-wheel"><img src="data:image/png;base64,{data}" width="{WHEEL_SIDE}" '
        f'height="{WHEEL_SIDE}" alt="Color wheel: the hue is the direction of the motion, white is none">'
        f"<figcaption>Motion from the first image to the second. The rim of the wheel is {limit:.3g} px.</figcaption>"
        "</figure>"
        f"<p>{text}</p>{occluded}"
    )


def _describe_image(result: Result) -> str:
    assert isinstance(result, Image)
    height, width, channels = result.image.shape
    scale = f", {result.scale} times the input" if result.scale != 1 else ""
    noun = "1 channel" if channels == 1 else f"{channels} channels"
    return f"<p>{width} x {height} pixels{scale}, {noun} of {result.image.dtype.name}</p>"


_LEGENDS = {
    Detections: _describe_objects,
    SemanticMap: _describe_classes,
    DepthMap: _describe_depth,
    FlowField: _describe_flow,
    Image: _describe_image,
}
