"""One run of a network on small inputs, with a record of which layer feeds which."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["ACTIVATIONS", "CallTrace", "trace_calls"]

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Sigmoid, nn.Tanh)
"""Elementwise layers whose calls are recorded; exactly these classes."""
LINEAR_FUNCTIONS = (F.conv2d, F.conv_transpose2d, F.linear)

Key = tuple[int, int]
"""A tensor at one moment: its identity, and the count of its changes in place."""


class CallTrace(TorchFunctionMode):
    """Records calls of layers while it is active.

    Attributes:
        inputs: Layer -> what it read, call by call: convolutions, linear layers, batch norms and `ACTIVATIONS`.
        outputs: Layer -> what it returned, call by call.
        readers: Tensor -> number of functions that made a tensor of it.
        is_low_precision: Convolution or linear layer -> whether autocast was active at all of its calls.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.inputs: dict[nn.Module, list[Key]] = defaultdict(list)
        self.outputs: dict[nn.Module, list[Key]] = defaultdict(list)
        self.readers: Counter[Key] = Counter()
        self.is_low_precision: dict[nn.Module, bool] = {}
        self._weight_owners, self._norm_owners = _find_owners(model, "weight"), _find_owners(model, "running_mean")
        self._alive: list[Tensor] = []  # a freed tensor would lend its identity to another one

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [_make_key(tensor) for tensor in _list_tensors((*args, *kwargs.values()))]
        result = func(*args, **kwargs)
        made = list(_list_tensors((result,)))
        if not made:  # a size, a type or a number
            return result
        self._alive += made
        self.readers.update(read)
        if func is F.batch_norm and args[1] is not None and not (args[5] if len(args) > 5 else kwargs.get("training")):
            self._record(self._norm_owners.get(id(args[1])), read[0], made[0])
        elif func in LINEAR_FUNCTIONS and len(args) > 1:
            layer = self._weight_owners.get(id(args[1]))
            self._record(layer, read[0], made[0])
            if layer is not None:
                is_low = torch.is_autocast_enabled(args[0].device.type)
                self.is_low_precision[layer] = is_low and self.is_low_precision.get(layer, True)
        return result

    def hold(self, tensor: Tensor) -> Key:
        """The key of a tensor, which stays valid for the life of this record."""
        self._alive.append(tensor)
        return _make_key(tensor)

    def is_private(self, layer: nn.Module) -> bool:
        """Whether nothing but the calls of this layer read its parameters; ask before these are replaced."""
        calls = len(self.outputs[layer])
        return all(self.readers[_make_key(parameter)] == calls for parameter in layer.parameters(recurse=False))

    def is_only_reader(self, layer: nn.Module, source: nn.Module) -> bool:
        """Whether all that a layer reads is what another one returned, and nothing else reads that."""
        read, made = self.inputs.get(layer, []), self.outputs.get(source, [])
        return bool(made) and sorted(read) == sorted(made) and all(self.readers[key] == 1 for key in made)

    def _record(self, layer: nn.Module | None, read: Key, made: Tensor) -> None:
        if layer is not None:
            self.inputs[layer].append(read)
            self.outputs[layer].append(_make_key(made))


def trace_calls(model: nn.Module, inputs: dict[str, Tensor]) -> CallTrace:
    """Runs a model in evaluation mode without gradients, and records the calls of its layers.

    Args:
        model: The model. Layers that it does not call are missing from the record.
        inputs: Arguments of its forward pass.
    """
    trace = CallTrace(model)
    started: dict[nn.Module, Key] = {}

    def start(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        started[layer] = trace.hold(arguments[0])

    def finish(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        trace.inputs[layer].append(started[layer])
        trace.outputs[layer].append(trace.hold(output))

    handles = []
    for layer in model.modules():
        if type(layer) in ACTIVATIONS:
            handles += [layer.register_forward_pre_hook(start), layer.register_forward_hook(finish)]
    try:
        # Not in inference mode, in which the caller may be: its tensors do not count their changes in place.
        with torch.inference_mode(False), torch.no_grad(), trace:
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _find_owners(model: nn.Module, name: str) -> dict[int, nn.Module]:
    """Identity of a tensor -> the layer that has it under this name; without those that several layers share."""
    owners: dict[int, list[nn.Module]] = defaultdict(list)
    for layer in model.modules():
        tensor = layer._parameters.get(name, layer._buffers.get(name))
        if tensor is not None:
            owners[id(tensor)].append(layer)
    return {key: layers[0] for key, layers in owners.items() if len(layers) == 1}


def _make_key(tensor: Tensor) -> Key:
    # Weights may come from inference mode; outside of it, torch allows no change of them in place.
    return id(tensor), 0 if tensor.is_inference() else tensor._version


def _list_tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _list_tensors(value)
        elif isinstance(value, dict):
            yield from _list_tensors(value.values())
