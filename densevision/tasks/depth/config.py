"""Options of depth estimation. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import CachedDataConfig, ColorConfig, TaskConfig
from densevision.tasks.depth.models import MODELS

__all__ = ["CameraConfig", "DepthAugment", "DepthConfig", "DepthData", "EvaluationConfig", "LossConfig"]

SUPERVISED_LOSSES = ("silog", "l1", "log_l1", "berhu", "ssi", "ssi_gradient")
"""Losses against ground truth."""
STEREO_LOSSES = ("photometric", "consistency")
"""Losses between the images of a rectified pair."""
SCALE_FREE_LOSSES = ("ssi", "ssi_gradient")
"""Losses that ignore scale and shift."""
CAMERA_FIELDS: tuple[Literal["focal", "baseline", "offset"], ...] = ("focal", "baseline", "offset")
TASK_ARGUMENTS = {
    "target_kind": "output",
    "max_depth": "max_depth",
    "stereo": "loss.photometric",
    "image_size": "data.shorter",
    "resize": "data.resize",
}
"""Constructor arguments that options of the task decide, and these options."""


class DepthData(CachedDataConfig):
    """Where images and depth come from, and what a training step sees of them."""

    size: Count | tuple[Count, Count] = (224, 288)
    """Side, or height and width, of a training crop; prediction takes whole images."""
    shorter: Count | None = None
    """Resize the shorter side of every image to this many pixels first; images keep their size by default."""
    resize: Literal["shorter", "closest"] = "shorter"
    """How images are resized to `shorter`: `closest` scales by the factor closer to 1 of both sides, as Depth Anything
    does, so the longer side of small images gets this size."""
    scale: Positive | None = None
    """Steps per unit in the files (KITTI 256, millimeters 1000, TUM 5000); known datasets define their own. Required
    for files of integers; 8-bit files need a scale below 256."""
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Number in the files that stands for 0: value = (number - offset) / scale (Cityscapes disparity: scale 256,
    offset 1)."""
    target_kind: Literal["metric", "disparity"] | None = None
    """What plain folders contain: depth in meters or disparity in pixels; by default according to their names."""
    pseudo_target: Literal["files", "sgbm"] = "files"
    """`sgbm`: validate stereo pairs without ground truth by OpenCV's semi-global matching, where both directions
    agree."""
    camera: tuple[Literal["focal", "baseline", "offset"], ...] = CAMERA_FIELDS
    """Fields of `camera` that apply to these images, where their files state none; after a change of the dataset only
    those that are set with it."""

    @model_validator(mode="after")
    def _check_crop_size(self) -> DepthData:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        if self.shorter is not None and min(sides) != self.shorter:
            raise ValueError(f"the shorter side of data.size must be data.shorter={self.shorter}")
        return self

    def resize_factor(self, size: tuple[int, int]) -> float:
        """Canvas pixels per pixel of an image of (height, width)."""
        if self.shorter is None:
            return 1.0
        if self.resize == "shorter":
            return self.shorter / min(size)
        return min((self.shorter / side for side in size), key=lambda factor: abs(1 - factor))


class CameraConfig(Config):
    """The camera that predictions are stated for; read from the training data by default."""

    focal: Positive | None = None
    """Focal length in pixels of the canvas; metric depth of images with another focal length is corrected."""
    baseline: Positive | None = None
    """Distance in meters between the cameras of stereo pairs."""
    offset: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Pixels of the canvas by which disparities are too small: infinitely far points have `-offset` (Middlebury's
    doffs)."""


class DepthAugment(ColorConfig):
    """Random augmentation: one warp that ends in a crop, then colors.

    Scaling an image acts as a zoom: with a known focal length, metric depth follows.
    """

    scale: tuple[Positive, Positive] = (1.0, 1.5)
    """Smallest and largest scale factor; the image at least fills the crop."""
    rotate: NonNegative = 0.0
    """Largest rotation in degrees to either side; not for stereo pairs."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip; stereo pairs then swap their images."""
    erase: Fraction = 0.0
    """Probability of filling a rectangle of the image with its mean color."""

    @model_validator(mode="after")
    def _check_ranges(self) -> DepthAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale must be [smallest, largest]")
        return self


class LossConfig(Config):
    """Weights of the losses; 0 turns one off. Pixels without ground truth are ignored."""

    silog: NonNegative = 1.0
    """Weight of the scale-invariant logarithmic loss (Eigen)."""
    l1: NonNegative = 0.0
    """Weight of the absolute difference."""
    log_l1: NonNegative = 0.0
    """Weight of the absolute difference of logarithms."""
    berhu: NonNegative = 0.0
    """Weight of the reverse Huber loss (Laina)."""
    ssi: NonNegative = 0.0
    """Weight of the scale-and-shift-invariant loss (MiDaS)."""
    ssi_gradient: NonNegative = 0.0
    """Weight of its multi-scale gradient matching (MiDaS)."""
    smoothness: NonNegative = 0.0
    """Weight of the edge-aware smoothness."""
    photometric: NonNegative = 0.0
    """Stereo: weight of the difference between an image and its reconstruction from the other one (Godard)."""
    consistency: NonNegative = 0.0
    """Stereo: weight of the difference between the left and the right disparity (Godard)."""
    silog_variance: Fraction = 0.85
    """`silog`: share of a common factor that is ignored; 1 ignores all of it."""
    ssim: Fraction = 0.85
    """`photometric`: share of the structural similarity; the rest is the absolute difference."""

    @model_validator(mode="after")
    def _check_effects(self) -> LossConfig:
        if not any(getattr(self, name) for name in (*SUPERVISED_LOSSES, *STEREO_LOSSES)):
            raise ValueError("all losses are off; set one of " + ", ".join((*SUPERVISED_LOSSES, *STEREO_LOSSES)))
        for name, loss in (("silog_variance", "silog"), ("ssim", "photometric")):
            if not getattr(self, loss) and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"loss.{name} has no effect without loss.{loss}; leave it out")
        return self


