"""Options of translation. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import BackboneConfig, DataConfig, PerceptualConfig, TaskConfig, TrainConfig

SIDES = ("A", "B")
"""Usual names of the folders of the two kinds of image."""
PADDED = 286 / 256
"""What a training image measures before it is cropped, in crops: Isola et al., section 6.2."""
HELD_OUT = "held-out"
"""The name of the validation split that is a tenth of the training images."""
RESNET_STRIDE = 4
"""Pixels per cell of the ResNet generator's blocks."""


class TranslationData(DataConfig):
    """Where the pairs come from, and what the network sees of them."""

    train: str | None = None
    """Folder of training pairs below `path`, when it is not the usual one."""
    val: str | None = None
    """Folder of validation pairs below `path`; `held-out` is a tenth of the training pairs."""
    layout: Literal["auto", "side-by-side", "folders", "images"] = "auto"
    """`side-by-side`: A and B are the halves of one image; `folders`: images of one name in two folders;
    `images`: one image, of which `derive` makes the other. `auto`: folders, if there are those of `sides`; else
    images if there is something to derive, and images side by side if not."""
    sides: tuple[str, str] = SIDES
    """Names of the folders that hold A and B, such as `[night, day]`; upper and lower case are one."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Which of the two is asked about, and which is the answer. Scenes are labels (A) and their image (B)."""
    derive: Literal["none", "gray", "edges"] = "none"
    """What the network sees instead of the pair's input: the answer without its colors, or its edges."""
    size: Count = 128
    """Side of a training sample; and of the image in prediction, see `inference.resize`."""
    resize: Count | None = None
    """Side to which a training image is resized before a square of `size` is cut out; 286 / 256 of it by default."""
    flip: bool = True
    """Mirror half of the training samples left and right."""
    cache: int = Field(2000, ge=0)
    """Megabytes of decoded images that each process keeps."""

    @property
    def padded(self) -> int:
        """Side to which a training image is resized."""
        return round(self.size * PADDED) if self.resize is None else self.resize

    @model_validator(mode="after")
    def _options_fit_together(self) -> TranslationData:
        """Refuses a crop larger than its image, single images of which nothing is made, and sides of no effect."""
        if self.padded < self.size:
            raise ValueError(f"data.resize={self.resize} is smaller than data.size={self.size}")
        if self.layout == "images" and self.derive == "none":
            raise ValueError("data.layout=images needs data.derive, which says what is made of each image")
        if self.layout == "images" and self.direction != "AtoB":
            raise ValueError("data.direction has no effect with data.layout=images; leave it out")
        if self.layout in ("side-by-side", "images") and self.sides != SIDES:
            raise ValueError(f"data.sides has no effect with data.layout={self.layout}; leave it out")
        if self.sides[0].lower() == self.sides[1].lower() or not all(self.sides):
            raise ValueError("data.sides reads [folder of A, folder of B], of two names")
        return self


