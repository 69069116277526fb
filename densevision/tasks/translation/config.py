"""Options of translation. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import BackboneConfig, DataConfig, PerceptualConfig, TaskConfig, TrainConfig
from densevision.tasks.translation.models import MODELS

__all__ = [
    "HELD_OUT",
    "SIDES",
    "AdversarialConfig",
    "InferenceConfig",
    "LossConfig",
    "QualityConfig",
    "TranslationConfig",
    "TranslationData",
    "TranslationTrain",
    "compute_patch_side",
]

SIDES = ("A", "B")
"""Usual names of the folders of the two kinds of image."""
RESIZE_FACTOR = 286 / 256
"""Side of a training image before it is cropped, relative to the crop: Isola et al., section 6.2."""
HELD_OUT = "held-out"
"""Name of the validation split that is a tenth of the training pairs."""
TASK_ARGUMENTS = {
    "in_channels": "backbone.channels",
    "out_channels": "out_channels",
    "norm": "norm",
    "image_size": "data.size",
    "resize": "inference.resize",
    "use_batch_stats": "inference.use_batch_stats",
    "noise_seed": "inference.seed",
    "criterion": "loss.l1",
}
"""Constructor arguments that options of the task decide, and these options."""


class TranslationData(DataConfig):
    """Where the pairs come from, and what a training step sees of them."""

    train: str | None = None
    """Folder of training pairs below `path`; by default one with a usual name."""
    val: str | None = None
    """Folder of validation pairs below `path`; `held-out` is a tenth of the training pairs."""
    layout: Literal["auto", "side-by-side", "folders", "images"] = "auto"
    """`side-by-side`: A and B are the halves of one image; `folders`: images of the same name in two folders;
    `images`: single images, from which `derive` makes the input. `auto`: folders, if those of `sides` exist; else
    images if `derive` is set, and side-by-side otherwise."""
    sides: tuple[str, str] = SIDES
    """Names of the folders that contain A and B, such as `[night, day]`; case-insensitive."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Which of the two is the input, and which is the target. Scenes are labels (A) and their image (B)."""
    derive: Literal["none", "gray", "edges"] = "none"
    """Make the input from the target: without its colors, or its edges."""
    size: Count = 128
    """Side of a training sample, and of the image in prediction, see `inference.resize`."""
    resize: Count | None = None
    """Side to which a training image is resized before a square of `size` is cropped; by default 286 / 256 of it."""
    flip: bool = True
    """Flip half of the training samples horizontally."""
    cache: int = Field(2000, ge=0)
    """Megabytes of decoded images that each process keeps."""

    @property
    def resized_side(self) -> int:
        """Side to which a training image is resized."""
        return round(self.size * RESIZE_FACTOR) if self.resize is None else self.resize

    @model_validator(mode="after")
    def _check_combination(self) -> TranslationData:
        if self.resized_side < self.size:
            raise ValueError(f"data.resize={self.resize} is smaller than data.size={self.size}")
        if self.layout == "images" and self.derive == "none":
            raise ValueError("data.layout=images needs data.derive, which says how inputs are made")
        if self.layout == "images" and self.direction != "AtoB":
            raise ValueError("data.direction has no effect with data.layout=images; leave it out")
        if self.layout in ("side-by-side", "images") and self.sides != SIDES:
            raise ValueError(f"data.sides has no effect with data.layout={self.layout}; leave it out")
        if self.sides[0].lower() == self.sides[1].lower() or not all(self.sides):
            raise ValueError("data.sides must be [folder of A, folder of B], with two different names")
        return self


