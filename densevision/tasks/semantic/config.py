"""Options of semantic segmentation. No torch here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import CachedDataConfig, ColorConfig, TaskConfig
from densevision.tasks.semantic.models import MODELS

__all__ = ["CONFIG", "LOSSES", "LossConfig", "SemanticAugment", "SemanticConfig", "SemanticData"]

Byte = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]

LOSSES = ("cross_entropy", "ohem", "focal", "dice", "jaccard", "lovasz", "tversky")
"""Losses that have a weight in `LossConfig`."""
MAX_CLASSES = {"multiclass": 255, "binary": 2, "multilabel": 15}
"""Most classes that the labels of a mode can hold."""


class SemanticData(CachedDataConfig):
    """Location of the images and masks, meaning of the mask values, and size of a training sample."""

    size: Count | tuple[Count, Count] = 256
    """Side, or height and width, of a training crop; prediction runs on whole images."""
    values: tuple[Annotated[int, Field(ge=0, le=65535)], ...] | None = None
    """Pixel value of each class in index masks; 0, 1, 2, ... when not given."""
    unknown: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = ()
    """Other pixel values that mean unknown; 255 always does."""
    colors: tuple[Color, ...] | None = None
    """RGB color of each class, if masks are color images."""
    unknown_colors: tuple[Color, ...] = ()
    """RGB colors that mean unknown."""

    @model_validator(mode="before")
    @classmethod
    def _convert_colors(cls, values: Any) -> Any:
        """YAML has lists of lists where colors are tuples of tuples."""
        if not isinstance(values, dict):
            return values
        lists = {name: values[name] for name in ("colors", "unknown_colors") if values.get(name) is not None}
        return {**values, **{name: tuple(tuple(color) for color in rows) for name, rows in lists.items()}}


class SemanticAugment(ColorConfig):
    """Random augmentation of a training sample: one warp to a crop, then color changes."""

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    """Smallest and largest scale factor."""
    rotate: NonNegative = 0.0
    """Largest rotation in either direction, in degrees."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    flip_vertical: Fraction = 0.0
    """Probability of a vertical flip."""
    aim: Fraction = 0.0
    """Probability of centering the crop near a pixel of a random class of the image; rare classes are as likely."""

    @model_validator(mode="after")
    def _check_range(self) -> SemanticAugment:
        if self.scale[0] > self.scale[1]:
            raise ValueError("augment.scale must be [smallest, largest]")
        return self


class LossConfig(Config):
    """Weights of the losses that are summed; 0 turns a loss off. Unknown pixels are ignored."""

    cross_entropy: NonNegative = 1.0
    """Weight of the cross-entropy; binary for each class with `multilabel`."""
    ohem: NonNegative = 0.0
    """Weight of the cross-entropy over the hardest pixels only."""
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
    """Exponent of the focal loss; larger values reduce the weight of easy pixels."""
    tversky_alpha: NonNegative = 0.3
    """Weight of false positives in the Tversky loss."""
    tversky_beta: NonNegative = 0.7
    """Weight of false negatives in the Tversky loss."""
    auxiliary: NonNegative = 0.0
    """Factor of the same losses at an auxiliary head on the last level but one; 0 builds no such head."""

    @model_validator(mode="after")
    def _check_effect(self) -> LossConfig:
        """Refuses options that no loss with a weight uses."""
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError("all losses have weight 0; give a weight to one of " + ", ".join(LOSSES))
        users = {
            "class_weights": ("cross_entropy", "ohem"),
            "label_smoothing": ("cross_entropy",),
            "ohem_fraction": ("ohem",),
            "focal_gamma": ("focal",),
            "tversky_alpha": ("tversky",),
            "tversky_beta": ("tversky",),
        }
        for name, losses in users.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and not any(getattr(self, loss) for loss in losses):
                raise ValueError(f"loss.{name} has no effect without {' or '.join(losses)}; leave it out")
        return self


class SemanticConfig(TaskConfig):
    """A segmentation network, its data and its training."""

    models: ClassVar = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset({"tile", "overlap", "tta", "probabilities"})

    task: Literal["semantic"] = "semantic"
    """The task that this config is for."""
    arch: str = "fcn8s"
    """The architecture: FCN, DeepLabV3 and LR-ASPP as published, the decoders of smp, or EoMT."""
    mode: Literal["multiclass", "binary", "multilabel"] = "multiclass"
    """One class per pixel; foreground or background, from one logit; or any number of classes per pixel."""
    classes: tuple[str, ...] | None = None
    """Class names; read from the data when not given."""
    data: SemanticData = SemanticData()
    augment: SemanticAugment = SemanticAugment()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _check_classes(self) -> SemanticConfig:
        count = len(self.classes) if self.classes is not None else None
        limit = MAX_CLASSES[self.mode]
        if self.mode == "binary" and count not in (None, 2):
            raise ValueError(f"mode=binary needs two classes, background and foreground, but classes names {count}")
        if count is not None and not 1 <= count <= limit:
            raise ValueError(f"classes names {count}; mode={self.mode} supports 1 to {limit}")
        codes = self.data.colors if self.data.colors is not None else self.data.values
        if codes is not None and count is not None and len(codes) != count:
            raise ValueError(f"data lists {len(codes)} values or colors for {count} classes")
        weights = self.loss.class_weights
        if isinstance(weights, tuple) and count is not None and len(weights) != count:
            raise ValueError(f"loss.class_weights lists {len(weights)} weights for {count} classes")
        return self

    @model_validator(mode="after")
    def _check_options(self) -> SemanticConfig:
        """Refuses options that others make void."""
        data, is_multilabel = self.data, self.mode == "multilabel"
        if data.colors is not None and (data.values is not None or data.unknown):
            raise ValueError("data.values and data.unknown have no effect with data.colors; leave them out")
        if is_multilabel and (data.colors is not None or data.values is not None or data.unknown):
            raise ValueError("data.values, colors and unknown have no effect with mode=multilabel; leave them out")
        if data.unknown_colors and data.colors is None:
            raise ValueError("data.unknown_colors has no effect without data.colors; leave it out")
        if is_multilabel and self.loss.ohem:
            raise ValueError("loss.ohem has no effect with mode=multilabel; leave it out")
        return self


CONFIG = SemanticConfig
