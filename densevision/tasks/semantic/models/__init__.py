"""The architectures of semantic segmentation by name. No torch here."""

from __future__ import annotations

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_PACKAGE = "densevision.tasks.semantic.models"


def _classic_fcn(stride: int) -> Architecture:
    arguments = {"finest_stride": stride, "encoder": "mobilenetv2_100"}
    return Architecture(f"{_PACKAGE}.fcn:ClassicFCN", f"FCN-{stride}s on any timm encoder", arguments)


def _smp_decoder(decoder: str, title: str) -> Architecture:
    arguments = {"decoder": decoder, "encoder": "mobilenetv2_100"}
    return Architecture(f"{_PACKAGE}.smp_decoders:SmpDecoderModel", f"{title} on any timm encoder", arguments)


def _eomt(size: str, num_blocks: int) -> Architecture:
    arguments = {"encoder": f"vit_{size}_patch14_reg4_dinov2", "num_blocks": num_blocks}
    return Architecture(
        f"{_PACKAGE}.eomt:SemanticEomt", f"EoMT, mask queries in a plain ViT-{size}", arguments, {"data.size": 512}
    )


MODELS: dict[str, Architecture] = {
    "fcn": Architecture(f"{_PACKAGE}.fcn:FCN", "dilated FCN as torchvision builds it", {"encoder": "resnet50"}),
    "fcn32s": _classic_fcn(32),
    "fcn16s": _classic_fcn(16),
    "fcn8s": _classic_fcn(8),
    "deeplabv3_torchvision": Architecture(
        f"{_PACKAGE}.torchvision_heads:DeepLabV3", "DeepLabV3 as torchvision builds it", {"encoder": "resnet50"}
    ),
    "lraspp": Architecture(
        f"{_PACKAGE}.torchvision_heads:LRASPP",
        "Lite R-ASPP as torchvision builds it",
        {"encoder": "mobilenetv3_large_100"},
    ),
    "unet": _smp_decoder("unet", "U-Net"),
    "unetplusplus": _smp_decoder("unetplusplus", "U-Net++"),
    "manet": _smp_decoder("manet", "MA-Net"),
    "linknet": _smp_decoder("linknet", "LinkNet"),
    "fpn": _smp_decoder("fpn", "FPN"),
    "pspnet": _smp_decoder("pspnet", "PSPNet"),
    "deeplabv3": _smp_decoder("deeplabv3", "DeepLabV3"),
    "deeplabv3plus": _smp_decoder("deeplabv3plus", "DeepLabV3+"),
    "pan": _smp_decoder("pan", "PAN"),
    "upernet": _smp_decoder("upernet", "UPerNet"),
    "segformer": _smp_decoder("segformer", "SegFormer's decoder"),
    "dpt": _smp_decoder("dpt", "DPT's decoder"),
    "smp": Architecture(
        f"{_PACKAGE}.smp_model:SmpModel",
        "a whole model of segmentation_models_pytorch, for its own weights",
        {"architecture": "unet", "encoder": "resnet34"},
    ),
    "eomt_small": _eomt("small", 3),
    "eomt_base": _eomt("base", 3),
    "eomt_large": _eomt("large", 4),
    "eomt_giant": _eomt("giant", 5),
}
"""Name -> how it is built."""