class AdversarialConfig(Config):
    """The loss of a discriminator that is trained together with the generator."""

    weight: NonNegative = 1.0
    """Weight of the loss; 0 trains no discriminator."""
    kind: Literal["vanilla", "lsgan", "hinge"] = "vanilla"
    """The loss of logits: cross-entropy as in the paper, least squares, or hinge."""
    discriminator: Literal["patch", "pixel", "image"] = "patch"
    """What each logit classifies: patches, single pixels, or patches that cover the whole training sample."""
    layers: Count | None = None
    """`patch`: number of strided layers, 3 by default; each doubles the patch: 16, 34, 70, 142, 286 pixels."""
    scales: Count = 1
    """Number of discriminators, each on an image half as large as the previous one."""
    width: Count = 64
    """Channels of the discriminator's first layer."""
    conditional: bool = True
    """Whether the discriminator sees the input, too."""
    pool_size: int = Field(0, ge=0)
    """Number of earlier predictions that are kept; half of the time the discriminator sees one of them."""

    @model_validator(mode="after")
    def _check_effects(self) -> AdversarialConfig:
        if self.layers is not None and self.discriminator != "patch":
            raise ValueError(f"loss.adversarial.layers has no effect with {self.discriminator}; leave it out")
        if not self.weight and self != AdversarialConfig.model_construct(weight=self.weight):
            raise ValueError("options of loss.adversarial have no effect with weight 0; leave them out")
        return self


class LossConfig(Config):
    """Weights of the losses; 0 turns one off."""

    l1: NonNegative = 100.0
    """Weight of the mean absolute difference of pixels from -1 to 1: the paper's lambda."""
    adversarial: AdversarialConfig = AdversarialConfig()
    feature_matching: NonNegative = 0.0
    """Weight of the mean absolute difference of the discriminator's features of prediction and target."""
    perceptual: PerceptualConfig = PerceptualConfig()
    generator_warmup_epochs: int = Field(0, ge=0)
    """First epochs with the L1 loss only, before the other losses are added."""

    @property
    def has_training_modules(self) -> bool:
        """Whether a loss needs a discriminator or a perceptual network."""
        return bool(self.perceptual.weight or self.adversarial.weight)

    @model_validator(mode="after")
    def _check_effects(self) -> LossConfig:
        if not self.l1 and not self.has_training_modules:
            raise ValueError("all losses have the weight 0")
        if self.feature_matching and not self.adversarial.weight:
            raise ValueError("loss.feature_matching needs a discriminator: loss.adversarial.weight is 0")
        if self.generator_warmup_epochs and not self.has_training_modules:
            raise ValueError(
                "loss.generator_warmup_epochs has no effect without adversarial or perceptual loss; leave it out"
            )
        if self.generator_warmup_epochs and not self.l1:
            raise ValueError("loss.generator_warmup_epochs needs the L1 loss: loss.l1 is 0")
        return self


class InferenceConfig(Config):
    """How the trained generator predicts; as in the paper by default."""

    use_batch_stats: bool = True
    """Batch norms use the statistics of each image, as in training with batches of one; otherwise running averages."""
    dropout: bool = True
    """Keep dropout enabled, the paper's noise; its mask is fixed, so that predictions are reproducible."""
    seed: int = Field(0, ge=0)
    """Seed of that mask."""
    resize: bool = True
    """Resize the shorter side to `data.size`, and the output back; otherwise images keep their size."""


class QualityConfig(Config):
    """Metrics besides L1, PSNR and SSIM."""

    monitor: Literal["L1", "PSNR", "SSIM", "FD"] = "L1"
    """The metric that selects the best weights."""
    frechet: bool = False
    """Compute the Frechet distance (FD) between the features of all predictions and all targets."""
    features: BackboneConfig = BackboneConfig()
    """The network of these features: any timm model with `pretrained` weights."""

    @model_validator(mode="after")
    def _check_effects(self) -> QualityConfig:
        if not self.frechet and self.features != BackboneConfig():
            raise ValueError("quality.features has no effect without quality.frechet; leave it out")
        if not self.frechet and self.monitor == "FD":
            raise ValueError("quality.monitor=FD needs quality.frechet")
        if self.frechet and not self.features.pretrained:
            raise ValueError("quality.frechet needs quality.features.pretrained: random features are meaningless")
        return self


