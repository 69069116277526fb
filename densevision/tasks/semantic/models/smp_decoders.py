"""The decoders of segmentation_models_pytorch by name, on the levels of any timm encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError, did_you_mean
from densevision.limits import check_decoder_options
from densevision.nn.backbone import Backbone
from densevision.nn.model import Tensors
from densevision.tasks.semantic.losses import Mode
from densevision.tasks.semantic.models.fcn import FCNHead
from densevision.tasks.semantic.models.segmentation_model import Criterion, SegmentationModel, make_input_spec

__all__ = ["DECODERS", "SmpDecoderModel"]

STRIDES = (1, 2, 4, 8, 16, 32)
"""Strides of the levels that the decoders expect; dilated levels keep their place."""
DEPTH = len(STRIDES) - 1

Arguments = dict[str, Any]


@dataclass(frozen=True)
class DecoderSpec:
    """How one decoder is built.

    Attributes:
        path: Its folder among smp's decoders, and its class.
        arguments: From the levels' channels and the deepest stride to the arguments that smp's own model passes.
        width: From all arguments to the channels of the decoder's output.
        kernel_size: Of the classifier.
        output_stride: Stride of the deepest level unless the encoder options name one; None keeps the encoder's.
        min_cells: Smallest side of the canvas, in cells of the deepest level.
        pools_globally: It has batch norm on features pooled to single cells, which needs two images in training.
        needs_stride_2: It cannot do without a level of stride 2.
        initializes_itself: smp leaves the initialization to the decoder's own modules.
        deepest: Stride of the deepest level that it reads; the encoder ends there.
        is_dpt: It reads the last four levels, and tokens that only plain ViTs have.
    """

    path: str
    arguments: Callable[[list[int], int], Arguments]
    width: Callable[[Arguments], int]
    kernel_size: int = 3
    output_stride: int | None = None
    min_cells: int = 1
    pools_globally: bool = False
    needs_stride_2: bool = False
    initializes_itself: bool = False
    deepest: int = 32
    is_dpt: bool = False


def _unet_arguments(channels: list[int], stride: int) -> Arguments:
    """Arguments of the U-Net family; `decoder_channels` of fewer steps end at a coarser level, which costs less."""
    return {"encoder_channels": channels, "decoder_channels": (256, 128, 64, 32, 16), "n_blocks": DEPTH}


def _last_channels(arguments: Arguments) -> int:
    return arguments["decoder_channels"][-1]


DECODERS: Mapping[str, DecoderSpec] = {
    "unet": DecoderSpec("unet.UnetDecoder", _unet_arguments, _last_channels),
    "unetplusplus": DecoderSpec(
        "unetplusplus.UnetPlusPlusDecoder", _unet_arguments, _last_channels, needs_stride_2=True
    ),
    "manet": DecoderSpec(
        "manet.MAnetDecoder", lambda c, s: {**_unet_arguments(c, s), "pab_channels": 64}, _last_channels
    ),
    "linknet": DecoderSpec(
        "linknet.LinknetDecoder",
        lambda c, s: {"encoder_channels": c, "n_blocks": DEPTH, "prefinal_channels": 32},
        lambda a: a["prefinal_channels"],
        kernel_size=1,
        needs_stride_2=True,
    ),
    "fpn": DecoderSpec(
        "fpn.FPNDecoder",
        lambda c, s: {
            "encoder_channels": c,
            "encoder_depth": DEPTH,
            "segmentation_channels": 128,
            "merge_policy": "add",
        },
        lambda a: a["segmentation_channels"] * (4 if a["merge_policy"] == "cat" else 1),
        kernel_size=1,
    ),
    "pspnet": DecoderSpec(
        "pspnet.PSPDecoder",
        lambda c, s: {"encoder_channels": c, "out_channels": 512},
        lambda a: a["out_channels"],
        pools_globally=True,
        deepest=8,
    ),
    "deeplabv3": DecoderSpec(
        "deeplabv3.DeepLabV3Decoder",
        lambda c, s: {
            "in_channels": c[-1],
            "out_channels": 256,
            "atrous_rates": (12, 24, 36),
            "aspp_separable": False,
            "aspp_dropout": 0.5,
        },
        lambda a: a["out_channels"],
        kernel_size=1,
        output_stride=8,
        pools_globally=True,
        initializes_itself=True,
    ),
    "deeplabv3plus": DecoderSpec(
        "deeplabv3.DeepLabV3PlusDecoder",
        lambda c, s: {
            "encoder_channels": c,
            "encoder_depth": DEPTH,
            "out_channels": 256,
            "atrous_rates": (12, 24, 36),
            "output_stride": s,
            "aspp_separable": True,
            "aspp_dropout": 0.5,
        },
        lambda a: a["out_channels"],
        kernel_size=1,
        output_stride=16,
        pools_globally=True,
        initializes_itself=True,
    ),
    "pan": DecoderSpec(
        "pan.PANDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "decoder_channels": 32},
        lambda a: a["decoder_channels"],
        output_stride=16,
        min_cells=8,  # it halves its deepest level three times
        pools_globally=True,
    ),
    "upernet": DecoderSpec(
        "upernet.UPerNetDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "decoder_channels": 256},
        lambda a: a["decoder_channels"],
        kernel_size=1,
        pools_globally=True,
    ),
    "segformer": DecoderSpec(
        "segformer.SegformerDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "segmentation_channels": 256},
        lambda a: a["segmentation_channels"],
        kernel_size=1,
    ),
    "dpt": DecoderSpec(
        "dpt.DPTDecoder",
        lambda c, s: {
            "encoder_out_channels": c[-4:],
            "encoder_output_strides": STRIDES[-4:],
            "encoder_has_prefix_tokens": False,
            "readout": "ignore",
            "fusion_channels": 256,
        },
        lambda a: a["fusion_channels"],
        is_dpt=True,
    ),
}


class SmpDecoderModel(SegmentationModel):
    """A timm encoder, a decoder of segmentation_models_pytorch, and a classifier.

    Args:
        decoder: A name of `DECODERS`.
        num_classes: Classes, the background included.
        encoder: timm model.
        in_channels: Channels of the image.
        decoder_options: Arguments of smp's decoder class that replace its defaults, e.g.
            `{"decoder_channels": [128, 64, 32, 24]}`.
        auxiliary: Add a fully convolutional head on the last level but one, which helps training.
        mode: See `SegmentationModel`.
        criterion: Losses; cross-entropy when not given.
        encoder_options: Keyword arguments of `densevision.nn.backbone.Backbone`; `output_stride` is 8 for deeplabv3 and
            16 for deeplabv3plus and pan by default.

    Raises:
        UsageError: The encoder's levels do not fit the decoder, or the decoder has no such option.
    """

    may_have_image_size = True

    def __init__(
        self,
        decoder: str = "unet",
        num_classes: int = 21,
        encoder: str = "mobilenetv2_100",
        in_channels: int = 3,
        decoder_options: Mapping[str, Any] | None = None,
        auxiliary: bool = False,
        mode: Mode = "multiclass",
        criterion: Criterion | None = None,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        if decoder not in DECODERS:
            raise UsageError("no such decoder", field="decoder", value=decoder, hint=did_you_mean(decoder, DECODERS))
        spec = DECODERS[decoder]
        encoder_options = dict(encoder_options or {})
        if encoder_options.get("output_stride") is None:
            encoder_options["output_stride"] = spec.output_stride
        backbone = Backbone(encoder, in_channels, deepest=spec.deepest, **encoder_options)
        stride = backbone.strides[-1]
        super().__init__(make_input_spec(in_channels, None, 32, spec.min_cells * stride), num_classes, mode, criterion)
        self.min_train_batch = 2 if spec.pools_globally else 1
        self.is_dpt = spec.is_dpt
        self.lacks_stride_2 = 2 not in backbone.strides
        channels = _check_levels(decoder, spec, backbone)
        self.encoder = backbone
        self.decoder, width = _build_decoder(decoder, spec, channels, stride, decoder_options or {})
        kernel_size = spec.kernel_size
        self.classifier = nn.Conv2d(width, self.num_outputs, kernel_size, padding=kernel_size // 2)
        self.auxiliary = FCNHead(channels[-2], self.num_outputs) if auxiliary else None
        if not spec.initializes_itself:
            _initialize(self.decoder, self.classifier)

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The classifiers of both heads."""
        return "classifier", "auxiliary.4"

    def forward(self, image: Tensor) -> Tensors:
        """Predicts the class of every pixel.

        Args:
            image: (B, C, H, W) float RGB in [0, 1].

        Returns:
            "logits" (B, num_classes, H, W), and with `auxiliary` "auxiliary", same shape.
        """
        levels = self.encoder(image)
        scores = {"logits": self.classifier(self._decode(levels))}
        if self.auxiliary is not None:
            scores["auxiliary"] = self.auxiliary(levels[-2])
        return self._finish(scores, image)

    def _decode(self, levels: Sequence[Tensor]) -> Tensor:
        features = list(levels)
        if self.lacks_stride_2:
            features.insert(1, features[0][:, :0, ::2, ::2])
        return self.decoder(features[-4:], [None] * 4) if self.is_dpt else self.decoder(features)


