"""The inference form of a loaded network, made when it is first needed."""

from __future__ import annotations

import torch
from torch import nn

from densevision.inference.allocator import keep_freed_memory
from densevision.inference.device import DTYPES
from densevision.inference.sharing import ForkSafeLock
from densevision.nn.inference_form import make_inference_form
from densevision.nn.model import Model
from densevision.sample import make_example_inputs

__all__ = ["InferenceFormCache"]


class InferenceFormCache:
    """Holds the form for the device and the precision that were used last. Copies and pickles are empty."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._form: tuple[torch.device, str, nn.Module] | None = None

    def get(self, model: Model, device: torch.device, precision: str) -> nn.Module:
        """The form of a model, which must be the same at every call; threads may share it."""
        form = self._form
        if form is None or form[:2] != (device, precision):
            with self._lock:
                form = self._form
                if form is None or form[:2] != (device, precision):
                    self._form = None  # free it first
                    self._form = form = device, precision, self._make(model, device, precision)
        return form[2]

    def __reduce__(self) -> tuple[type[InferenceFormCache], tuple[()]]:
        return InferenceFormCache, ()

    @staticmethod
    def _make(model: Model, device: torch.device, precision: str) -> nn.Module:
        if device.type == "cpu":
            keep_freed_memory()
        inputs = make_example_inputs(model.input_spec, batch=1)
        return make_inference_form(model, inputs, device, DTYPES[precision], model.allows_packing)
