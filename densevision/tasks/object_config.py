"""What the configs of tasks with objects share. Imports no torch."""

from __future__ import annotations

from densevision.config import Config, Count, Fraction

__all__ = ["ObjectDecodeConfig"]


class ObjectDecodeConfig(Config):
    """How outputs become objects, where `predict` has no option for it."""

    score_threshold: Fraction | None = None
    """Lowest score of a detection; the architecture's default when not given."""
    eval_score_threshold: Fraction = 0.001
    """Lowest score of a detection in evaluation; average precision needs the complete curve."""
    iou_threshold: Fraction | None = None
    """IoU above which the weaker of two boxes of a class is suppressed; the architecture's default when not given."""
    max_detections: Count | None = None
    """Most detections per image, of which `evaluation.max_detections` are evaluated; the architecture's default when
    not given."""
