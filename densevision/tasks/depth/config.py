"""Options of depth from one image. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import ColorConfig, DataConfig, TaskConfig

SUPERVISED = ("silog", "l1", "log_l1", "berhu", "invariant", "gradient")
"""Losses that compare with the truth."""
STEREO = ("photometric", "consistency")
"""Losses that compare the images of a pair."""
FREE = ("invariant", "gradient")
"""Losses that leave the answer's factor and offset open."""


CAMERA: tuple[Literal["focal", "baseline", "offset"], ...] = ("focal", "baseline", "offset")
"""What a dataset may leave for the config to state."""


class DepthData(DataConfig):
    """Where images and depth come from, and what a training step sees of them."""

    size: Count | tuple[Count, Count] = (224, 288)
    """Side, or height and width, of a training crop; whole images are predicted."""
    shorter: Count | None = None
    """Bring the shorter side of every image to this many pixels first; images stay as they are when not given."""
    scale: Positive | None = None
    """Steps per unit in the files (KITTI 256, millimeters 1000, TUM 5000); a known dataset states its own."""
    truth: Literal["metric", "disparity"] | None = None
    """What plain folders hold: distance in meters or disparity in pixels; told by their names when not given."""
    pseudo_target: Literal["files", "sgbm"] = "files"
    """`sgbm`: where a stereo pair has no truth, judge by OpenCV's semi-global matching, where it agrees both ways."""
    camera: tuple[Literal["focal", "baseline", "offset"], ...] = CAMERA
    """What `camera` states of these images, where their files do not; of other data than the weights learned from only
    what is set anew."""

    @model_validator(mode="after")
    def _crop_is_seen_as_it_is(self) -> DepthData:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        if self.shorter is not None and min(sides) != self.shorter:
            raise ValueError(f"the shorter side of data.size must be data.shorter={self.shorter}")
        return self


class CameraConfig(Config):
    """The camera for which the network states its numbers; read from the data when not given."""

    focal: Positive | None = None
    """Focal length in pixels, on the network's canvas; images of another one are corrected for."""
    baseline: Positive | None = None
    """Distance in meters between the cameras of stereo pairs."""
    offset: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Pixels, on the network's canvas, that disparities lack: the infinitely far have `-offset` (Middlebury's doffs);
    none unless given or read."""


class DepthAugment(ColorConfig):
    """What chance does to a training sample: one warp that ends in a crop, then colors.

    Whoever comes nearer with a lens sees things larger: with a known focal length, metric depth follows the zoom.
    """

    scale: tuple[Positive, Positive] = (1.0, 1.5)
    """Least and largest factor of size; the image at least fills the crop."""
    rotate: NonNegative = 0.0
    """Largest rotation, in degrees to either side; not for stereo pairs."""
    flip: Fraction = 0.5
    """Probability of mirroring left and right; stereo pairs then exchange their images."""
    hide: Fraction = 0.0
    """Probability of painting a rectangle of the image in its mean color; depth then comes from what is around."""

    @model_validator(mode="after")
    def _range_is_one(self) -> DepthAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale reads [least, largest]")
        return self


class LossConfig(Config):
    """Weights of the losses that are summed; 0 leaves one out. Unknown pixels count in none."""

    silog: NonNegative = 1.0
    """Weight of the scale-invariant logarithmic loss (Eigen)."""
    l1: NonNegative = 0.0
    """Weight of the absolute difference."""
    log_l1: NonNegative = 0.0
    """Weight of the absolute difference of logarithms."""
    berhu: NonNegative = 0.0
    """Weight of the reverse Huber loss (Laina)."""
    invariant: NonNegative = 0.0
    """Weight of the scale-and-shift-invariant loss (MiDaS)."""
    gradient: NonNegative = 0.0
    """Weight of the same at the differences between neighbors, at four scales (MiDaS)."""
    smoothness: NonNegative = 0.0
    """Weight of changes of depth where the image has no edges."""
    photometric: NonNegative = 0.0
    """Stereo: weight of what differs between an image and the other one, fetched along the disparity (Godard)."""
    consistency: NonNegative = 0.0
    """Stereo: weight of what differs between the left and the right disparity (Godard)."""
    silog_variance: Fraction = 0.85
    """`silog`: how much of a common factor is forgiven; 1 forgives all of it."""
    ssim: Fraction = 0.85
    """`photometric`: share of structural similarity, beside that of absolute differences."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> LossConfig:
        if not any(getattr(self, name) for name in (*SUPERVISED, *STEREO)):
            raise ValueError("nothing is learned; give one of " + ", ".join((*SUPERVISED, *STEREO)))
        for name, reader in (("silog_variance", "silog"), ("ssim", "photometric")):
            if not getattr(self, reader) and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"loss.{name} has no effect without loss.{reader}; leave it out")
        return self


