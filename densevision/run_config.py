"""Options that all tasks share: backbone, data, augmentation, training, prediction. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.limits import check_backbone_options, check_limits

__all__ = [
    "COMMON_OPTIONS",
    "MAX_CANVAS_PIXELS",
    "AugmentConfig",
    "BackboneConfig",
    "CachedDataConfig",
    "ColorConfig",
    "DataConfig",
    "GeometryConfig",
    "ObjectEvaluationConfig",
    "PerceptualConfig",
    "PredictOptions",
    "TaskConfig",
    "TrainConfig",
]

MAX_CANVAS_PIXELS = 1 << 26
"""Maximum size of a network's input in pixels, 8192 x 8192: 0.8 GB as RGB in float32, without any feature."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["torch", "onnxruntime", "openvino"]
"""What computes the network."""
Distributor = Literal["ray"]
"""What distributes images over machines, where each computes as PyTorch or the exported file does."""


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise ValueError("no such device: use auto, cpu, cuda, cuda:N or mps")
    return name


Device = Annotated[str, AfterValidator(_check_device)]
"""Name of a device."""


class BackboneConfig(Config):
    """Any timm model as a feature pyramid."""

    name: str = "mobilenetv2_100"
    """Name of a timm model; `densevision models` lists those that give feature pyramids."""
    pretrained: bool | str = False
    """`true` takes timm's pretrained weights, a path loads that file, `false` uses random weights. By default, training
    takes timm's if they are cached or can be downloaded under a permissive license, and says so."""
    channels: Count = 3
    """Number of channels of the input image."""
    mean: tuple[float, ...] | None = None
    """Mean per channel of images in [0, 1]; by default that of the timm model."""
    std: tuple[float, ...] | None = None
    """Standard deviation per channel; by default that of the timm model."""
    output_stride: Literal[8, 16, 32] | None = None
    """Stride of the deepest level, reached by dilating the last stages; convolutional models only."""
    freeze: int = Field(0, ge=0)
    """Number of shallow stages that are frozen, batch norm statistics included."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Architecture options of the timm model from an allow-list, e.g. `{pad_type: same}`."""

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        check_backbone_options(options)
        return options

    def to_options(self) -> dict[str, Any]:
        """Keyword arguments of `densevision.nn.backbone.Backbone`: all options but name and channels."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("name", "channels")}


class PerceptualConfig(Config):
    """A perceptual loss: it compares features of a frozen network."""

    weight: NonNegative = 0.0
    """Weight of the loss; 0 disables it."""
    backbone: BackboneConfig = BackboneConfig()
    """The feature network: any timm model."""
    strides: tuple[Count, ...] = (2, 4, 8)
    """Strides of the compared levels."""

    @model_validator(mode="after")
    def _check_effects(self) -> PerceptualConfig:
        """Refuses options that have no effect with weight 0."""
        if not self.weight and self != PerceptualConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.perceptual have no effect with weight 0; leave them out")
        return self


class DataConfig(Config):
    """The dataset and how it is read."""

    path: str | None = None
    """Dataset folder or file, whose format is detected, or `scenes[:COUNT[:SEED]]`."""
    train: str | None = None
    """Name or file of the training split, where it differs from the convention of the format."""
    val: str | None = None
    """Name or file of the validation split, where it differs from the convention of the format."""
    columns: dict[str, str] | None = None
    """Shards of other tools: part of a sample (suffix in a tar, column in Parquet) to its file in the folder that the
    shards stand for, such as `{jpg: "images/{split}/{key}.jpg", png: "masks/{split}/{key}.png"}`; `objects` and
    `objects:xyxy` mean boxes."""
    cache_size: Positive = 50.0
    """Gigabytes that the cache of remote files and Parquet images may take."""
    workers: int = Field(0, ge=0)
    """Number of processes that read and augment; the samples do not depend on it."""
    on_error: Literal["fail", "fix", "skip"] = "fail"
    """Handling of invalid labels and damaged images: fail, fix labels where possible, or skip; each is counted and
    named. Training takes another sample in place of a damaged one."""
    max_pixels: Count = 400_000_000
    """Maximum size of a decoded image in pixels, against decompression bombs."""

    @model_validator(mode="after")
    def _check_canvas_size(self) -> DataConfig:
        """Refuses sizes that exceed any memory, before memory is allocated."""
        for name in ("size", "canvas", "crop", "resize", "shorter", "longest"):
            value = getattr(self, name, None)
            sides = value if isinstance(value, tuple) else (value, value)
            if all(isinstance(side, int) for side in sides) and math.prod(sides) > MAX_CANVAS_PIXELS:
                size = " x ".join(map(str, sides))
                raise ValueError(f"data.{name} of {size} exceeds the limit of {MAX_CANVAS_PIXELS:,} pixels")
        return self


class CachedDataConfig(DataConfig):
    """The dataset, how it is read, and whether decoded images are kept."""

    cache: Literal["ram", "disk"] | None = None
    """Keep decoded images: `ram` for this run, shared by its workers; `disk` in the cache folder, also for later runs.
    Samples are the same to the bit. Masks and other ground truth are read each time."""
    cache_gigabytes: Positive = 8.0
    """Maximum size of the cache; further images are decoded each time."""

    @model_validator(mode="after")
    def _check_cache(self) -> CachedDataConfig:
        """Refuses a bound of a cache that does not exist."""
        if self.cache is None and self.cache_gigabytes != type(self).model_fields["cache_gigabytes"].default:
            raise ValueError("data.cache_gigabytes has no effect without data.cache: set it to ram or disk")
        return self


class ColorConfig(Config):
    """Random color augmentation."""

    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.015
    """Maximum hue shift as a fraction of the color circle; RGB only."""
    saturation: Fraction = 0.7
    """Maximum change of saturation: factors in 1 +- this; RGB only."""
    value: Fraction = 0.4
    """Maximum change of brightness: factors in 1 +- this."""
    blur: Fraction = 0.01
    """Probability of a Gaussian blur."""
    noise: Fraction = 0.0
    """Probability of Gaussian noise."""
    jpeg: Fraction = 0.0
    """Probability of JPEG compression; 8-bit gray and RGB only."""
    gray: Fraction = 0.01
    """Probability of a conversion to gray; RGB only."""


class GeometryConfig(ColorConfig):
    """Random geometry, which is a single warp, followed by the colors."""

    scale: tuple[Positive, Positive] = (0.5, 1.5)
    """Minimum and maximum scale, relative to the size that fits the canvas."""
    rotate: NonNegative = 0.0
    """Maximum rotation in degrees, in both directions."""
    translate: Fraction = 0.1
    """Maximum shift along each axis as a fraction of the canvas."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Maximum shear along each axis in degrees, in both directions."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    flip_vertical: Fraction = 0.0
    """Probability of a vertical flip."""

    @model_validator(mode="after")
    def _check_scale(self) -> GeometryConfig:
        """Refuses an empty scale range."""
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale must be [minimum, maximum]")
        return self


