"""Options of instance segmentation. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import model_validator

from densevision.config import Count, Fraction, Positive
from densevision.run_config import AugmentConfig, CachedDataConfig, ObjectEvaluationConfig, TaskConfig
from densevision.tasks.instance.models import MODELS, InstanceArchitecture
from densevision.tasks.object_config import ObjectDecodeConfig

__all__ = ["CONFIG", "DecodeConfig", "InstanceAugment", "InstanceConfig", "InstanceData"]


class InstanceData(CachedDataConfig):
    """Where the objects come from, and the size of the canvas."""

    size: Count = 480
    """Shorter side that an image is scaled to; for architectures with a square canvas, its side."""
    max_images: Count | None = None
    """Use the first images of a dataset only, e.g. to overfit on a few."""
    canvas: Count | tuple[Count, Count] | None = None
    """Training canvas that images are scaled to fit into, with `size` as its shorter side; when not given, each image
    keeps its aspect ratio."""


class InstanceAugment(AugmentConfig):
    """Random augmentation of a training sample; masks and keypoints follow its boxes."""

    mosaic: Fraction = 0.0
    """Probability of joining the image with three others, around a random center."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Smallest and largest scale factor, relative to the size that fits the canvas."""
    copy_paste: Fraction = 0.0
    """Probability of pasting some objects of another image over the sample."""


class DecodeConfig(ObjectDecodeConfig):
    """How outputs become objects, where `predict` has no option for it."""

    eval_score_threshold: Fraction = 0.05
    """Lowest score of a detection in evaluation; average precision needs most of the curve."""
    snap_boxes: bool = False
    """Round boxes to pixels before masks are pasted into them, as torchvision does."""


class InstanceConfig(TaskConfig):
    """A network that detects objects with masks or keypoints, its data and its training."""

    models: ClassVar[Mapping[str, InstanceArchitecture]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset(
        {"tile", "overlap", "tta", "score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes"}
    )
    is_trackable: ClassVar[bool] = True

    task: Literal["instance"] = "instance"
    """The task that this config is for."""
    arch: str = "mask_rcnn"
    """The architecture; `densevision models` lists the names."""
    keypoint_names: tuple[str, ...] | None = None
    """Names of the keypoints; read from the data when not given."""
    skeleton_edges: tuple[tuple[int, int], ...] | None = None
    """Pairs of keypoints, counted from 0, that are connected in drawings; read from the data when not given."""
    sigmas: tuple[Positive, ...] | None = None
    """Standard deviation of each keypoint in COCO's similarity; COCO's for its 17 keypoints, else 1/K for each."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    category_ids: tuple[int, ...] | None = None
    """The dataset's id of each class; read from the data when not given."""
    boundary: bool = False
    """Also evaluate Boundary AP (Cheng et al., Boundary IoU, CVPR 2021), which takes minutes on thousands of images."""
    data: InstanceData = InstanceData()
    augment: InstanceAugment = InstanceAugment()
    decode: DecodeConfig = DecodeConfig()
    evaluation: ObjectEvaluationConfig = ObjectEvaluationConfig()

    @property
    def has_masks(self) -> bool:
        """Whether objects have masks."""
        return self.models[self.arch].has_masks

    @property
    def has_keypoints(self) -> bool:
        """Whether objects have keypoints."""
        return self.models[self.arch].has_keypoints

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> InstanceConfig:
        """Refuses ids that are not one for each class, and options of heads that the architecture does not have."""
        if self.category_ids is not None and len(self.category_ids) != len(self.classes or ()):
            raise ValueError("category_ids must have one id for each of classes")
        if not self.has_keypoints and (self.keypoint_names or self.skeleton_edges or self.sigmas):
            raise ValueError(f"keypoint_names, skeleton_edges and sigmas have no effect with arch={self.arch}")
        if self.sigmas and self.keypoint_names and len(self.sigmas) != len(self.keypoint_names):
            raise ValueError(f"sigmas has {len(self.sigmas)} values for {len(self.keypoint_names)} keypoints")
        if not self.has_masks and (self.boundary or self.augment.copy_paste or self.decode.snap_boxes):
            raise ValueError(f"boundary, augment.copy_paste and decode.snap_boxes have no effect with arch={self.arch}")
        if self.augment.multi_scale:
            raise ValueError("augment.multi_scale has no effect here; widen augment.scale instead")
        return self


CONFIG = InstanceConfig
