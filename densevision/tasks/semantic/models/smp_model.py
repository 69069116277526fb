"""A whole model of segmentation_models_pytorch, whose own weights fit without renaming."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from densevision.errors import UsageError, did_you_mean
from densevision.limits import check_decoder_options
from densevision.nn.backbone import expand_per_channel
from densevision.nn.backbone_info import check_backbone_config
from densevision.nn.model import Tensors
from densevision.nn.normalization import normalize_image
from densevision.run_config import BackboneConfig
from densevision.tasks.semantic.losses import Mode
from densevision.tasks.semantic.models.segmentation_model import (
    CanvasSize,
    Criterion,
    SegmentationModel,
    make_input_spec,
)

__all__ = ["SmpModel"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM_PREFIX = "tu-"
"""Begins the names of timm encoders in smp."""
_OWN_ARGUMENTS = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs")
"""Arguments of smp's classes that are not options here."""


class SmpModel(SegmentationModel):
    """Encoder, decoder and head of one of smp's model classes, under smp's names.

    Use it for weights that were trained with smp; to train a new model, the architectures that are named after their
    decoders take any timm encoder and resize logits without shifting them.

    Args:
        architecture: smp's name of the class, such as "unet" or "upernet".
        num_classes: Classes, the background included.
        encoder: smp's name of the encoder, such as "resnet34", "mit_b0" or "tu-convnext_tiny".
        in_channels: Channels of the image.
        decoder_options: Arguments of smp's class, such as `{"decoder_channels": 512}`.
        input_size: Size that images are stretched to; None leaves them as they are.
        mode: See `SegmentationModel`; with "binary" smp's `classes` is 1.
        criterion: Losses; cross-entropy when not given.
        encoder_options: Fields of `densevision.run_config.BackboneConfig`: `mean` and `std` (ImageNet's by default),
            `pretrained` (True loads smp's ImageNet weights), and `options` of timm encoders.

    Raises:
        UsageError: There is no such architecture, encoder or option, or smp cannot build the model.
    """

    may_have_image_size = True
    has_timm_encoder = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str = "unet",
        num_classes: int = 21,
        encoder: str = "resnet34",
        in_channels: int = 3,
        decoder_options: Mapping[str, Any] | None = None,
        input_size: CanvasSize | None = None,
        mode: Mode = "multiclass",
        criterion: Criterion | None = None,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        config = BackboneConfig.from_dict({"name": encoder, "channels": in_channels, **(encoder_options or {})})
        _check_encoder(config)
        options = _check_options(architecture, decoder_options or {})
        spec = make_input_spec(in_channels, input_size, multiple_of=32, interpolation="linear")
        super().__init__(spec, num_classes, mode, criterion)
        self.min_train_batch = 2
        network = _build(architecture, config, self.num_outputs, {**options, **config.options})
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.segmentation_head = network.get_submodule("segmentation_head")
        self.has_prefix_tokens = architecture == "dpt"
        self.register_buffer("mean", expand_per_channel("mean", config.mean, IMAGENET_MEAN, in_channels), False)
        self.register_buffer("std", expand_per_channel("std", config.std, IMAGENET_STD, in_channels), False)

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The convolution of smp's head."""
        return ("segmentation_head.0",)

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the class of every pixel: (B, C, H, W) RGB in [0, 1] to "logits" (B, num_classes, H, W)."""
        features = self.encoder(normalize_image(image, self.mean, self.std))
        decoded = self.decoder(*features) if self.has_prefix_tokens else self.decoder(features)
        return self._finish({"logits": self.segmentation_head(decoded)}, image)


def _check_encoder(config: BackboneConfig) -> None:
    """Refuses encoders that smp does not have by itself, and options that it does not take.

    smp passes names with the prefix "tu-" on to timm, which would open files and addresses by some of them.
    """
    from segmentation_models_pytorch.encoders import encoders

    name = config.name
    if name.startswith(TIMM_PREFIX):
        check_backbone_config(config.replace(name=name.removeprefix(TIMM_PREFIX)))
    elif name not in encoders:
        hint = did_you_mean(name, encoders)
        raise UsageError("smp has no such encoder", field="backbone.name", value=name, hint=hint)
    elif config.options:
        raise UsageError("only timm encoders have options", field="backbone.options", value=config.options)
    is_file = isinstance(config.pretrained, str)
    for field, is_set in (("pretrained", is_file), ("freeze", config.freeze), ("output_stride", config.output_stride)):
        if is_set:
            name, value = f"backbone.{field}", getattr(config, field)
            raise UsageError("is not supported by arch=smp", field=name, value=value, hint="Leave it out.")


def _check_options(architecture: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if all are arguments of smp's class."""
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING as classes

    if architecture not in classes:
        hint = did_you_mean(architecture, classes)
        raise UsageError("no such architecture of smp", field="model.architecture", value=architecture, hint=hint)
    check_decoder_options(options, "model.decoder_options")
    available = [name for name in inspect.signature(classes[architecture]).parameters if name not in _OWN_ARGUMENTS]
    for name, value in options.items():
        if name not in available:
            field, hint = f"model.decoder_options.{name}", did_you_mean(name, available)
            raise UsageError(f"smp's {architecture} has no such option", field=field, value=value, hint=hint)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _build(architecture: str, config: BackboneConfig, classes: int, options: Mapping[str, Any]) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    weights = None
    if config.pretrained:
        weights = True if config.name.startswith(TIMM_PREFIX) else "imagenet"
    try:
        return smp.create_model(
            architecture, config.name, encoder_weights=weights, in_channels=config.channels, classes=classes, **options
        )
    except (TypeError, ValueError, RuntimeError, KeyError, AssertionError) as error:
        problem = f"segmentation_models_pytorch cannot build {architecture} on {config.name}: {error}"
        raise UsageError(problem, field="model.decoder_options", value=dict(options)) from error
