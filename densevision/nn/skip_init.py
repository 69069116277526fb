"""Builds modules without memory for their weights and without the time of initializing them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["SkipInit"]


class SkipInit(TorchFunctionMode):
    """Within the context, `torch.empty` returns tensors on the meta device.

    Layers allocate their weights by `torch.empty`, so these cost no memory and initializing them does nothing. Buffers
    are computed as usual and keep their values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
