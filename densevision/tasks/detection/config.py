"""Options of detection. No torch here."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative
from densevision.nn.rcnn.config import RcnnConfig
from densevision.run_config import AugmentConfig, DataConfig, TaskConfig

BACKBONES = {"nano": "mobilenetv2_050", "small": "mobilenetv2_100", "medium": "resnet50", "large": "convnext_small"}
"""The backbone of each preset, when the config names none."""
TWO_STAGE: dict[str, dict[str, Any]] = {
    "backbone": {"name": "resnet50"},
    "loss": {"classification": 1.0, "box": 1.0},
    "decode": {"score_threshold": 0.5, "eval_score_threshold": 0.05, "iou_threshold": 0.5, "max_detections": 100},
}
"""What faster_rcnn takes where the config is silent, other than the defaults: as in its paper and in torchvision."""
VOID = {
    "yolo": ("rcnn", "data.longest", "loss.objectness", "loss.proposal"),
    "faster_rcnn": ("preset", "bins", "assign", "loss.distribution"),
}
"""Options that an architecture ignores."""


class DetectionData(DataConfig):
    """Where the boxes come from, and the canvas that the network sees."""

    size: Count | tuple[Count, Count] = 640
    """Side, or height and width, that an image is scaled to fit into; rounded up to multiples of 32. For faster_rcnn,
    the side that the shorter one of an image is scaled to."""
    longest: Count | None = None
    """For faster_rcnn, limit of the longer side, where it wins over `size`; five thirds of `size` when not given."""


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
    """Weight of the binary cross-entropy of the classes; for faster_rcnn 1, of their cross-entropy."""
    box: NonNegative = 7.5
    """Weight of the complete-IoU loss of the boxes; for faster_rcnn 1, of their offsets."""
    distribution: NonNegative = 1.5
    """Weight of the cross-entropy of the distance distributions; yolo only."""
    objectness: NonNegative = 1.0
    """Weight of the cross-entropy of anchors; faster_rcnn only."""
    proposal: NonNegative = 1.0
    """Weight of the proposals' offsets; faster_rcnn only."""


class DecodeConfig(Config):
    """How outputs become boxes, where `predict` does not ask for something else."""

    score_threshold: Fraction = 0.25
    """Lowest score of a box that is shown; for faster_rcnn 0.5."""
    eval_score_threshold: Fraction = 0.001
    """Lowest score of a box that is judged; average precision needs the whole curve. For faster_rcnn 0.05."""
    iou_threshold: Fraction = 0.7
    """Intersection over union above which the weaker of two boxes of a class is dropped; for faster_rcnn 0.5."""
    candidates: Count = 1000
    """Most boxes per image that enter the suppression, the strongest first."""
    max_detections: Count = 300
    """Most boxes per image; COCO's own protocol counts the best 100. For faster_rcnn 100."""


class DetectionConfig(TaskConfig):
    """A detector, its data and its training."""

    task: Literal["detection"] = "detection"
    """The task that this config is for."""
    arch: Literal["yolo", "faster_rcnn"] = "yolo"
    """`yolo`: timm pyramid, PAN neck, anchor-free decoupled head. `faster_rcnn`: timm pyramid, FPN, proposals, and a
    head that says what each of them is."""
    preset: Literal["nano", "small", "medium", "large"] = "small"
    """For yolo, width and depth of the neck, and the backbone when `backbone.name` is not given."""
    bins: int = Field(16, ge=4)
    """For yolo, values that each distance is distributed over, a stride apart, from one stride outside the box inwards.
    """
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    category_ids: tuple[int, ...] | None = None
    """The dataset's id of each class; read from the data when not given."""
    data: DetectionData = DetectionData()
    augment: AugmentConfig = AugmentConfig()
    assign: AssignConfig = AssignConfig()
    rcnn: RcnnConfig = RcnnConfig()
    loss: LossConfig = LossConfig()
    decode: DecodeConfig = DecodeConfig()

    @model_validator(mode="before")
    @classmethod
    def _arch_and_preset_fill_in(cls, values: Any) -> Any:
        """Fills in the backbone of the preset, or what faster_rcnn takes where the config is silent."""
        if not isinstance(values, dict):
            return values
        if values.get("arch") == "faster_rcnn":
            return _filled(values, {**TWO_STAGE, "data": {"longest": _longest(values.get("data", {}))}})
        return _filled(values, {"backbone": {"name": BACKBONES.get(values.get("preset", "small"), BACKBONES["small"])}})

    @model_validator(mode="after")
    def _options_fit_together(self) -> DetectionConfig:
        """Refuses ids that are not the classes', options that the architecture ignores, and sizes it does not know."""
        if self.category_ids is not None and len(self.category_ids) != len(self.classes or ()):
            raise ValueError("category_ids must name one id for each of classes")
        usual = type(self).model_construct()
        for option in VOID[self.arch]:
            if attrgetter(option)(self) != attrgetter(option)(usual):
                raise ValueError(f"{option} has no effect with arch={self.arch}; leave it out")
        if self.arch == "faster_rcnn" and not isinstance(self.data.size, int):
            raise ValueError("data.size is one side, the shorter one, with arch=faster_rcnn")
        if self.arch == "faster_rcnn" and self.data.longest < self.data.size:
            raise ValueError("data.longest must not be below data.size")
        return self


def _filled(values: dict[str, Any], usual: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values, and the usual ones of each section where they are silent."""
    filled = dict(values)
    for section, own in usual.items():
        given = values.get(section, {})
        if isinstance(given, dict):
            filled[section] = {**given, **own, **{name: value for name, value in given.items() if value is not None}}
    return filled


def _longest(data: Any) -> int | None:
    """The longer side of images of 3:5, as torchvision limits it; None where the shorter one is not known."""
    size = data.get("size", DetectionData.model_fields["size"].default) if isinstance(data, dict) else None
    return size * 5 // 3 if isinstance(size, int) else None


CONFIG = DetectionConfig
