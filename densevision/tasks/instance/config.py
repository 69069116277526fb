"""Options of instance segmentation. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from densevision.config import Config, Count, Fraction, NonNegative
from densevision.nn.rcnn.config import KeypointConfig, MaskConfig, RcnnConfig
from densevision.run_config import AugmentConfig, DataConfig, TaskConfig


class InstanceData(DataConfig):
    """Where the objects come from, and the size in which the network sees them."""

    size: Count = 480
    """Shorter side that an image is scaled to."""
    longest: Count = 800
    """Limit of the longer side, where it wins over `size`."""
    first: Count | None = None
    """Only the first so many images of a dataset in files, such as a few to learn by heart."""
    canvas: Count | tuple[Count, Count] | None = None
    """Training canvas that images are scaled to fit into; when not given, each image's own shape at `size`."""

    @model_validator(mode="after")
    def _canvas_is_seen_as_it_is(self) -> InstanceData:
        """Refuses a canvas that would be scaled once more before the network sees it."""
        sides = (self.canvas,) * 2 if isinstance(self.canvas, int) else self.canvas
        if sides is not None and (min(sides) != self.size or max(sides) > self.longest):
            raise ValueError("data.canvas must have data.size as its shorter side, and no side above data.longest")
        if self.longest < self.size:
            raise ValueError("data.longest must not be below data.size")
        return self


class InstanceAugment(AugmentConfig):
    """What chance does to a training sample; masks and keypoints follow its boxes."""

    mosaic: Fraction = 0.0
    """Probability of joining the image with three others, around a random center."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Least and largest factor of size, against the size that fits the canvas."""
    copy_paste: Fraction = 0.0
    """Probability of pasting some objects of another image over the sample."""


class LossConfig(Config):
    """Weights of the losses."""

    objectness: NonNegative = 1.0
    """Weight of the cross-entropy of anchors."""
    proposal: NonNegative = 1.0
    """Weight of the proposals' offsets."""
    classification: NonNegative = 1.0
    """Weight of the cross-entropy of the classes."""
    box: NonNegative = 1.0
    """Weight of the boxes' offsets."""
    mask: NonNegative = 1.0
    """Weight of the masks' cross-entropy."""
    keypoint: NonNegative = 1.0
    """Weight of the heatmaps' cross-entropy."""


class DecodeConfig(Config):
    """How outputs become objects, where `predict` does not ask for something else."""

    score_threshold: Fraction = 0.5
    """Lowest score of an object that is shown."""
    eval_score_threshold: Fraction = 0.05
    """Lowest score of an object that is judged; average precision needs most of the curve."""
    iou_threshold: Fraction = 0.5
    """Intersection over union above which the weaker of two boxes of a class is dropped."""
    candidates: Count = 1000
    """Most boxes per image that enter the suppression, the strongest first."""
    max_detections: Count = 100
    """Most objects per image."""
    whole_pixels: bool = False
    """Stretch masks over boxes of whole pixels, as torchvision does, instead of the boxes as they are."""


class InstanceConfig(TaskConfig):
    """A two-stage network that finds objects with masks or keypoints, its data and its training."""

    task: Literal["instance"] = "instance"
    """The task that this config is for."""
    masks: bool = True
    """Whether objects have masks."""
    keypoints: bool = False
    """Whether objects have keypoints."""
    keypoint_names: tuple[str, ...] | None = None
    """Names of the keypoints; read from the data when not given."""
    skeleton_edges: tuple[tuple[int, int], ...] | None = None
    """Pairs of keypoints that are joined when drawn, counted from 0; read from the data when not given."""
    sigmas: tuple[float, ...] | None = None
    """Spread of each keypoint by which it is judged; COCO's for its 17, else 1/K for each."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    category_ids: tuple[int, ...] | None = None
    """The dataset's id of each class; read from the data when not given."""
    boundary: bool = False
    """Also judge the masks' boundaries (Cheng et al., Boundary IoU, CVPR 2021), which takes minutes on thousands."""
    data: InstanceData = InstanceData()
    augment: InstanceAugment = InstanceAugment()
    rcnn: RcnnConfig = RcnnConfig(width=128)
    mask: MaskConfig = MaskConfig(width=128)
    keypoint: KeypointConfig = KeypointConfig()
    loss: LossConfig = LossConfig()
    decode: DecodeConfig = DecodeConfig()

    @model_validator(mode="after")
    def _parts_fit_together(self) -> InstanceConfig:
        """Refuses objects without masks and keypoints, ids that are not the classes', and options of absent heads."""
        if not self.masks and not self.keypoints:
            raise ValueError("objects need masks, keypoints or both; for boxes alone take the task detection")
        if self.category_ids is not None and len(self.category_ids) != len(self.classes or ()):
            raise ValueError("category_ids must name one id for each of classes")
        if not self.keypoints and (self.keypoint_names or self.skeleton_edges or self.sigmas):
            raise ValueError("joints, limbs and sigmas have no effect without keypoints")
        if not self.masks and (self.boundary or self.augment.copy_paste):
            raise ValueError("boundary and augment.copy_paste have no effect without masks")
        if self.augment.multi_scale:
            raise ValueError("augment.multi_scale has no effect here; widen augment.scale instead")
        return self


CONFIG = InstanceConfig
