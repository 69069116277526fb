"""Options of detection. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import model_validator

from densevision.config import Count
from densevision.run_config import AugmentConfig, CachedDataConfig, ObjectEvaluationConfig, TaskConfig
from densevision.tasks.detection.models import MODELS
from densevision.tasks.object_config import ObjectDecodeConfig
from densevision.tasks.registry import Architecture

__all__ = ["CONFIG", "DetectionConfig", "DetectionData", "DetectionEvaluationConfig"]


class DetectionData(CachedDataConfig):
    """Where the boxes come from, and the size of the canvas."""

    size: Count | tuple[Count, Count] = 640
    """Side, or height and width, that an image is scaled to fit into, rounded up to multiples of 32. For faster_rcnn,
    the side that the shorter one of an image is scaled to."""


class DetectionEvaluationConfig(ObjectEvaluationConfig):
    """COCO's protocol for boxes, and MOTChallenge's for tracks."""

    mot_benchmark: Literal["MOT16", "MOT17", "MOT20"] | None = None
    """For `score` with files of MOTChallenge: the rules of this benchmark, by which pedestrians are evaluated, and
    predictions next to distractors are left out. By default all ground truth counts whose flag is not 0."""


class DetectionConfig(TaskConfig):
    """A detector, its data and its training."""

    models: ClassVar[Mapping[str, Architecture]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset(
        {"tile", "overlap", "tta", "score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes"}
    )
    is_trackable: ClassVar[bool] = True

    task: Literal["detection"] = "detection"
    """The task that this config is for."""
    arch: str = "yolo_s"
    """The architecture; `densevision models` lists the names."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    category_ids: tuple[int, ...] | None = None
    """The dataset's id of each class; read from the data when not given."""
    data: DetectionData = DetectionData()
    augment: AugmentConfig = AugmentConfig()
    decode: ObjectDecodeConfig = ObjectDecodeConfig()
    evaluation: DetectionEvaluationConfig = DetectionEvaluationConfig()

    @model_validator(mode="after")
    def _ids_match_classes(self) -> DetectionConfig:
        """Refuses category ids that are not one for each class."""
        if self.category_ids is not None and len(self.category_ids) != len(self.classes or ()):
            raise ValueError("category_ids must have one id for each of classes")
        return self


CONFIG = DetectionConfig
