"""What every run is made of, whatever its task: backbone, data, training, prediction. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class BackboneConfig(Config):
    """Any timm model as a feature pyramid."""

    name: str = "mobilenetv2_100"
    """A timm model name; `densevision models` lists those that work as pyramids."""
    pretrained: bool | str = False
    """`true` downloads timm's weights, a path loads that file, `false` starts from random weights."""
    channels: Count = 3
    """Channels of the input image."""
    mean: tuple[float, ...] | None = None
    """Mean per channel of an image in [0, 1]; from the weights' own config when not given."""
    std: tuple[float, ...] | None = None
    """Standard deviation per channel; from the weights' own config when not given."""
    output_stride: Literal[8, 16, 32] | None = None
    """Dilate the last stages so that the deepest level keeps this stride; convolutional families only."""
    freeze: int = Field(0, ge=0)
    """Number of shallow stages that are not trained (batch norm statistics included)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Extra arguments for `timm.create_model`, e.g. `{pad_type: same}`."""


class PerceptualConfig(Config):
    """The loss that compares features of a network that stays as it is."""

    weight: NonNegative = 0.0
    """Weight of the loss; 0 turns it off."""
    backbone: BackboneConfig = BackboneConfig()
    """Whose features: any timm model; `pretrained` names its weights."""
    strides: tuple[Count, ...] = (2, 4, 8)
    """The levels that are compared, by their strides."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> PerceptualConfig:
        """Refuses options that the weight makes void."""
        if not self.weight and self != PerceptualConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.perceptual have no effect with weight 0; leave them out")
        return self


class DataConfig(Config):
    """Where the samples come from and how they are read."""

    path: str | None = None
    """A dataset folder or file whose format is recognized, or `scenes[:COUNT[:SEED]]`."""
    train: str | None = None
    """Name or file of the training split, when it is not the usual one."""
    val: str | None = None
    """Name or file of the validation split, when it is not the usual one."""
    workers: int = Field(0, ge=0)
    """Processes that read and augment; the samples are the same for any number."""
    on_error: Literal["fail", "fix", "skip"] = "fail"
    """What to do with a bad label: stop, fix what can be fixed, or leave the label out; each is counted and named."""
    max_pixels: Count = 400_000_000
    """Largest image that is decoded, in pixels; a guard against decompression bombs."""


class ColorConfig(Config):
    """What chance does to the colors of a training sample."""

    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.015
    """Largest turn of the hue, as a part of the color circle; RGB only."""
    saturation: Fraction = 0.7
    """Largest change of the saturation, as a factor of 1 plus or minus this; RGB only."""
    value: Fraction = 0.4
    """Largest change of the brightness, as a factor of 1 plus or minus this."""
    blur: Fraction = 0.01
    """Probability of a Gaussian blur."""
    noise: Fraction = 0.0
    """Probability of Gaussian noise."""
    jpeg: Fraction = 0.0
    """Probability of compression by JPEG; 8-bit gray and RGB only."""
    gray: Fraction = 0.01
    """Probability of taking the colors away; RGB only."""


class AugmentConfig(ColorConfig):
    """What chance does to a training sample. Geometry is one warp; colors change after it."""

    mosaic: Fraction = 1.0
    """Probability of joining the image with three others, around a random center."""
    mixup: Fraction = 0.0
    """Probability of blending the result with another one."""
    close_mosaic_epochs: int = Field(10, ge=0)
    """Last epochs, without mosaic and mixup: the network ends on images as they are."""
    scale: tuple[Positive, Positive] = (0.5, 1.5)
    """Least and largest factor of size, against the size that fits the canvas."""
    rotate: NonNegative = 0.0
    """Largest rotation, in degrees to either side."""
    translate: Fraction = 0.1
    """Largest shift along each axis, as a part of the canvas."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    """Largest shear along each axis, in degrees to either side."""
    flip: Fraction = 0.5
    """Probability of mirroring left and right."""
    flip_vertical: Fraction = 0.0
    """Probability of mirroring top and bottom."""
    multi_scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of a whole batch's size, as a factor of 1 plus or minus this."""

    @model_validator(mode="after")
    def _options_fit_together(self) -> AugmentConfig:
        """Refuses a scale range that is empty, and an option that the others make void."""
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale reads [least, largest]")
        if (
            not self.mosaic
            and not self.mixup
            and self.close_mosaic_epochs != type(self).model_fields["close_mosaic_epochs"].default
        ):
            raise ValueError("augment.close_mosaic_epochs has no effect without mosaic and mixup; leave it out")
        return self


