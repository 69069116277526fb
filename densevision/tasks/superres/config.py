"""Options of superres. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative
from densevision.run_config import BackboneConfig, DataConfig, PerceptualConfig, TaskConfig
from densevision.tasks.superres.models import MODELS

__all__ = [
    "HELD_OUT",
    "AdversarialConfig",
    "DegradeConfig",
    "LossConfig",
    "QualityConfig",
    "SuperresConfig",
    "SuperresData",
]

HELD_OUT = "held-out"
"""Name of the validation split that is a tenth of the training images."""
TASK_ARGUMENTS = {"scale": "scale", "in_channels": "backbone.channels", "criterion": "loss"}
"""Constructor arguments that options of the task decide, and these options."""


class SuperresData(DataConfig):
    """Where the images come from, and what a training step sees of them."""

    train: str | tuple[str, ...] | None = None  # type: ignore[assignment]
    """Folder or folders of training images below `path`; by default those with a usual name."""
    val: str | tuple[str, ...] | None = None  # type: ignore[assignment]
    """Folder or folders of validation images below `path`; `held-out` is a tenth of the training images."""
    crop: Count = 48
    """Side of a training sample, in pixels of the input."""
    flip_and_rotate: bool = True
    """Randomly flip training samples and rotate them by multiples of 90 degrees."""
    rescale: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Smallest and largest factor by which an image is downscaled before a training sample is cut from it: a few images
    then show their details at many sizes, without their compression artifacts."""
    repeat: Count = 1
    """Samples of each image in an epoch."""
    cache: int = Field(2000, ge=0)
    """Megabytes of decoded images that each process keeps."""

    @model_validator(mode="after")
    def _check_rescale(self) -> SuperresData:
        if not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError("data.rescale must be [smallest, largest], above 0")
        return self


class DegradeConfig(Config):
    """How inputs are made from images where they are not given: blur, bicubic downscaling, noise, compression.

    Each range is sampled anew for every training sample. By default images are only downscaled."""

    chain: Literal["simple", "real-esrgan"] = "simple"
    """`simple`: what the other options enable; `real-esrgan`: the second-order degradation of Real-ESRGAN with its
    published ranges, without JPEG for images that are neither gray nor RGB."""
    blur: tuple[NonNegative, NonNegative] | None = None
    """Smallest and largest standard deviation of a Gaussian blur, in pixels of the target."""
    motion: tuple[NonNegative, NonNegative] | None = None
    """Smallest and largest length of a linear motion blur in any direction, in pixels of the target."""
    noise: tuple[Fraction, Fraction] | None = None
    """Smallest and largest standard deviation of Gaussian noise; white is 1."""
    poisson: tuple[NonNegative, NonNegative] | None = None
    """Smallest and largest strength of Poisson noise; 1 is that of a pixel that counts up to 255 photons."""
    jpeg: tuple[Count, Count] | None = None
    """Smallest and largest JPEG quality, 1 to 100; gray and RGB images only."""

    @property
    def is_random(self) -> bool:
        """Whether anything but downscaling is applied."""
        return self.chain != "simple" or any(max(getattr(self, name) or (0,)) > 0 for name in _RANGES)

    @model_validator(mode="after")
    def _check_ranges(self) -> DegradeConfig:
        for name in _RANGES:
            limits = getattr(self, name)
            if limits is None:
                continue
            if limits[0] > limits[1]:
                raise ValueError(f"degrade.{name} must be [smallest, largest]")
            if self.chain != "simple":
                raise ValueError(f"degrade.{name} has no effect with degrade.chain={self.chain}; leave it out")
        if self.jpeg is not None and self.jpeg[1] > 100:
            raise ValueError("degrade.jpeg is at most 100")
        return self


_RANGES = ("blur", "motion", "noise", "poisson", "jpeg")


class AdversarialConfig(Config):
    """The loss of a discriminator that is trained together with the network."""

    weight: NonNegative = 0.0
    """Weight of the loss; 0 trains no discriminator."""
    kind: Literal["relativistic", "vanilla"] = "relativistic"
    """`relativistic`: whether an image is more realistic than the mean of the others; `vanilla`: cross-entropy."""
    width: Count = 64
    """Channels of the first level of the U-Net discriminator."""

    @model_validator(mode="after")
    def _check_effects(self) -> AdversarialConfig:
        if not self.weight and self != AdversarialConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.adversarial have no effect with weight 0; leave them out")
        return self


