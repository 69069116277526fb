"""The decoders of segmentation_models_pytorch by name, on the levels of the shared encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError, did_you_mean
from densevision.tasks.semantic.models.fcn import enlarged

STRIDES = (1, 2, 4, 8, 16, 32)
"""Strides of the levels that the decoders expect; dilated levels keep their place."""
DEPTH = len(STRIDES) - 1

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How one decoder is built.

    Attributes:
        name: Its folder among smp's decoders, and its class.
        arguments: From the levels' channels and the deepest stride to the arguments that smp's own model gives.
        width: From all arguments to the channels that the decoder answers.
        kernel: Side of the last convolution.
    """

    name: str
    arguments: Callable[[list[int], int], Arguments]
    width: Callable[[Arguments], int]
    kernel: int = 3


def _stepwise(channels: list[int], stride: int) -> Arguments:
    """Arguments of the U-Net family; `decoder_channels` of fewer steps end at a coarser level, which costs less."""
    return {"encoder_channels": channels, "decoder_channels": (256, 128, 64, 32, 16), "n_blocks": DEPTH}


def _last_step(arguments: Arguments) -> int:
    return arguments["decoder_channels"][-1]


RECIPES: Mapping[str, Recipe] = {
    "unet": Recipe("unet.UnetDecoder", _stepwise, _last_step),
    "unetplusplus": Recipe("unetplusplus.UnetPlusPlusDecoder", _stepwise, _last_step),
    "manet": Recipe("manet.MAnetDecoder", lambda c, s: {**_stepwise(c, s), "pab_channels": 64}, _last_step),
    "linknet": Recipe(
        "linknet.LinknetDecoder",
        lambda c, s: {"encoder_channels": c, "n_blocks": DEPTH, "prefinal_channels": 32},
        lambda a: a["prefinal_channels"],
        kernel=1,
    ),
    "fpn": Recipe(
        "fpn.FPNDecoder",
        lambda c, s: {
            "encoder_channels": c,
            "encoder_depth": DEPTH,
            "segmentation_channels": 128,
            "merge_policy": "add",
        },
        lambda a: a["segmentation_channels"] * (4 if a["merge_policy"] == "cat" else 1),
        kernel=1,
    ),
    "pspnet": Recipe(
        "pspnet.PSPDecoder", lambda c, s: {"encoder_channels": c[:4], "out_channels": 512}, lambda a: a["out_channels"]
    ),
    "deeplabv3": Recipe(
        "deeplabv3.DeepLabV3Decoder",
        lambda c, s: {
            "in_channels": c[-1],
            "out_channels": 256,
            "atrous_rates": (12, 24, 36),
            "aspp_separable": False,
            "aspp_dropout": 0.5,
        },
        lambda a: a["out_channels"],
        kernel=1,
    ),
    "deeplabv3plus": Recipe(
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
        kernel=1,
    ),
    "pan": Recipe(
        "pan.PANDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "decoder_channels": 32},
        lambda a: a["decoder_channels"],
    ),
    "upernet": Recipe(
        "upernet.UPerNetDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "decoder_channels": 256},
        lambda a: a["decoder_channels"],
        kernel=1,
    ),
    "segformer": Recipe(
        "segformer.SegformerDecoder",
        lambda c, s: {"encoder_channels": c, "encoder_depth": DEPTH, "segmentation_channels": 256},
        lambda a: a["segmentation_channels"],
        kernel=1,
    ),
    "dpt": Recipe(
        "dpt.DPTDecoder",
        lambda c, s: {
            "encoder_out_channels": c[-4:],
            "encoder_output_strides": STRIDES[-4:],
            "encoder_has_prefix_tokens": False,
            "readout": "ignore",
            "fusion_channels": 256,
        },
        lambda a: a["fusion_channels"],
    ),
}


class SmpHead(nn.Module):
    """A decoder of smp with a convolution to the scores.

    Args:
        arch: A key of `RECIPES`.
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        outputs: Channels of the scores.
        options: Arguments of the decoder that replace smp's defaults.

    Raises:
        UsageError: The backbone's levels do not suit the decoder, or the decoder has no such option.
    """

    def __init__(
        self, arch: str, channels: Sequence[int], strides: Sequence[int], outputs: int, options: Mapping[str, Any]
    ):
        super().__init__()
        run_config = RECIPES[arch]
        self.arch = arch
        self.without_half = 2 not in strides
        channels = [channels[0], *([0] if self.without_half else []), *channels[1:]]
        if len(channels) != len(STRIDES) or strides[-1] not in (8, 16, 32):
            hint = "Take a backbone whose levels have the strides 2 or 4 to 32."
            raise UsageError(f"{arch} cannot use levels of these strides", value=list(strides), hint=hint)
        if self.without_half and arch in ("unetplusplus", "linknet"):
            hint = "Take a backbone with a level of stride 2, or another arch."
            raise UsageError(f"{arch} needs a level of stride 2", field="arch", value=arch, hint=hint)
        folder, _, name = run_config.name.partition(".")
        kind = getattr(import_module(f"segmentation_models_pytorch.decoders.{folder}.decoder"), name)
        arguments = {**_defaults(kind), **run_config.arguments(channels, strides[-1]), **_checked(arch, kind, options)}
        if "decoder_channels" in options and "n_blocks" in arguments:
            arguments["n_blocks"] = len(arguments["decoder_channels"])
        try:
            self.decoder = kind(**arguments)
        except (TypeError, ValueError, RuntimeError) as failure:
            problem = f"smp cannot build {arch} so: {failure}"
            raise UsageError(problem, field="options", value=dict(options)) from failure
        self.score = nn.Conv2d(run_config.width(arguments), outputs, run_config.kernel, padding=run_config.kernel // 2)
        _initialize(arch, self.decoder, self.score)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels to logits (B, outputs, H, W) of the image, which is level 0."""
        image = levels[0]
        features = list(levels)
        if self.without_half:
            empty = image[:, :0, ::2, ::2]
            features.insert(1, empty)
        if self.arch == "pspnet":
            features = features[:4]
        decoded = self.decoder(features[-4:], [None] * 4) if self.arch == "dpt" else self.decoder(features)
        return enlarged(self.score(decoded), image)


def _defaults(kind: type) -> Arguments:
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _checked(arch: str, kind: type, options: Mapping[str, Any]) -> Arguments:
    """The options, when all of them are arguments of the decoder that do not follow from the encoder."""
    derived = ("encoder", "in_channels", "n_blocks", "output_stride")
    known = [name for name in inspect.signature(kind).parameters if not name.startswith(derived)]
    for name, value in options.items():
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"{arch} has no such option", field=f"options.{name}", value=value, hint=hint)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _initialize(arch: str, decoder: nn.Module, score: nn.Module) -> None:
    """As smp does: DeepLab keeps what its own modules set."""
    from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head

    if not arch.startswith("deeplab"):
        initialize_decoder(decoder)
        initialize_head(score)