class TrainConfig(Config):
    """How the weights are found."""

    init_from: str | None = None
    """Weights file to start from: of this task what fits, of another one the backbone; what is left out is named."""
    epochs: Count = 100
    """Passes over the training set."""
    batch: Count | Literal["auto"] = 16
    """Images per step and process; `auto` takes the largest power of two that fits the memory."""
    accumulate_grad_batches: Count = 1
    """Batches whose gradients are summed into one step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """The optimizer; none decays norms, biases or other one-dimensional weights."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    backbone_lr_scale: Positive = 1.0
    """The backbone's rate as a fraction of `lr`."""
    weight_decay: NonNegative = 0.05
    """Decay of the weights that are decayed."""
    momentum: Fraction = 0.9
    """Momentum of SGD, or Adam's first beta."""
    schedule: Literal["cosine", "linear", "onecycle", "plateau", "constant"] = "cosine"
    """Shape of the rate after the warm-up; `linear` holds it for half the run and then falls to zero."""
    warmup_epochs: NonNegative = 1.0
    """Epochs over which the rate rises from zero."""
    min_lr_ratio: Fraction = 0.01
    """Rate at the end of `cosine` as a fraction of `lr`."""
    plateau_patience: Count = 5
    """`plateau`: validations without improvement before the rate is divided."""
    plateau_factor: Positive = 10.0
    """`plateau`: what the rate is divided by."""
    ema_decay: Fraction = 0.0
    """Decay of the moving average of the weights that is validated and saved; 0 turns it off."""
    grad_clip_norm: NonNegative = 10.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the device computes it natively, float32 elsewhere."""
    early_stopping_patience: int = Field(0, ge=0)
    """Stop after this many validations without improvement; 0 never stops early."""
    validate_every: Count = 1
    """Epochs between validations."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    devices: Count = 1
    """Processes, one per device, on each node."""
    nodes: Count = 1
    """Machines."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several processes share the work."""
    compile: bool = False
    """Compile the network with `torch.compile`."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Loggers besides metrics.csv."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> TrainConfig:
        """Refuses options that the chosen schedule would ignore."""
        readers = {"plateau_patience": "plateau", "plateau_factor": "plateau", "min_lr_ratio": "cosine"}
        for name, schedule in readers.items():
            default = type(self).model_fields[name].default
            if self.schedule != schedule and getattr(self, name) != default:
                raise ValueError(f"train.{name} has no effect with train.schedule={self.schedule}; leave it out")
        return self


class PredictOptions(Config):
    """What `predict` can be asked for; a task refuses those that it does not support."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where it is faster and the answer stays within tolerance."""
    batch: Count = 1
    """Images per pass."""
    tile: Count | None = None
    """Side in pixels of the tiles that a large image is cut into; when not given, whole images (pixel-wise tasks:
    up to 16 megapixels, in tiles of 1024 beyond)."""
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.25
    """Part of a tile that it shares with its neighbor; more where the network's reach is known and needs it."""
    tta: tuple[Literal["flip", "scale", "rotate"], ...] = ()
    """Test-time augmentation: mirror the image, change its scale, turn it by quarters, merge the answers."""
    score_threshold: Fraction | None = None
    """Lowest score of an object that is kept."""
    max_detections: Count | None = None
    """Most objects per image."""
    iou_threshold: Fraction | None = None
    """Overlap above which the weaker of two boxes of a class is dropped."""
    class_agnostic: bool = False
    """Let boxes of different classes suppress each other."""
    classes: tuple[str, ...] | None = None
    """Names of the classes to keep."""
    probabilities: bool = False
    """Keep the probability of each class at each pixel."""
    iterations: Count | None = None
    """Refinement steps of iterative models."""
    warm_start: bool = False
    """Take the images as one sequence, and start each answer from the one before."""
    forward_backward: bool = False
    """Follow the motion back as well, and call occluded what does not return."""
    focal_length: Positive | None = None
    """Focal length in pixels of the images: corrects metric depth for the camera, and places its points in space."""
    max_pixels: Count = 400_000_000
    """Largest image that is decoded, in pixels."""

    @field_validator("tta", "classes", mode="before")
    @classmethod
    def _one_word_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class TaskConfig(Config):
    """Base of each task's config; a task adds what is its own."""

    task: str
    """The task that this config is for."""
    backbone: BackboneConfig = BackboneConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
