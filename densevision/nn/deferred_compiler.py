"""Imports torchvision and timm without torch's compiler, which takes longer to import than both.

torchvision imports it for one question, timm for one decorator. Both get stand-ins that ask the compiler when they are
called, which few programs do.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

__all__ = ["import_network_libraries"]

_NAME = "torch._dynamo.utils"


def import_network_libraries() -> None:
    """Imports torchvision's operators and timm; nothing is replaced where the compiler is there already."""
    if "torch._dynamo" in sys.modules:
        return
    stand_in = ModuleType(_NAME)
    stand_in.__dict__.update(is_compile_supported=_is_compile_supported, __getattr__=_get_attribute)
    disable = torch.compiler.disable
    sys.modules[_NAME] = stand_in
    torch.compiler.disable = _disable_later  # type: ignore[assignment]
    try:
        importlib.import_module("torchvision.ops")
        importlib.import_module("timm")
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_NAME) is stand_in:
            del sys.modules[_NAME]


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _get_attribute(name: str) -> Any:
    """Another release asks for something else: then the compiler is imported after all."""
    if name.startswith("__"):  # the import system asks for such names
        raise AttributeError(name)
    sys.modules.pop(_NAME, None)
    return getattr(importlib.import_module(_NAME), name)


def _disable_later(function: Any = None, recursive: bool = True, **options: Any) -> Any:
    """`torch.compiler.disable`, which takes effect at the first call after the compiler was imported."""
    if function is None:
        return functools.partial(_disable_later, recursive=recursive, **options)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        chosen: Callable[..., Any] = function
        if "torch._dynamo" in sys.modules:
            chosen = torch.compiler.disable(function, recursive, **options)
        return chosen(*arguments, **keywords)

    return call