class TranslationTrain(TrainConfig):
    """Training; as in the paper by default."""

    epochs: Count = 200
    """Passes over the training set."""
    batch: Count | Literal["auto"] = 1
    """Images per step and process; `auto` takes the largest power of two that fits the memory."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adam"
    """The optimizer. Weight decay spares norms, biases and other one-dimensional weights."""
    lr: Positive = 2e-4
    """Peak learning rate."""
    weight_decay: NonNegative = 0.0
    """Weight decay."""
    betas: tuple[Fraction, Fraction] = (0.5, 0.999)
    """`adam`, `adamw`: decay of the running averages of the gradient and its square."""
    schedule: Literal["cosine", "linear", "onecycle", "plateau", "constant"] = "linear"
    """Learning rate after the warm-up; `linear` is constant for half of the run and then decays to zero."""
    warmup_epochs: NonNegative = 0.0
    """Epochs over which the learning rate rises from zero."""
    grad_clip_norm: NonNegative = 0.0
    """Maximum norm of the gradients; 0 disables clipping."""


class TranslationConfig(TaskConfig):
    """A network that translates images into another kind, its data and its training."""

    models: ClassVar[Mapping[str, Any]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset({"tile", "overlap", "tta"})

    task: Literal["translation"] = "translation"
    """The task that this config is for."""
    arch: str = "pix2pix_unet"
    """The architecture; `densevision models translation` lists the names."""
    out_channels: Count = 3
    """Channels of the output; those of the input are `backbone.channels`."""
    norm: Literal["batch", "instance"] = "batch"
    """Norms of generator and discriminator; `pix2pix_timm` has them in its decoder."""
    data: TranslationData = TranslationData()
    loss: LossConfig = LossConfig()
    inference: InferenceConfig = InferenceConfig()
    quality: QualityConfig = QualityConfig()
    train: TranslationTrain = TranslationTrain()

    @property
    def noise_seed(self) -> int | None:
        """Seed of the dropout in evaluation; None where it is disabled."""
        return self.inference.seed if self.inference.dropout else None

    @property
    def patch_layers(self) -> int:
        """Strided layers of the patch discriminator."""
        adversarial = self.loss.adversarial
        if adversarial.discriminator == "patch":
            return adversarial.layers or 3
        layers = 1
        while compute_patch_side(layers) < self.data.size:
            layers += 1
        return layers

    @model_validator(mode="after")
    def _check_combination(self) -> TranslationConfig:
        for name, option in TASK_ARGUMENTS.items():
            if name in self.model:
                raise ValueError(f"model.{name} follows from {option}; set that instead")
        channels = self.backbone.channels
        if "encoder" not in MODELS[self.arch].arguments and self.backbone != BackboneConfig(channels=channels):
            raise ValueError(f"arch {self.arch} has no backbone: only backbone.channels has an effect")
        if self.norm == "instance" and not self.inference.use_batch_stats:
            raise ValueError("inference.use_batch_stats has no effect with norm=instance; leave it out")
        if self.model.get("dropout") == 0 and (not self.inference.dropout or self.inference.seed):
            raise ValueError("inference.dropout and inference.seed have no effect with model.dropout=0; leave them out")
        if not self.inference.dropout and self.inference.seed:
            raise ValueError("inference.seed has no effect with inference.dropout=false; leave it out")
        self._check_discriminator()
        return self

    def _check_discriminator(self) -> None:
        """Refuses discriminators with more layers or scales than a training sample has room for."""
        size, adversarial = self.data.size, self.loss.adversarial
        if not adversarial.weight:
            return
        smallest = -(-size >> adversarial.scales - 1)
        if adversarial.discriminator == "pixel":
            if smallest < 2:
                hint = f"lower loss.adversarial.scales, or raise data.size={size}"
                raise ValueError(f"{adversarial.scales} scales leave a single pixel to the last discriminator: {hint}")
            return
        # Two 4x4 convolutions without stride follow the strided ones, and a norm needs more than one cell.
        if smallest >> self.patch_layers < 3:
            hint = f"lower loss.adversarial.layers or scales, or raise data.size={size}"
            raise ValueError(f"{self.patch_layers} strided layers leave nothing of an image of {smallest}: {hint}")


def compute_patch_side(layers: int) -> int:
    """Side in pixels of the receptive field of one logit of a patch discriminator.

    >>> [compute_patch_side(layers) for layers in (1, 3, 5)]
    [16, 70, 286]
    """
    side = 7
    for _ in range(layers):
        side = (side - 1) * 2 + 4
    return side


CONFIG = TranslationConfig
