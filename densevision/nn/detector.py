"""The base of networks that detect objects: which thresholds their postprocessing takes, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from densevision.nn.model import Model, Tensors

__all__ = ["DetectionDefaults", "DetectionOptions", "Detector"]


class DetectionOptions(NamedTuple):
    """Which boxes are detections.

    Attributes:
        score_threshold: Lowest score of a detection.
        iou_threshold: Intersection over union above which the weaker of two boxes of a class is suppressed.
        max_detections: Number of detections K per image.
        max_candidates: Most boxes per image that enter the suppression.
        class_agnostic: Let boxes of different classes suppress each other.
        class_mask: (C,) of bool or 0 and 1: the classes to detect; None for all.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    max_detections: int = 100
    max_candidates: int = 1000
    class_agnostic: bool = False
    class_mask: Tensor | Sequence[bool] | None = None


class DetectionDefaults:
    """The thresholds of a network that detects objects, for calls that give none.

    Attributes:
        score_threshold: Lowest score of a detection, where a call gives none; likewise the others.
        iou_threshold: IoU above which the weaker of two boxes of a class is suppressed. Networks that find every object
            once suppress nothing: for them it says which boxes of different tiles are the same object.
        max_detections: Number of detections K per image.
        max_candidates: Most boxes per image that enter the suppression.
    """

    score_threshold: float
    iou_threshold: float = 0.7
    max_detections: int
    max_candidates: int = 1000

    def complete_options(
        self,
        score_threshold: float | None,
        iou_threshold: float | None,
        max_detections: int | None,
        class_agnostic: bool,
        class_mask: Tensor | Sequence[bool] | None,
    ) -> DetectionOptions:
        """The options of `postprocess`, with the model's own where None is given."""
        return DetectionOptions(
            self.score_threshold if score_threshold is None else score_threshold,
            self.iou_threshold if iou_threshold is None else iou_threshold,
            self.max_detections if max_detections is None else max_detections,
            self.max_candidates,
            class_agnostic,
            class_mask,
        )


class Detector(DetectionDefaults, Model):
    """A network that detects objects. Subclasses implement `select_objects` instead of `postprocess`."""

    def postprocess(
        self,
        outputs: Tensors,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        class_agnostic: bool = False,
        class_mask: Tensor | Sequence[bool] | None = None,
    ) -> Tensors:
        """The objects of every image.

        Args:
            outputs: Of `forward`.
            score_threshold: Lowest score of a detection; the model's if None.
            iou_threshold: IoU above which the weaker box is suppressed; the model's if None.
            max_detections: Number of detections K; the model's if None.
            class_agnostic: Let boxes of different classes suppress each other; without suppression, a query gives its
                strongest class only.
            class_mask: (C,) of bool or 0 and 1: the classes to detect; all if None.

        Returns:
            "boxes" (B, K, 4) xyxy in pixels of the canvas, "scores" (B, K) strongest first, "labels" (B, K) int64,
            "valid" (B, K) bool; and what `select_objects` adds.
        """
        options = self.complete_options(score_threshold, iou_threshold, max_detections, class_agnostic, class_mask)
        return self.select_objects(outputs, options)

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """What `postprocess` returns, with every threshold given."""
        raise NotImplementedError
