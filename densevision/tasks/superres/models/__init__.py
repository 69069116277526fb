"""Super-resolution architectures by name. No torch here."""

from __future__ import annotations

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_PACKAGE = "densevision.tasks.superres.models"

MODELS: dict[str, Architecture] = {
    "edsr_baseline": Architecture(f"{_PACKAGE}.edsr:EDSR", "EDSR baseline: 16 residual blocks of 64 channels"),
    "edsr_large": Architecture(
        f"{_PACKAGE}.edsr:EDSR",
        "EDSR: 32 residual blocks of 256 channels",
        {"width": 256, "depth": 32, "residual_scale": 0.1},
    ),
    "rrdb": Architecture(f"{_PACKAGE}.rrdb:RRDB", "residual-in-residual dense blocks of ESRGAN and Real-ESRGAN"),
    "srvgg": Architecture(f"{_PACKAGE}.srvgg:SRVGG", "the compact network of Real-ESRGAN, fast enough for videos"),
    "srcnn": Architecture(f"{_PACKAGE}.srcnn:SRCNN", "SRCNN: three convolutions on the enlarged image"),
    "fsrcnn": Architecture(f"{_PACKAGE}.fsrcnn:FSRCNN", "FSRCNN: small features, one transposed convolution"),
    "espcn": Architecture(f"{_PACKAGE}.espcn:ESPCN", "ESPCN: three convolutions and a pixel shuffle"),
    "vdsr": Architecture(f"{_PACKAGE}.vdsr:VDSR", "VDSR: twenty convolutions that add detail, for any scale"),
    "nafnet": Architecture(f"{_PACKAGE}.nafnet:NAFNet", "NAFNet: restores images at scale 1", defaults={"scale": 1}),
    "superres_unet": Architecture(
        f"{_PACKAGE}.unet:SuperresUNet", "a U-Net on any timm backbone", {"encoder": "mobilenetv2_100"}
    ),
    **{
        kernel: Architecture(
            f"{_PACKAGE}.interpolation:Interpolation", f"{kernel} interpolation, without weights", {"kernel": kernel}
        )
        for kernel in ("nearest", "bilinear", "bicubic")
    },
    "spandrel": Architecture(
        f"{_PACKAGE}.spandrel_model:Spandrel", "any architecture of the spandrel library (extra `community`)"
    ),
}
"""Name -> architecture; `config.arch` picks one."""