class LossConfig(Config):
    """Weights of the losses; 0 turns one off."""

    l1: NonNegative = 1.0
    """Weight of the mean absolute difference."""
    charbonnier: NonNegative = 0.0
    """Weight of the smooth absolute difference, sqrt(d^2 + 1e-6)."""
    mse: NonNegative = 0.0
    """Weight of the mean squared difference."""
    frequency: NonNegative = 0.0
    """Weight of the mean absolute difference of the Fourier transforms."""
    perceptual: PerceptualConfig = PerceptualConfig()
    adversarial: AdversarialConfig = AdversarialConfig()
    generator_warmup_epochs: int = Field(0, ge=0)
    """First epochs with pixel losses only, before the perceptual and adversarial losses are added."""

    @property
    def pixel_weights(self) -> dict[str, float]:
        """Arguments of `densevision.tasks.superres.losses.PixelCriterion`."""
        return {name: getattr(self, name) for name in ("l1", "charbonnier", "mse", "frequency")}

    @property
    def has_training_modules(self) -> bool:
        """Whether a loss needs a discriminator or a perceptual network."""
        return bool(self.perceptual.weight or self.adversarial.weight)

    @model_validator(mode="after")
    def _check_effects(self) -> LossConfig:
        has_pixel_losses = any(self.pixel_weights.values())
        if not has_pixel_losses and not self.has_training_modules:
            raise ValueError("all losses have the weight 0")
        if self.generator_warmup_epochs and not self.has_training_modules:
            raise ValueError(
                "loss.generator_warmup_epochs has no effect without perceptual or adversarial loss; leave it out"
            )
        if self.generator_warmup_epochs and not has_pixel_losses:
            raise ValueError("loss.generator_warmup_epochs needs a pixel loss: all of them have the weight 0")
        return self


class QualityConfig(Config):
    """The protocol of PSNR and SSIM."""

    color: Literal["Y", "RGB"] = "Y"
    """`Y` compares the luma, as super-resolution papers do; `RGB` all channels. Alpha is left out."""
    luma: Literal["rounded", "float"] = "rounded"
    """With `Y`: `rounded` to 8-bit levels like MATLAB's rgb2ycbcr, or `float` like BasicSR and EDSR-PyTorch; they
    differ by up to 0.4 dB."""
    crop: int | None = Field(None, ge=0)
    """Width of the border that is left out; by default the scale, and 0 at scale 1."""
    lpips: str | None = None
    """File of torchvision's AlexNet or VGG-16 weights, to measure LPIPS too; gray or RGB images only."""

    @model_validator(mode="after")
    def _check_effects(self) -> QualityConfig:
        if self.color != "Y" and self.luma != "rounded":
            raise ValueError("quality.luma has no effect with quality.color=RGB; leave it out")
        return self


class SuperresConfig(TaskConfig):
    """A network that enlarges or restores images, its data and its training."""

    models: ClassVar[Mapping[str, Any]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset({"tile", "overlap", "tta"})

    task: Literal["superres"] = "superres"
    """The task that this config is for."""
    arch: str = "edsr_baseline"
    """The architecture; `densevision models superres` lists the names."""
    scale: Literal[1, 2, 3, 4, 8, 16] = 2
    """Output pixels per input pixel along each axis; 1 restores."""
    data: SuperresData = SuperresData()
    degrade: DegradeConfig = DegradeConfig()
    loss: LossConfig = LossConfig()
    quality: QualityConfig = QualityConfig()

    @property
    def crop(self) -> int:
        """Width of the border that PSNR and SSIM leave out."""
        if self.quality.crop is not None:
            return self.quality.crop
        return self.scale if self.scale > 1 else 0

    @model_validator(mode="after")
    def _check_combination(self) -> SuperresConfig:
        for name, option in TASK_ARGUMENTS.items():
            if name in self.model:
                raise ValueError(f"model.{name} follows from {option}; set that instead")
        channels = self.backbone.channels
        if self.quality.color == "Y" and channels > 4:
            raise ValueError("quality.color=Y needs gray or RGB images; set quality.color=RGB")
        if self.degrade.jpeg is not None and channels not in (1, 3):
            raise ValueError("degrade.jpeg needs gray or RGB images; leave it out")
        if self.quality.lpips and channels not in (1, 3):
            raise ValueError("quality.lpips needs gray or RGB images; leave it out")
        if "encoder" not in MODELS[self.arch].arguments and self.backbone != BackboneConfig(channels=channels):
            raise ValueError(f"arch {self.arch} has no backbone: only backbone.channels has an effect")
        return self


CONFIG = SuperresConfig