class AugmentConfig(GeometryConfig):
    """Random augmentation. Geometry is a single warp, followed by the colors."""

    mosaic: Fraction = 1.0
    """Probability of a mosaic with three other images."""
    mixup: Fraction = 0.0
    """Probability of mixup with another image."""
    close_mosaic_epochs: int = Field(10, ge=0)
    """Number of last epochs without mosaic and mixup."""
    multi_scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Maximum change of the size of a batch: factors in 1 +- this."""

    @model_validator(mode="after")
    def _check_effects(self) -> AugmentConfig:
        """Refuses options without effect."""
        if (
            not self.mosaic
            and not self.mixup
            and self.close_mosaic_epochs != type(self).model_fields["close_mosaic_epochs"].default
        ):
            raise ValueError("augment.close_mosaic_epochs has no effect without mosaic and mixup; leave it out")
        return self


class ObjectEvaluationConfig(Config):
    """COCO's protocol for boxes and masks."""

    max_detections: Annotated[int, Field(gt=10)] = 100
    """Predictions of a class in an image that are evaluated, the best ones. More than COCO's 100 suit crowded images;
    `decode.max_detections` must then be as large. The protocol states it; keypoints have COCO's 20."""


class TrainConfig(Config):
    """Training."""

    init_from: str | None = None
    """Weights file or name to start from: all matching tensors, or only the backbone if it is of another task. Classes
    are matched by name."""
    freeze: tuple[str, ...] = ()
    """Names of parts of the model that are not trained, batch norm statistics included, e.g. `[backbone, neck]`."""
    freeze_norm_statistics: bool = False
    """Keep the mean and variance of all batch norms as the first weights have them; for small batches."""
    epochs: Count = 100
    """Passes over the training set."""
    batch: Count | Literal["auto"] = 16
    """Images per step and process; `auto` takes the largest power of two that fits the memory."""
    accumulate_grad_batches: Count = 1
    """Number of batches whose gradients are accumulated for one optimizer step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """The optimizer. Weight decay spares norms, biases and other one-dimensional weights."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    backbone_lr_scale: Positive = 1.0
    """Learning rate of the backbone as a fraction of `lr`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each layer of the backbone as a fraction of that of the next deeper layer."""
    weight_decay: NonNegative = 0.05
    """Weight decay."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """`adam`, `adamw`: decay of the running averages of the gradient and its square."""
    momentum: Fraction = 0.9
    """`sgd`: Nesterov momentum."""
    schedule: Literal["cosine", "linear", "onecycle", "plateau", "constant"] = "cosine"
    """Learning rate after the warm-up; `linear` is constant for half of the run and then decays to zero."""
    warmup_epochs: NonNegative = 1.0
    """Epochs over which the learning rate rises from zero."""
    min_lr_ratio: Fraction = 0.01
    """`cosine`: final learning rate as a fraction of `lr`."""
    plateau_patience: Count = 5
    """`plateau`: validations without improvement before the learning rate is reduced."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """`plateau`: factor by which the learning rate is multiplied."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights, which is validated and saved; 0 disables it."""
    grad_clip_norm: NonNegative = 10.0
    """Maximum norm of the gradients; 0 disables clipping."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the device computes it natively, float32 elsewhere."""
    early_stopping_patience: int = Field(0, ge=0)
    """Stop after this many validations without improvement; 0 disables early stopping."""
    validate_every: Count = 1
    """Epochs between validations."""
    seed: int = Field(0, ge=0)
    """Seed of weights, sample order and augmentation."""
    device: Device = "auto"
    """Where to train: auto, cpu, cuda or mps."""
    devices: Count = 1
    """Number of devices on each node; each runs a process."""
    nodes: Count = 1
    """Number of machines."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several processes share the work."""
    compile: bool = False
    """Compile the model with `torch.compile`."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Loggers in addition to metrics.csv."""
    mirror: str | None = None
    """Address that the run is copied to after each epoch, such as s3://bucket/run-7; `--resume` takes it."""
    max_time: Positive | None = None
    """Stop before the run takes longer than this many hours; resume continues it."""

    @model_validator(mode="after")
    def _check_effects(self) -> TrainConfig:
        """Refuses options that have no effect with the optimizer, the schedule or the strategy."""
        self._require("schedule", "plateau", "plateau_patience", "plateau_factor")
        self._require("schedule", "cosine", "min_lr_ratio")
        self._require("optimizer", "sgd", "momentum")
        if self.optimizer == "sgd" and self.betas != type(self).model_fields["betas"].default:
            raise ValueError("train.betas has no effect with train.optimizer=sgd; set train.momentum instead")
        if self.strategy == "fsdp" and self.ema_decay:
            raise ValueError("train.ema_decay does not work with train.strategy=fsdp, which shards the weights")
        return self

    def _require(self, option: str, value: str, *names: str) -> None:
        for name in names:
            current = getattr(self, option)
            if current != value and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"train.{name} has no effect with train.{option}={current}; leave it out")


