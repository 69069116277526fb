"""The keyword options of prediction, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from densevision.run_config import Engine

__all__ = ["PredictKeywords"]

Transform = Literal["flip", "scale", "rotate"]


class PredictKeywords(TypedDict, total=False):
    """The options of `densevision.predict`, which describes them; None stands for the default."""

    overrides: Mapping[str, Any] | None
    engine: Engine | None
    device: str | None
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None
    batch: int | None
    tile: int | None
    overlap: float | None
    tta: Transform | tuple[Transform, ...] | None
    score_threshold: float | None
    max_detections: int | None
    iou_threshold: float | None
    class_agnostic: bool | None
    classes: str | tuple[str, ...] | None
    probabilities: bool | None
    iterations: int | None
    warm_start: bool | None
    forward_backward: bool | None
    focal_length: float | None
    max_pixels: int | None
    on_error: Literal["fail", "skip"] | None
    track: Literal["bytetrack", "sort", "ocsort", "botsort"] | None
    track_options: Mapping[str, Any] | None
    timeout: float | None
    reconnect: int | None
    max_frames: int | None