class AdversarialConfig(Config):
    """The loss of a discriminator that is trained beside the network."""

    weight: NonNegative = 1.0
    """Weight of the loss; 0 trains no discriminator."""
    kind: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    """The loss of logits: cross-entropy as in the paper, least squares, or hinge."""
    discriminator: Literal["patch", "pixel", "image"] = "patch"
    """What is judged at once: patches, single pixels, or patches so large that they see the whole training sample."""
    layers: Count | None = None
    """`patch`: strided layers, 3 when not given; each about doubles the patch: 16, 34, 70, 142, 286 pixels."""
    scales: Count = 1
    """Discriminators, each on an image half as large as the one before."""
    width: Count = 64
    """Channels of the discriminator's first layer."""
    conditional: bool = True
    """Show the discriminator the input beside the answer."""
    buffer: int = Field(0, ge=0)
    """Earlier answers that are kept, and half of the time shown to the discriminator in place of new ones."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> AdversarialConfig:
        """Refuses options that the weight or the kind of discriminator make void."""
        if self.layers is not None and self.discriminator != "patch":
            raise ValueError(f"loss.adversarial.layers has no effect with {self.discriminator}; leave it out")
        if not self.weight and self != AdversarialConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.adversarial have no effect with weight 0; leave them out")
        return self


class LossConfig(Config):
    """Weights of the losses."""

    l1: NonNegative = 100.0
    """Weight of the mean absolute difference of pixels from -1 to 1: the paper's lambda."""
    adversarial: AdversarialConfig = AdversarialConfig()
    feature_matching: NonNegative = 0.0
    """Weight of the mean absolute difference of the discriminator's features of answer and target."""
    perceptual: PerceptualConfig = PerceptualConfig()
    generator_warmup_epochs: int = Field(0, ge=0)
    """Epochs in which the network learns from pixels alone, before the other losses join."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> LossConfig:
        """Refuses a sum of nothing, features of no discriminator, and a warm-up for losses that do not exist."""
        if not (self.l1 or self.adversarial.weight or self.perceptual.weight):
            raise ValueError("all losses have the weight 0")
        if self.feature_matching and not self.adversarial.weight:
            raise ValueError("loss.feature_matching needs a discriminator: loss.adversarial.weight is 0")
        if self.generator_warmup_epochs and not (self.adversarial.weight or self.perceptual.weight):
            raise ValueError(
                "loss.generator_warmup_epochs has no effect without adversarial or perceptual loss; leave it out"
            )
        if self.generator_warmup_epochs and not self.l1:
            raise ValueError("loss.generator_warmup_epochs leaves nothing to learn from at first: loss.l1 is 0")
        return self


class InferenceConfig(Config):
    """How the trained network answers; the paper's way by default."""

    norm: Literal["batch", "running"] = "batch"
    """What batch norms subtract and divide by: the statistics of the very image, as the paper's batches of one have
    it, or the averages of training."""
    dropout: bool = True
    """Keep the dropout on, which is the paper's noise; drawn once from `seed`, so that answers do not change."""
    seed: int = Field(0, ge=0)
    """Which noise."""
    resize: bool = True
    """Bring the shorter side to `data.size` and the answer back; otherwise images are answered at their own size."""


class QualityConfig(Config):
    """The numbers that are computed of answers and targets besides L1, PSNR and SSIM."""

    monitor: Literal["L1", "PSNR", "SSIM", "FD"] = "L1"
    """The number that picks the best weights."""
    frechet: bool = False
    """Give the Frechet distance (FD) between the features of all answers and all targets."""
    features: BackboneConfig = BackboneConfig()
    """Whose features: any timm model, of which `pretrained` names the weights."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> QualityConfig:
        """Refuses features of which nothing is computed, and those of a network that has learned nothing."""
        if not self.frechet and self.features != BackboneConfig():
            raise ValueError("quality.features has no effect without quality.frechet; leave it out")
        if not self.frechet and self.monitor == "FD":
            raise ValueError("quality.monitor=FD needs quality.frechet")
        if self.frechet and not self.features.pretrained:
            raise ValueError("quality.frechet needs quality.features.pretrained: random features say nothing")
        return self


class TranslationTrain(TrainConfig):
    """How the weights are found: the paper's way by default."""

    epochs: Count = 200
    """Passes over the training set."""
    batch: Count | Literal["auto"] = 1
    """Images per step and process; `auto` takes the largest power of two that fits the memory."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    """The optimizer; none decays norms, biases or other one-dimensional weights."""
    lr: Positive = 2e-4
    """Peak learning rate."""
    weight_decay: NonNegative = 0.0
    """Decay of the weights that are decayed."""
    momentum: Fraction = 0.5
    """Momentum of SGD, or Adam's first beta."""
    schedule: Literal["cosine", "linear", "onecycle", "plateau", "constant"] = "linear"
    """Shape of the rate after the warm-up; `linear` holds it for half the run and then falls to zero."""
    warmup: NonNegative = 0.0
    """Epochs over which the rate rises from zero."""
    clip: NonNegative = 0.0
    """Largest norm of the gradient; 0 turns clipping off."""