class EvaluationConfig(Config):
    """The protocol; deviations from the default are part of every metric's name."""

    align: Literal["auto", "none", "median", "lstsq"] = "auto"
    """How predictions are aligned with each image's ground truth; `auto` depends on their kind: none, median for
    relative depth, least-squares scale and shift for disparity without a unit."""
    crop: Literal["none", "eigen", "garg", "nyu"] = "none"
    """Part of the image that is evaluated: Eigen's or Garg's for KITTI, Eigen's for NYU."""
    min_depth: Positive = 1e-3
    """Ground truth below this many meters is ignored, and predictions are clipped to it."""
    max_depth: Positive | None = None
    """Ground truth above this many meters is ignored, and predictions are clipped to it: 80 for KITTI, 10 for NYU."""
    bounds: Literal["inclusive", "exclusive"] = "inclusive"
    """Whether ground truth of exactly `min_depth` or `max_depth` counts; Eigen's and monodepth's code excludes it."""

    @model_validator(mode="after")
    def _check_range(self) -> EvaluationConfig:
        if self.max_depth is not None and self.min_depth >= self.max_depth:
            raise ValueError(f"min_depth={self.min_depth:g} must be less than max_depth={self.max_depth:g}")
        return self


class DepthConfig(TaskConfig):
    """A depth network, its data and its training."""

    models: ClassVar[Mapping[str, Any]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset({"tile", "overlap", "tta", "focal_length"})

    task: Literal["depth"] = "depth"
    """The task that this config is for."""
    arch: str = "depth_unet"
    """The architecture; `densevision models depth` lists the names."""
    output: Literal["metric", "relative", "disparity"] = "metric"
    """What is predicted: depth in meters, depth up to scale, or disparity (larger is nearer)."""
    max_depth: Positive = 10.0
    """Largest depth in meters, or disparity in pixels, that can be predicted."""
    camera: CameraConfig = CameraConfig()
    data: DepthData = DepthData()
    augment: DepthAugment = DepthAugment()
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def replace(self, **settings: Any) -> DepthConfig:
        """Replaces settings; `camera` does not apply to another dataset, unless it is set together with it."""
        config = super().replace(**settings)
        if not {"data", "data__camera"}.isdisjoint(settings):
            return config
        inherited = self.data.camera if config.data.path == self.data.path else ()
        fields = tuple(name for name in CAMERA_FIELDS if name in inherited or f"camera__{name}" in settings)
        return config if fields == config.data.camera else super(DepthConfig, config).replace(data__camera=fields)

    @property
    def is_stereo(self) -> bool:
        """Whether training compares the images of stereo pairs."""
        return any(getattr(self.loss, name) for name in STEREO_LOSSES)

    @property
    def target_kind(self) -> Literal["metric", "relative", "disparity"]:
        """What the network itself predicts: disparity when trained on pairs, which the camera turns into meters."""
        return "disparity" if self.is_stereo else self.output

    @property
    def is_bounded(self) -> bool:
        """Whether `max_depth` bounds the network's predictions."""
        return self.is_stereo or bool(self.unit)

    @property
    def unit(self) -> str:
        """Unit of the predictions: "m", "px", or "" where the losses ignore scale and shift."""
        if self.output == "metric":
            return "m"
        return "px" if self.output == "disparity" and self._has_absolute_loss else ""

    @property
    def alignment(self) -> Literal["none", "median", "lstsq"]:
        """How predictions are aligned for evaluation."""
        if self.evaluation.align != "auto":
            return self.evaluation.align
        return "none" if self.unit else "median" if self.output == "relative" else "lstsq"

    @property
    def _has_absolute_loss(self) -> bool:
        names = (*SUPERVISED_LOSSES, *STEREO_LOSSES)
        return any(getattr(self.loss, name) for name in names if name not in SCALE_FREE_LOSSES)

    @model_validator(mode="after")
    def _check_combination(self) -> DepthConfig:
        for name, option in TASK_ARGUMENTS.items():
            if name in self.model:
                raise ValueError(f"model.{name} follows from {option}; set that instead")
        if not self.is_bounded and self.max_depth != type(self).model_fields["max_depth"].default:
            raise ValueError(f"max_depth has no effect on output={self.output} without a unit; leave it out")
        if self.is_stereo:
            self._check_stereo()
        if not self.unit and self.alignment == "none":
            raise ValueError(f"output={self.output} has no unit: evaluation.align must be median or lstsq")
        if self.output == "metric" and not self._has_absolute_loss:
            raise ValueError("no loss depends on meters; use silog, l1, log_l1 or berhu")
        return self

    def _check_stereo(self) -> None:
        if self.augment.rotate:
            raise ValueError("augment.rotate would tilt the rows of rectified pairs; leave it out for stereo losses")
        if self.output == "relative":
            raise ValueError("stereo losses learn disparity: output must be disparity or metric")
        if any(getattr(self.loss, name) for name in SUPERVISED_LOSSES):
            names = ", ".join(SUPERVISED_LOSSES)
            raise ValueError(f"stereo losses cannot be combined with supervised ones: set {names} to 0")


CONFIG = DepthConfig
