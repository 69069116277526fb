"""Devices: CUDA, MPS, and what the processor can compute."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_devices"]

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
CPU_INFO = Path("/proc/cpuinfo")
CPU_FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_tile": "AMX", "bf16": "bfloat16"}
"""Flags of /proc/cpuinfo (x86 and Arm) -> names."""


def check_devices() -> Iterator[SystemFinding]:
    """Computes a small product on every device that torch sees."""
    import torch

    yield SystemFinding("cpu", "ok", f"{_describe_cpu()}, torch uses {torch.backends.cpu.get_cpu_capability()}")
    yield from _check_cuda()
    if torch.backends.mps.is_available():
        yield _compute_on("mps", "Apple GPU")


def _check_cuda() -> Iterator[SystemFinding]:
    import torch

    if not torch.cuda.is_available():
        if has_nvidia_driver() and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
            build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
            message = f"an NVIDIA driver is loaded, but torch {torch.__version__} ({build}) finds no GPU"
            hint = "Install the torch build for the driver's CUDA version: https://pytorch.org/get-started/locally"
            yield SystemFinding("cuda", "warning", message, hint)
        else:
            yield SystemFinding("cuda", "ok", "no NVIDIA GPU: training and prediction run on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        text = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}"
        yield _compute_on(f"cuda:{index}", f"{text}, CUDA {torch.version.cuda}")


def _compute_on(device: str, text: str) -> SystemFinding:
    import torch

    try:
        product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
        is_right = bool((product == 8).all())
    except RuntimeError as error:
        hint = "Install a torch build that supports this device, or use --device cpu."
        return SystemFinding(device, "error", f"{text}: {str(error).splitlines()[0]}", hint)
    if not is_right:
        return SystemFinding(device, "error", f"{text}: a matrix product is wrong", "Check driver and hardware.")
    return SystemFinding(device, "ok", text)


def has_nvidia_driver() -> bool:
    """Whether the driver of an NVIDIA GPU is loaded (Linux)."""
    return NVIDIA_DRIVER.exists()


def _describe_cpu() -> str:
    name = platform.processor() or platform.machine()
    if not CPU_INFO.exists():
        return name
    fields = [line.partition(":") for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()]
    values = {key.strip(): value.strip() for key, _, value in reversed(fields)}
    flags = set((values.get("flags") or values.get("Features") or "").split())
    features = list(dict.fromkeys(text for flag, text in CPU_FEATURES.items() if flag in flags))
    return ", ".join([values.get("model name", name), *features])