class TranslationConfig(TaskConfig):
    """A network that answers an image with an image of another kind, its data and its training."""

    task: Literal["translation"] = "translation"
    """The task that this config is for."""
    arch: Literal["unet", "resnet", "timm"] = "unet"
    """The generator: the paper's U-Net, residual blocks between strided convolutions, or a U-Net on `backbone`."""
    width: Count = 64
    """Channels at the image's own size, or of the first layer."""
    depth: Count | None = None
    """`unet`: times that the image is halved, as often as `data.size` can be when not given; 8 is U-Net-256.
    `resnet`: number of blocks, 9 when not given."""
    channels: Count = 3
    """Channels of the answer; those of the input are `backbone.channels`."""
    norm: Literal["batch", "instance"] = "batch"
    """Norms of generator and discriminator; `timm` has them in its decoder."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the deep features that dropout sets to zero: the paper's noise."""
    data: TranslationData = TranslationData()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()
    quality: QualityConfig = QualityConfig()
    train: TranslationTrain = TranslationTrain()

    @property
    def levels(self) -> int:
        """`unet`: times that the image is halved."""
        return self.depth or max(2, (self.data.size & -self.data.size).bit_length() - 1)

    @property
    def blocks(self) -> int:
        """`resnet`: number of residual blocks."""
        return self.depth or 9

    @property
    def multiple(self) -> int:
        """What the sides of an image must be multiples of."""
        return {"unet": 1 << self.levels, "resnet": RESNET_STRIDE, "timm": 1}[self.arch]

    @property
    def patch_layers(self) -> int:
        """Strided layers of the patch discriminator."""
        adversarial = self.loss.adversarial
        if adversarial.discriminator == "patch":
            return adversarial.layers or 3
        layers = 1
        while patch_side(layers) < self.data.size:
            layers += 1
        return layers

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> TranslationConfig:
        """Refuses options that the chosen network would ignore, and samples that the networks cannot take."""
        self._check_generator()
        self._check_sizes()
        if self.norm == "instance" and self.inference.norm == "running":
            raise ValueError("inference.norm=running has no effect with norm=instance; leave it out")
        if not self.dropout and (not self.inference.dropout or self.inference.seed):
            raise ValueError("inference.dropout and inference.seed have no effect with dropout=0; leave them out")
        if not self.inference.dropout and self.inference.seed:
            raise ValueError("inference.seed has no effect with inference.dropout=false; leave it out")
        return self

    def _check_generator(self) -> None:
        if self.arch == "timm":
            if self.depth is not None:
                raise ValueError("depth has no effect with arch=timm, whose encoder has its own; leave it out")
        elif self.backbone != BackboneConfig(channels=self.backbone.channels):
            raise ValueError(f"backbone has no effect with arch={self.arch} but for its channels; leave it out")
        if self.arch == "unet" and self.levels < 2:
            raise ValueError("depth of arch=unet is 2 at least")

    def _check_sizes(self) -> None:
        size, adversarial = self.data.size, self.loss.adversarial
        if size % self.multiple:
            raise ValueError(f"data.size={size} is no multiple of {self.multiple}, which this network needs")
        if not adversarial.weight:
            return
        smallest = -(-size >> adversarial.scales - 1)
        if adversarial.discriminator == "pixel":
            if smallest < 2:
                hint = f"lower loss.adversarial.scales, or raise data.size={size}"
                raise ValueError(f"{adversarial.scales} scales leave a single pixel to the last discriminator: {hint}")
            return
        # Two unstrided convolutions of 4 follow the strided ones, and a norm needs more than one cell.
        if smallest >> self.patch_layers < 3:
            hint = f"lower loss.adversarial.layers or scales, or raise data.size={size}"
            raise ValueError(f"{self.patch_layers} strided layers leave nothing of an image of {smallest}: {hint}")


def patch_side(layers: int) -> int:
    """Side of what one logit of a patch discriminator sees, in pixels.

    >>> [patch_side(layers) for layers in (1, 3, 5)]
    [16, 70, 286]
    """
    side = 7
    for _ in range(layers):
        side = (side - 1) * 2 + 4
    return side


CONFIG = TranslationConfig
