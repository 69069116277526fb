"""Devices and numeric precision."""

from __future__ import annotations

import contextlib

import torch

from densevision.errors import UsageError

__all__ = ["autocast", "is_bfloat16_native", "pick_device", "pick_precision"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device of a name such as "cpu", "mps", "cuda" or "cuda:1"; "auto" is the GPU where there is one.

    Raises:
        UsageError: The device does not exist on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    is_available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_available.get(device.type, False):
        hint = "Use --device cpu; for training, --set train.device=cpu."
        raise UsageError("this device is not available", field="device", value=name, hint=hint)
    return device


def is_bfloat16_native(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # missing in the oldest supported torch
    if get_capabilities is None:
        return torch.cpu._is_avx512_bf16_supported()
    capabilities = get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def pick_precision(name: str, device: torch.device) -> str:
    """Resolves "auto" to bfloat16 where the device has it natively, and to float32 elsewhere."""
    if name == "auto":
        return "bfloat16" if is_bfloat16_native(device) else "float32"
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Returns the context in which a network computes in this precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])