def _check_levels(decoder: str, spec: DecoderSpec, encoder: Backbone) -> list[int]:
    """Channels of the levels that smp's decoders expect; 0 where the encoder lacks stride 2."""
    strides, count = encoder.strides, STRIDES.index(spec.deepest) + 1
    lacks_stride_2 = 2 not in strides
    channels = [encoder.channels[0], *([0] if lacks_stride_2 else []), *encoder.channels[1:]]
    if len(channels) != count or strides[-1] not in (8, 16, 32):
        hint = "Take a backbone whose levels have the strides 2 or 4 to 32."
        problem = f"{decoder} cannot use levels of the strides {', '.join(map(str, strides))}"
        raise UsageError(problem, field="backbone.name", hint=hint)
    if lacks_stride_2 and spec.needs_stride_2:
        hint = "Take a backbone with a level of stride 2, or another architecture."
        raise UsageError(f"{decoder} needs a level of stride 2", field="backbone.name", hint=hint)
    return channels


def _build_decoder(
    decoder: str, spec: DecoderSpec, channels: list[int], stride: int, options: Mapping[str, Any]
) -> tuple[nn.Module, int]:
    """The decoder, and the channels of its output."""
    folder, _, name = spec.path.partition(".")
    decoder_class = getattr(import_module(f"segmentation_models_pytorch.decoders.{folder}.decoder"), name)
    options = _check_options(decoder, decoder_class, options)
    arguments = {**_defaults(decoder_class), **spec.arguments(channels, stride), **options}
    if "decoder_channels" in options and "n_blocks" in arguments:
        arguments["n_blocks"] = len(arguments["decoder_channels"])
    try:
        return decoder_class(**arguments), spec.width(arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"segmentation_models_pytorch cannot build {decoder}: {error}"
        raise UsageError(problem, field="model.decoder_options", value=dict(options)) from error


def _defaults(decoder_class: type) -> Arguments:
    parameters = inspect.signature(decoder_class).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _check_options(decoder: str, decoder_class: type, options: Mapping[str, Any]) -> Arguments:
    """The options, if all are arguments of the decoder that do not follow from the encoder."""
    check_decoder_options(options, "model.decoder_options")
    derived = ("encoder", "in_channels", "n_blocks", "output_stride")
    available = [name for name in inspect.signature(decoder_class).parameters if not name.startswith(derived)]
    for name, value in options.items():
        if name not in available:
            hint = did_you_mean(name, available)
            field = f"model.decoder_options.{name}"
            raise UsageError(f"{decoder} has no such option", field=field, value=value, hint=hint)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _initialize(decoder: nn.Module, classifier: nn.Module) -> None:
    from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head

    initialize_decoder(decoder)
    initialize_head(classifier)
