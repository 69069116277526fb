"""Options of superres. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative
from densevision.run_config import BackboneConfig, DataConfig, PerceptualConfig, TaskConfig

Arch = Literal[
    "edsr", "edsr-large", "rrdb", "srvgg", "srcnn", "fsrcnn", "espcn", "vdsr", "nafnet", "unet",
    "nearest", "bilinear", "bicubic", "community",
]  # fmt: skip
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""The architectures without weights."""
SIZED = ("edsr", "edsr-large", "rrdb", "srvgg", "fsrcnn", "vdsr", "nafnet")
"""The architectures with a width and a depth; `unet` has a width."""
HELD_OUT = "held-out"
"""The name of the validation split that is a tenth of the training images."""


class SuperresData(DataConfig):
    """Where the images come from, and what the network sees of them."""

    train: str | tuple[str, ...] | None = None
    """Folder or folders of training images below `path`, when they are not the usual ones."""
    val: str | tuple[str, ...] | None = None
    """Folders of validation images below `path`; `held-out` is a tenth of the training images."""
    crop: Count = 48
    """Side of a training sample, in pixels of the input."""
    turn: bool = True
    """Mirror and turn training samples by quarter turns."""
    rescale: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Least and largest factor by which an image is reduced before a training sample is cut from it: few images
    show their details at many sizes, and without the artefacts of their compression."""
    repeat: Count = 1
    """Samples of each image in an epoch."""
    cache: int = Field(2000, ge=0)
    """Megabytes of decoded images that each process keeps."""

    @model_validator(mode="after")
    def _range_is_a_range(self) -> SuperresData:
        """Refuses a range of factors that is empty, or begins at nothing."""
        if not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError("data.rescale reads [least, largest], above 0")
        return self


class DegradeConfig(Config):
    """How the input is made of an image, where it is not given: blurred, reduced by bicubic interpolation, noisy,
    compressed. Ranges are drawn from anew for each sample; nothing but the reduction happens when none is given."""

    chain: Literal["simple", "real-esrgan"] = "simple"
    """`simple`: as the other options say; `real-esrgan`: two rounds of everything, by the paper's own ranges, JPEG
    left out of images that are neither gray nor RGB."""
    blur: tuple[NonNegative, NonNegative] | None = None
    """Least and largest standard deviation of a Gaussian blur, in pixels of the target."""
    motion: tuple[NonNegative, NonNegative] | None = None
    """Least and largest length of a straight motion in any direction, in pixels of the target."""
    noise: tuple[Fraction, Fraction] | None = None
    """Least and largest standard deviation of Gaussian noise, as parts of white."""
    poisson: tuple[NonNegative, NonNegative] | None = None
    """Least and largest strength of Poisson noise; 1 is that of a pixel that counts up to 255 photons."""
    jpeg: tuple[Count, Count] | None = None
    """Least and largest JPEG quality, 1 to 100; of gray and RGB images."""

    @property
    def random(self) -> bool:
        """Whether chance has a part in it, beyond the reduction."""
        return self.chain != "simple" or any(max(getattr(self, name) or (0,)) > 0 for name in _RANGES)

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> DegradeConfig:
        """Refuses ranges that are empty, and those that the paper's chain would ignore."""
        for name in _RANGES:
            limits = getattr(self, name)
            if limits is None:
                continue
            if limits[0] > limits[1]:
                raise ValueError(f"degrade.{name} reads [least, largest]")
            if self.chain != "simple":
                raise ValueError(f"degrade.{name} has no effect with degrade.chain={self.chain}; leave it out")
        if self.jpeg is not None and self.jpeg[1] > 100:
            raise ValueError("degrade.jpeg is at most 100")
        return self


_RANGES = ("blur", "motion", "noise", "poisson", "jpeg")


