"""Builds modules without memory for their weights and without the time of initializing them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SkipInit"]

_RANDOM_METHODS = {Tensor.normal_, Tensor.uniform_, Tensor.bernoulli_, Tensor.random_}


class SkipInit(TorchFunctionMode):
    """Within the context, `torch.empty` returns tensors on the meta device.

    Layers allocate their weights by `torch.empty`, so these cost no memory and initializing them does nothing. Buffers
    are computed as usual and keep their values.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        tensor = kwargs.get("tensor", args[0] if args else None)
        is_init = func in _RANDOM_METHODS or getattr(func, "__module__", None) == "torch.nn.init"
        if is_init and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor  # torch would import its compiler to do nothing
        return func(*args, **kwargs)