class EvaluationConfig(Config):
    """The protocol; where it is not the plain one, it is part of every number's name."""

    align: Literal["auto", "none", "median", "lstsq"] = "auto"
    """How answers are brought to the truth's scale, image by image; `auto` as their kind needs: none, median for
    relative depth, a least-squares factor and offset for disparity without a unit."""
    crop: Literal["none", "eigen", "garg", "nyu"] = "none"
    """Part of the image that counts: Eigen's or Garg's for KITTI, Eigen's for NYU."""
    nearest: Positive = 1e-3
    """Truth nearer than this does not count, and answers are clipped to it."""
    farthest: Positive | None = None
    """Truth farther than this does not count, and answers are clipped to it: 80 for KITTI, 10 for NYU."""

    @model_validator(mode="after")
    def _range_is_one(self) -> EvaluationConfig:
        if self.farthest is not None and self.nearest >= self.farthest:
            raise ValueError(f"nearest={self.nearest:g} must be less than farthest={self.farthest:g}")
        return self


class DepthConfig(TaskConfig):
    """A network that says how far away every pixel is, its data and its training."""

    task: Literal["depth"] = "depth"
    """The task that this config is for."""
    arch: Literal["unet", "dpt", "dpt_vit"] = "unet"
    """`unet`: step by step back up a pyramid; `dpt`: fusion of a pyramid's levels; `dpt_vit`: DPT as published, on
    the tokens of a plain vision transformer."""
    width: Annotated[int, Field(ge=4)] = 64
    """Channels of the decoder: `dpt` of every fusion, `unet` at stride 4, with twice as many a step below."""
    finest: Literal[1, 2, 4] = 2
    """`unet`: stride up to which is decoded; from there answers are interpolated."""
    reassemble: tuple[Count, Count, Count, Count] | None = None
    """`dpt_vit`: channels of the four levels that are made of tokens; 1/8 to all of the tokens' when not given."""
    blocks: tuple[Count, ...] | None = None
    """`dpt_vit`: the four transformer blocks, counted from 1, whose tokens are read; the quarters when not given."""
    output: Literal["metric", "relative", "disparity"] = "metric"
    """Distance in meters; distance up to a factor; or disparity, the larger the nearer."""
    max: Positive = 10.0
    """The largest metric depth, in meters, or disparity, in pixels, that can be answered."""
    camera: CameraConfig = CameraConfig()
    data: DepthData = DepthData()
    augment: DepthAugment = DepthAugment()
    loss: LossConfig = LossConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    def changed(self, **settings: Any) -> DepthConfig:
        """As any config's; but what it states of the camera is not that of other data, unless it is set with them."""
        after = super().changed(**settings)
        if not {"data", "data__camera"}.isdisjoint(settings):
            return after
        kept = self.data.camera if after.data.path == self.data.path else ()
        stated = tuple(part for part in CAMERA if part in kept or f"camera__{part}" in settings)
        return after if stated == after.data.camera else super(DepthConfig, after).changed(data__camera=stated)

    @property
    def stereo(self) -> bool:
        """Whether it learns from the right images of pairs."""
        return any(getattr(self.loss, name) for name in STEREO)

    @property
    def learns(self) -> Literal["metric", "relative", "disparity"]:
        """What the network itself says: from pairs it learns disparity, which focal length and baseline make metric."""
        return "disparity" if self.stereo else self.output

    @property
    def bounded(self) -> bool:
        """Whether `max` bounds what the network says."""
        return self.stereo or bool(self.unit)

    @property
    def unit(self) -> str:
        """Unit of the answers: meters, pixels, or none where the losses leave factor and offset open."""
        if self.output == "metric":
            return "m"
        return "px" if self.output == "disparity" and self._bound else ""

    @property
    def alignment(self) -> Literal["none", "median", "lstsq"]:
        """How answers are aligned for evaluation."""
        if self.evaluation.align != "auto":
            return self.evaluation.align
        return "none" if self.unit else "median" if self.output == "relative" else "lstsq"

    @property
    def _bound(self) -> bool:
        """Whether a loss binds the answers to a unit."""
        return any(getattr(self.loss, name) for name in (*SUPERVISED, *STEREO) if name not in FREE)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> DepthConfig:
        if self.arch != "dpt_vit":
            for name in ("reassemble", "blocks"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect on arch={self.arch}; leave it out")
        if self.arch != "unet" and self.finest != type(self).model_fields["finest"].default:
            raise ValueError(f"finest has no effect on arch={self.arch}; leave it out")
        if self.blocks is not None and (len(self.blocks) != 4 or list(self.blocks) != sorted(set(self.blocks))):
            raise ValueError("blocks names four blocks, shallow to deep")
        if not self.bounded and self.max != type(self).model_fields["max"].default:
            raise ValueError(f"max has no effect on output={self.output} without a unit; leave it out")
        if self.stereo:
            self._check_stereo()
        if not self.unit and self.alignment == "none":
            raise ValueError(f"output={self.output} has no unit: evaluation.align must be median or lstsq")
        if self.output == "metric" and not self._bound:
            raise ValueError("no loss binds the answers to meters; give silog, l1, log_l1 or berhu")
        return self

    def _check_stereo(self) -> None:
        if self.arch != "unet":
            raise ValueError("stereo losses need the four scales of arch=unet")
        if self.augment.rotate:
            raise ValueError("augment.rotate would turn the lines of a rectified pair; leave it out for stereo losses")
        if self.output == "relative":
            raise ValueError("stereo losses learn disparity: output must be disparity or metric")
        if any(getattr(self.loss, name) for name in SUPERVISED):
            raise ValueError("losses with and without truth are not mixed: set " + ", ".join(SUPERVISED) + " to 0")


CONFIG = DepthConfig
