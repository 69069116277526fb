"""Which operations of a network compute in 8-bit integers: one rule for the graphs of all runtimes.

The layers, convolutions and matrix products with weights, are quantized, but for those that rounding hurts most and
that are cheap:

- the first ones, which read the image;
- depthwise convolutions, whose sums of few products do not average rounding errors out;
- the last ones, whose outputs are scores, offsets of boxes, or colors;
- those that the caller names.

What lies between quantized layers and only combines feature maps (activations, additions, concatenations, resizing,
pooling) is quantized as well, so that maps stay integers. Everything else stays in float: normalization of the image,
all arithmetic after the last layers, which is postprocessing, and what makes boxes and choices inside the network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from densevision.errors import ExportError, UsageError, did_you_mean

__all__ = ["Operation", "Selection", "select_operations"]

_PROGRAM = re.compile(r"^model\.")
_TENSOR = re.compile(r"\.[^.]+$")


@dataclass(frozen=True)
class Operation:
    """One operation of a graph, in the order of computation.

    Attributes:
        name: Its name, unique in the graph.
        kind: "layer" has weights and sums products; "map" combines feature maps; "other" is everything else.
        sources: Names of the operations that compute its inputs: of layers and maps those of the feature maps alone,
            not of shapes and limits; none of operations that choose, such as top-k, whose outputs are no features.
        weights: Layers: name of the tensor of weights, as the module has it: "model.head.0.weight".
        is_depthwise: Layers: each output channel reads one input channel.
    """

    name: str
    kind: Literal["layer", "map", "other"]
    sources: tuple[str, ...]
    weights: str = ""
    is_depthwise: bool = False

    @property
    def module(self) -> str:
        """Name of the layer in the model: "head.0"."""
        return _TENSOR.sub("", _PROGRAM.sub("", self.weights))


@dataclass(frozen=True)
class Selection:
    """What is quantized.

    Attributes:
        quantized: Names of the operations that are quantized.
        layers: Number of layers among them.
        kept: Name in the model of each layer that stays in float -> why.
    """

    quantized: frozenset[str]
    layers: int
    kept: dict[str, str]


def select_operations(operations: Sequence[Operation], keep_float: Collection[str] = ()) -> Selection:
    """Applies the rule.

    Args:
        operations: All operations, in the order of computation.
        keep_float: Names of parts of the model whose layers stay in float, such as "head" or "neck.0".

    Raises:
        UsageError: No layer lies in a part of this name.
        ExportError: There is no layer to quantize.
    """
    layers = {operation.name: operation for operation in operations if operation.kind == "layer"}
    _check_parts(keep_float, [layer.module for layer in layers.values()])
    has_layer_before, has_layer_after = _find_neighbors(operations)
    kept = {}
    for name, layer in layers.items():
        if any(_is_inside(layer.module, part) for part in keep_float):
            kept[name] = "named by the caller"
        elif name not in has_layer_after:
            kept[name] = "its output is the prediction"
        elif name not in has_layer_before:
            kept[name] = "reads the image"
        elif layer.is_depthwise:
            kept[name] = "depthwise"
    chosen = layers.keys() - kept.keys()
    if not chosen:
        hint = "Export it in float." if not keep_float else "Keep fewer parts in float."
        raise ExportError("the network has no layer that could be quantized", value=sorted(keep_float), hint=hint)
    reasons = {layers[name].module: reason for name, reason in kept.items()}
    return Selection(frozenset(chosen | _select_maps(operations, chosen)), len(chosen), reasons)


def _select_maps(operations: Sequence[Operation], layers: Collection[str]) -> set[str]:
    """The maps all of whose inputs come from quantized layers, and that lead to one, through maps alone."""
    computed = set(layers)
    for operation in operations:
        if operation.kind == "map" and operation.sources and computed.issuperset(operation.sources):
            computed.add(operation.name)
    used: set[str] = set()
    for operation in reversed(operations):
        if operation.name in layers or operation.name in used & computed:
            used.update(operation.sources)
    return (computed - set(layers)) & used


def _find_neighbors(operations: Sequence[Operation]) -> tuple[set[str], set[str]]:
    """The operations that depend on a layer, and those on which a layer depends; a layer is no neighbor of itself."""
    after: set[str] = set()
    depends: set[str] = set()
    for operation in operations:
        if any(source in depends for source in operation.sources):
            after.add(operation.name)
        if operation.kind == "layer" or operation.name in after:
            depends.add(operation.name)
    before: set[str] = set()
    for operation in reversed(operations):
        if operation.kind == "layer" or operation.name in before:
            before.update(operation.sources)
    return after, before


def _check_parts(parts: Collection[str], modules: Sequence[str]) -> None:
    for part in parts:
        if not any(_is_inside(module, part) for module in modules):
            beginnings = {".".join(module.split(".")[:depth]) for module in modules for depth in (1, 2)}
            hint = did_you_mean(part, sorted(beginnings))
            raise UsageError("the network has no layer in such a part", field="keep_float", value=part, hint=hint)


def _is_inside(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")