class PredictOptions(Config):
    """Options of `predict`; a task refuses those that it does not support."""

    device: Device = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the device computes it natively, float32 elsewhere."""
    batch: Count = 1
    """Images per forward pass."""
    tile: Annotated[int, Field(ge=1, le=math.isqrt(MAX_CANVAS_PIXELS))] | None = None
    """Side in pixels of the tiles into which large images are split. By default images are predicted as a whole
    (dense tasks: up to 16 megapixels, in tiles of 1024 beyond)."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Minimum fraction of a tile that it shares with its neighbor."""
    tta: tuple[Literal["flip", "scale", "rotate"], ...] = ()
    """Test-time augmentation: merge predictions for mirrored, scaled or rotated images."""
    score_threshold: Fraction | None = None
    """Minimum score of detections."""
    max_detections: Count | None = None
    """Maximum number of detections per image."""
    iou_threshold: Fraction | None = None
    """IoU above which non-maximum suppression drops the weaker of two boxes."""
    class_agnostic: bool = False
    """Apply non-maximum suppression across classes."""
    classes: tuple[str, ...] | None = None
    """Names of the classes to keep."""
    probabilities: bool = False
    """Keep the probability of each class at each pixel."""
    iterations: Count | None = None
    """Refinement steps of iterative models."""
    warm_start: bool = False
    """Treat the images as one sequence, and start each prediction from the previous one."""
    forward_backward: bool = False
    """Compute the backward flow too, and mark pixels as occluded where the two disagree."""
    focal_length: Positive | None = None
    """Focal length of the images in pixels: corrects metric depth for the camera."""
    max_pixels: Count = 400_000_000
    """Maximum size of a decoded image in pixels."""
    on_error: Literal["fail", "skip"] = "fail"
    """Stop at an image that cannot be read, or skip it with a warning."""

    @field_validator("tta", "classes", mode="before")
    @classmethod
    def _wrap_single_word(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


COMMON_OPTIONS = frozenset({"device", "precision", "batch", "max_pixels", "on_error"})
"""Options of `predict` that every task supports."""


class TaskConfig(Config):
    """Base of each task's config."""

    predict_options: ClassVar[frozenset[str]] = frozenset()
    """Options of `predict` that the task supports besides device, precision, batch, max_pixels and on_error."""
    is_trackable: ClassVar[bool] = False
    """Whether the results are objects that `predict` can follow through a sequence."""
    models: ClassVar[Mapping[str, Any]] = {}
    """The task's architectures by name (`densevision.tasks.registry.Architecture`)."""

    task: str
    """Name of the task."""
    arch: str = ""
    """Name of the architecture; see `densevision models`."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the architecture's constructor, e.g. `{width: 96}`."""
    backbone: BackboneConfig = BackboneConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()

    @property
    def dataset(self) -> str | None:
        """The dataset in one line, for messages and cards; None where none is given."""
        return self.data.path

    @model_validator(mode="before")
    @classmethod
    def _apply_architecture_defaults(cls, values: Any) -> Any:
        """Sets the options that the architecture has defaults for, such as its backbone, where they are not given."""
        if not cls.models or not isinstance(values, dict):
            return values
        name = values.get("arch", cls.model_fields["arch"].default)
        if not isinstance(name, str) or name not in cls.models:
            context = {"known": list(cls.models), "given": name}
            raise PydanticCustomError("no_such_arch", "no such architecture", context)
        architecture = cls.models[name]
        defaults = dict(architecture.defaults)
        if "encoder" in architecture.arguments:
            defaults.setdefault("backbone.name", architecture.arguments["encoder"])
        completed = dict(values)
        for option, value in defaults.items():
            section, _, leaf = option.rpartition(".")
            if not section:
                completed.setdefault(leaf, value)
                continue
            options = completed.get(section, {})
            if isinstance(options, dict) and options.get(leaf) is None:
                completed[section] = {**options, leaf: value}
        return completed

    @model_validator(mode="before")
    @classmethod
    def _check_limits(cls, values: Any) -> Any:
        check_limits(values)
        return values
