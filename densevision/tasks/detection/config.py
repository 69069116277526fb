"""Options of detection. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative
from densevision.recipe import AugmentConfig, DataConfig, TaskConfig

BACKBONES = {"nano": "mobilenetv2_050", "small": "mobilenetv2_100", "medium": "resnet50", "large": "convnext_small"}
"""The backbone of each preset, when the config names none."""


class DetectionData(DataConfig):
    """Where the boxes come from, and the canvas that the network sees."""

    size: Count | tuple[Count, Count] = 640
    """Side, or height and width, that a picture is scaled to fit into; multiples of 32."""


class AssignConfig(Config):
    """Which anchor points answer for which object (TOOD)."""

    topk: Count = 10
    """Anchor points per object."""
    alpha: NonNegative = 0.5
    """Weight of the score when they are ranked."""
    beta: NonNegative = 6.0
    """Weight of the overlap when they are ranked."""


class LossConfig(Config):
    """Weights of the losses."""

    classification: NonNegative = 0.5
    """Weight of the binary cross-entropy of the classes."""
    box: NonNegative = 7.5
    """Weight of the complete-IoU loss of the boxes."""
    distribution: NonNegative = 1.5
    """Weight of the cross-entropy of the distance distributions."""


class DecodeConfig(Config):
    """How outputs become boxes, where `predict` does not ask for something else."""

    min_score: Fraction = 0.25
    """Lowest score of a box that is shown."""
    evaluation_score: Fraction = 0.001
    """Lowest score of a box that is judged; average precision needs the whole curve."""
    nms: Fraction = 0.7
    """Intersection over union above which the weaker of two boxes of a class is dropped."""
    candidates: Count = 1000
    """Most boxes per picture that enter the suppression, the strongest first."""
    max_detections: Count = 300
    """Most boxes per picture; COCO's own protocol counts the best 100."""


class DetectionConfig(TaskConfig):
    """A detector, its data and its training."""

    task: Literal["detection"] = "detection"
    """The task that this config is for."""
    arch: Literal["yolo"] = "yolo"
    """`yolo`: timm pyramid, PAN neck, anchor-free decoupled head."""
    preset: Literal["nano", "small", "medium", "large"] = "small"
    """Width and depth of the neck, and the backbone when `backbone.name` is not given."""
    bins: int = Field(16, ge=4)
    """Values that each distance is distributed over, a stride apart, from one stride outside the box inwards."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    category_ids: tuple[int, ...] | None = None
    """The dataset's id of each class; read from the data when not given."""
    data: DetectionData = DetectionData()
    augment: AugmentConfig = AugmentConfig()
    assign: AssignConfig = AssignConfig()
    loss: LossConfig = LossConfig()
    decode: DecodeConfig = DecodeConfig()

    @model_validator(mode="before")
    @classmethod
    def _preset_picks_the_backbone(cls, values: Any) -> Any:
        backbone = values.get("backbone", {}) if isinstance(values, dict) else None
        if not isinstance(backbone, dict) or "name" in backbone:
            return values
        name = BACKBONES.get(values.get("preset", "small"), BACKBONES["small"])
        return {**values, "backbone": {"name": name, **backbone}}

    @model_validator(mode="after")
    def _ids_belong_to_classes(self) -> DetectionConfig:
        if self.category_ids is not None and len(self.category_ids) != len(self.classes or ()):
            raise ValueError("category_ids must name one id for each of classes")
        return self


CONFIG = DetectionConfig