class AdversarialConfig(Config):
    """The loss of a discriminator that is trained beside the network."""

    weight: NonNegative = 0.0
    """Weight of the loss; 0 trains no discriminator."""
    kind: Literal["relativistic", "vanilla"] = "relativistic"
    """Whether an image is more real than the mean of the others, or real in itself."""
    width: Count = 64
    """Channels of the first level of the U-shaped discriminator."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> AdversarialConfig:
        """Refuses options that the weight makes void."""
        if not self.weight and self != AdversarialConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.adversarial have no effect with weight 0; leave them out")
        return self


class LossConfig(Config):
    """Weights of the losses."""

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
    """Epochs in which the network learns alone, before the perceptual and adversarial losses join."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> LossConfig:
        """Refuses a sum of nothing, and a warm-up for losses that do not exist or without any to learn from."""
        needs_global_alignment = self.perceptual.weight or self.adversarial.weight
        pixels = self.l1 or self.charbonnier or self.mse or self.frequency
        if not (pixels or needs_global_alignment):
            raise ValueError("all losses have the weight 0")
        if self.generator_warmup_epochs and not needs_global_alignment:
            raise ValueError(
                "loss.generator_warmup_epochs has no effect without perceptual or adversarial loss; leave it out"
            )
        if self.generator_warmup_epochs and not pixels:
            raise ValueError(
                "loss.generator_warmup_epochs leaves nothing to learn from at first: no loss of pixels has a weight"
            )
        return self


class QualityConfig(Config):
    """The protocol of PSNR and SSIM."""

    color: Literal["Y", "RGB"] = "Y"
    """`Y` compares the luma, as the papers of super-resolution do; `RGB` all channels. Alpha is left out."""
    crop: int | None = Field(None, ge=0)
    """Width of the border that is left out; the scale when not given, and 0 at scale 1."""
    lpips: str | None = None
    """File of torchvision's AlexNet or VGG-16 weights, in whose features LPIPS is measured too; needs gray or RGB."""


class SuperresConfig(TaskConfig):
    """A network that makes images larger or better, its data and its training."""

    task: Literal["superres"] = "superres"
    """The task that this config is for."""
    arch: Arch = "edsr"
    """The family: see tasks/superres/networks. `edsr` is the paper's baseline, `unet` stands on `backbone`, `nafnet`
    restores at scale 1, the next three interpolate, and `community` only comes from a file of its own."""
    scale: Literal[1, 2, 3, 4, 8, 16] = 2
    """How many times larger the answer is; 1 restores."""
    width: Count | None = None
    """Channels of the features; the family's own when not given."""
    depth: Count | None = None
    """Number of blocks or layers; the family's own when not given."""
    residual: bool = False
    """Add the network's output to the bicubic enlargement of the image."""
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
    def _the_family_knows_its_options(self) -> SuperresConfig:
        """Refuses options that the chosen family would ignore."""
        if self.arch == "nafnet" and self.scale != 1:
            raise ValueError("nafnet restores at scale 1; leave scale at 1, or take another arch")
        if self.arch == "fsrcnn" and self.scale == 16:
            raise ValueError("the kernel of fsrcnn reaches to scale 8; take another arch")
        if self.arch == "vdsr" and self.depth == 1:
            raise ValueError("depth of arch=vdsr is 2 at least")
        for name in ("width", "depth"):
            known = self.arch in SIZED or (self.arch == "unet" and name == "width")
            if getattr(self, name) is not None and not known:
                raise ValueError(f"{name} has no effect with arch={self.arch}; leave it out")
        if self.residual and self.arch in INTERPOLATIONS:
            raise ValueError(f"residual has no effect with arch={self.arch}; leave it out")
        if self.quality.color == "Y" and self.backbone.channels > 4:
            raise ValueError("quality.color=Y needs gray or RGB images; set quality.color=RGB")
        if self.degrade.jpeg is not None and self.backbone.channels not in (1, 3):
            raise ValueError("degrade.jpeg needs gray or RGB images; leave it out")
        if self.quality.lpips and self.backbone.channels not in (1, 3):
            raise ValueError("quality.lpips needs gray or RGB images; leave it out")
        if self.arch != "unet" and self.backbone != BackboneConfig(channels=self.backbone.channels):
            raise ValueError(f"backbone has no effect with arch={self.arch} but for its channels; leave it out")
        return self


CONFIG = SuperresConfig
