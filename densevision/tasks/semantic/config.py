"""Options of semantic segmentation. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import ColorConfig, DataConfig, TaskConfig

Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]

OUTPUT_STRIDES = {"fcn": 8, "deeplabv3": 8, "deeplabv3plus": 16, "pan": 16}
"""The stride that an architecture is meant for, when the config names none."""
POOLED = ("deeplabv3", "deeplabv3plus", "pan", "pspnet", "upernet")
"""Architectures that normalize over the images of a batch what they pooled to single cells."""


class SemanticData(DataConfig):
    """Where the masks come from, what their pixels mean, and the canvas of a training sample."""

    size: Count | tuple[Count, Count] = 256
    """Side, or height and width, of the crop that a training step sees; whole images are predicted."""
    values: tuple[Annotated[int, Field(ge=0, le=65535)], ...] | None = None
    """Pixel value of each class in index masks; 0, 1, 2, ... when not given."""
    unknown: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = ()
    """Other pixel values that mean unknown; 255 always does."""
    colors: tuple[Color, ...] | None = None
    """RGB color of each class, where masks are images in color."""
    unknown_colors: tuple[Color, ...] = ()
    """RGB colors that mean unknown."""

    @model_validator(mode="before")
    @classmethod
    def _colors_are_tuples(cls, values: Any) -> Any:
        """YAML has lists of lists where colors are tuples of tuples."""
        if not isinstance(values, dict):
            return values
        lists = {name: values[name] for name in ("colors", "unknown_colors") if values.get(name) is not None}
        return {**values, **{name: tuple(tuple(color) for color in rows) for name, rows in lists.items()}}


class SemanticAugment(ColorConfig):
    """What chance does to a training sample: one warp that ends in a crop, then colors."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """Least and largest factor of size."""
    rotate: NonNegative = 0.0
    """Largest rotation, in degrees to either side."""
    flip: Fraction = 0.5
    """Probability of mirroring left and right."""
    flip_vertical: Fraction = 0.0
    """Probability of mirroring top and bottom."""
    aim: Fraction = 0.0
    """Probability of aiming the crop at a class of the image, the rare ones as likely as the others."""

    @model_validator(mode="after")
    def _range_is_one(self) -> SemanticAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale reads [least, largest]")
        return self


class LossConfig(Config):
    """Weights of the losses that are summed; 0 leaves one out. Unknown pixels count in none."""

    cross_entropy: NonNegative = 1.0
    """Weight of the cross-entropy; binary for each class with `multilabel`."""
    ohem: NonNegative = 0.0
    """Weight of the cross-entropy over the hardest pixels alone."""
    focal: NonNegative = 0.0
    """Weight of the focal loss."""
    dice: NonNegative = 0.0
    """Weight of the soft Dice loss."""
    jaccard: NonNegative = 0.0
    """Weight of the soft Jaccard loss."""
    lovasz: NonNegative = 0.0
    """Weight of the Lovasz extension of the Jaccard loss."""
    tversky: NonNegative = 0.0
    """Weight of the Tversky loss."""
    class_weights: Literal["median", "enet"] | tuple[Positive, ...] | None = None
    """Weight of each class in the cross-entropy and OHEM; `median` and `enet` are computed from the training masks."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the target that is spread over all classes in the cross-entropy."""
    ohem_fraction: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Part of the known pixels that `ohem` counts."""
    focal_gamma: NonNegative = 2.0
    """How strongly the focal loss turns away from what is easy."""
    tversky_alpha: NonNegative = 0.3
    """Weight of false positives in the Tversky loss."""
    tversky_beta: NonNegative = 0.7
    """Weight of false negatives in the Tversky loss."""
    auxiliary: NonNegative = 0.0
    """Weight of the same losses at an auxiliary head on the last level but one; 0 builds no such head."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> LossConfig:
        """Refuses options that no chosen loss reads."""
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError("all losses have weight 0; give one of " + ", ".join(LOSSES))
        readers = {
            "class_weights": ("cross_entropy", "ohem"),
            "label_smoothing": ("cross_entropy",),
            "ohem_fraction": ("ohem",),
            "focal_gamma": ("focal",),
            "tversky_alpha": ("tversky",),
            "tversky_beta": ("tversky",),
        }
        for name, losses in readers.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and not any(getattr(self, loss) for loss in losses):
                raise ValueError(f"loss.{name} has no effect without {' or '.join(losses)}; leave it out")
        return self


