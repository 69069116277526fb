"""The base of the tasks whose results are objects with boxes: thresholds, and how tiles and views are merged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from densevision.nn.thresholds import resolve_threshold, resolve_thresholds
from densevision.ops.merging import merge_boxes, tile_windows
from densevision.results import Detections
from densevision.run_config import PredictOptions, TaskConfig
from densevision.tasks.base import Task
from densevision.tasks.object_config import ObjectDecodeConfig

__all__ = ["ObjectTask", "merge_records"]

C = TypeVar("C", bound=TaskConfig)
D = TypeVar("D", bound=Detections)


class ObjectTask(Task[C, D]):
    """A task whose models are detectors (`densevision.nn.detector`)."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The classes of the config; UsageError where it names none."""

    @property
    @abstractmethod
    def decode_config(self) -> ObjectDecodeConfig:
        """The config's thresholds."""

    def thresholds(self, options: PredictOptions) -> dict[str, Any]:
        """Thresholds, class-agnostic suppression, and the classes to detect."""
        return resolve_thresholds(options, self.decode_config, self.meta_model, self.class_names)

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """The thresholds, for models whose forward pass includes postprocessing."""
        return {} if self.has_postprocess else self.thresholds(options)

    def merge_predictions(self, results: Sequence[D], options: PredictOptions) -> D:
        """Non-maximum suppression over the objects of all tiles and views."""
        iou_threshold, max_detections = (
            resolve_threshold(name, options, self.decode_config, self.meta_model)
            for name in ("iou_threshold", "max_detections")
        )
        return merge_records(results, options, iou_threshold, max_detections)

    def evaluation_options(self) -> PredictOptions:
        """A low score threshold: average precision needs the curve."""
        return PredictOptions(score_threshold=self.decode_config.eval_score_threshold)


def merge_records(records: Sequence[D], options: PredictOptions, iou_threshold: float, max_detections: int) -> D:
    """One record from several of the same image: the strongest objects whose boxes do not suppress each other.

    Args:
        records: In pixels of the complete image.
        options: `tile` and `overlap` that they were made with, `class_agnostic`.
        iou_threshold: IoU above which the weaker of two boxes of a class is suppressed.
        max_detections: Most objects.
    """
    if len(records) == 1:
        return records[0]
    joined = type(records[0]).concatenate(records)
    groups = np.zeros_like(joined.labels) if options.class_agnostic else joined.labels
    windows = None if options.tile is None else tile_windows(joined.size, options.tile, options.overlap)
    keep = merge_boxes(joined.boxes, joined.scores, groups, iou_threshold, windows)
    return joined[keep[:max_detections]]
