"""Where to compute, and in which precision."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from densevision.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> torch.device:
    """The device of a name; `auto` is the GPU where there is one.

    Raises:
        UsageError: The device that was asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there[name]:
        hint = "Use --device cpu; to train, --set train.device=cpu."
        raise UsageError("this device is not here", field="device", value=name, hint=hint)
    return torch.device(name)


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_multiplies_bfloat16()
    return False


def pick_precision(name: str, device: torch.device) -> str:
    """`auto` resolved: bfloat16 where it is native, else float32."""
    if name == "auto":
        return "bfloat16" if native_bfloat16(device) else "float32"
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """The context in which a network computes in this precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def _cpu_multiplies_bfloat16() -> bool:
    probe = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest torch that is supported
    if probe is None:
        return torch.cpu._is_avx512_bf16_supported()
    capabilities = probe()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