LOSSES = ("cross_entropy", "ohem", "focal", "dice", "jaccard", "lovasz", "tversky")


class SemanticConfig(TaskConfig):
    """A network that names the class of every pixel, its data and its training."""

    task: Literal["semantic"] = "semantic"
    """The task that this config is for."""
    arch: Literal[
        "fcn32s",
        "fcn16s",
        "fcn8s",
        "fcn",
        "unet",
        "unetplusplus",
        "fpn",
        "pspnet",
        "deeplabv3",
        "deeplabv3plus",
        "pan",
        "linknet",
        "manet",
        "upernet",
        "segformer",
        "dpt",
    ] = "fcn8s"
    """`fcn32s`, `fcn16s`, `fcn8s`: as published; `fcn`: dilated, as in torchvision; the others: decoders of smp."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Extra arguments of the decoder, e.g. `{decoder_channels: [64, 32, 16]}`."""
    mode: Literal["multiclass", "binary", "multilabel"] = "multiclass"
    """One of several classes; foreground or not, by one logit; or any number of classes for each pixel."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    data: SemanticData = SemanticData()
    augment: SemanticAugment = SemanticAugment()
    loss: LossConfig = LossConfig()

    @model_validator(mode="before")
    @classmethod
    def _architecture_picks_the_stride(cls, values: Any) -> Any:
        backbone = values.get("backbone", {}) if isinstance(values, dict) else None
        stride = OUTPUT_STRIDES.get(values.get("arch", "")) if isinstance(backbone, dict) else None
        if stride is None or "output_stride" in backbone:
            return values
        return {**values, "backbone": {**backbone, "output_stride": stride}}

    @model_validator(mode="after")
    def _parts_fit_together(self) -> SemanticConfig:
        count = len(self.classes) if self.classes is not None else None
        most = 15 if self.mode == "multilabel" else 255
        if count is not None and not 1 <= count <= most:
            raise ValueError(f"{count} classes; {self.mode} knows 1 to {most}")
        if self.mode == "binary" and count not in (None, 2):
            raise ValueError(f"binary knows two classes, background and foreground, but classes names {count}")
        codes = self.data.colors if self.data.colors is not None else self.data.values
        if codes is not None and count is not None and len(codes) != count:
            raise ValueError(f"data names {len(codes)} values or colors for {count} classes")
        if self.data.colors is not None and (self.data.values is not None or self.data.unknown):
            raise ValueError("data.values and data.unknown have no effect with data.colors; leave them out")
        if self.mode == "multilabel" and (codes is not None or self.data.unknown):
            raise ValueError("data.values, colors and unknown have no effect with mode=multilabel; leave them out")
        if self.data.unknown_colors and self.data.colors is None:
            raise ValueError("data.unknown_colors has no effect without data.colors; leave it out")
        if self.train.batch == 1 and self.arch in POOLED:
            raise ValueError(f"{self.arch} normalizes over the batch: train.batch must be at least 2")
        if self.mode == "multilabel" and self.loss.ohem:
            raise ValueError("loss.ohem has no effect with mode=multilabel; leave it out")
        weights = self.loss.class_weights
        if isinstance(weights, tuple) and count is not None and len(weights) != count:
            raise ValueError(f"loss.class_weights names {len(weights)} weights for {count} classes")
        return self


CONFIG = SemanticConfig
