"""The form of a network that predicts: the same function with less work, on one device and in one precision.

- Batch norms are folded into the convolutions before them.
- Modules that have a simpler form for inference say so by `InferenceRewrite`.
- Weights of convolutions and linear layers are converted once, where autocast would convert them at every call.
- On the CPU, convolutions get weights in oneDNN's layout, and compute the activation behind them (`packed_conv`).

Which layer feeds which is read from one run on small inputs, so that networks of any structure work. A layer that this
run does not reach stays as it is. Tensors that do not change are shared with the network.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from densevision.nn.call_trace import ACTIVATIONS, CallTrace, trace_calls
from densevision.nn.frozen_batch_norm import FrozenBatchNorm2d
from densevision.nn.packed_conv import PackedConv2d, can_pack
from densevision.nn.padding import SameConv2d

__all__ = ["InferenceRewrite", "folded_convolution", "make_inference_form"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

CONVOLUTIONS = (nn.Conv2d, SameConv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm2d, BatchNormAct2d, FrozenBatchNorm2d)


@runtime_checkable
class InferenceRewrite(Protocol):
    """A module with a simpler form for inference."""

    def rewrite_for_inference(self) -> nn.Module:
        """Returns a module that computes the same in evaluation mode; it may be this one, and share its tensors.

        Tensors must not be changed in place: they belong to the network that is trained and saved.
        """


def make_inference_form(
    model: M,
    inputs: Mapping[str, Tensor],
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    allows_packing: bool = True,
) -> M:
    """Makes the form of a model that predicts. The model stays as it is.

    Args:
        model: The model, on the CPU.
        inputs: Small inputs on the CPU.
        device: Where the form computes; the CPU by default.
        dtype: float32; or bfloat16 or float16, for computing under autocast in this type.
        allows_packing: Whether maps and the weights of convolutions may be laid out as it is fastest.
    """
    device = device or torch.device("cpu")
    form = _share_tensors(model).eval()
    form = cast(M, _rewrite(form))
    try:
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            trace = trace_calls(form, dict(inputs))
    except Exception as error:  # networks of other packages refuse small inputs with errors of any type
        log.info("predictions run on the network as it is, because it does not run on a small image: %s", error)
        return _move(form, device, allows_packing)
    private = {layer for layer in trace.is_low_precision if trace.is_private(layer)}
    with torch.inference_mode(False), torch.no_grad():
        norms = _fold_norms(trace, private)
        if dtype != torch.float32:
            _convert_weights([layer for layer in private if trace.is_low_precision[layer]], dtype)
        replaced = _merge_activations(trace, private, norms, device if allows_packing else None)
    _replace(form, replaced)
    _replace(form, {norm: _keep_activation(norm) for norm in norms.values()})
    return _move(form, device, allows_packing)


def _move(form: M, device: torch.device, allows_packing: bool) -> M:
    form = form.to(device)
    return form.to(memory_format=torch.channels_last) if allows_packing else form


def _share_tensors(model: M) -> M:
    """Copies the modules of a model around the same memory, without gradients.

    `copy.deepcopy` would take a quarter of a second for the thousands of empty dictionaries that modules hold.
    """
    return cast(M, _copy_module(model, {}, {}))


def _copy_module(module: nn.Module, modules: dict[int, nn.Module], tensors: dict[int, Tensor | None]) -> nn.Module:
    """Copies a module and those below it; what occurs twice is copied once."""
    if id(module) not in modules:
        modules[id(module)] = copied = copy.copy(module)
        children = {
            name: None if child is None else _copy_module(child, modules, tensors)
            for name, child in module._modules.items()
        }
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in tensors:
                tensors[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        parameters = {name: tensors.get(id(parameter)) for name, parameter in module._parameters.items()}
        copied.__dict__ |= {"_modules": children, "_parameters": parameters, "_buffers": dict(module._buffers)}
    return modules[id(module)]


def _rewrite(module: nn.Module) -> nn.Module:
    """Replaces every `InferenceRewrite` by its simpler form, innermost first."""
    for name, child in list(module.named_children()):
        setattr(module, name, _rewrite(child))
    return module.rewrite_for_inference() if isinstance(module, InferenceRewrite) else module


def _fold_norms(trace: CallTrace, private: set[nn.Module]) -> dict[nn.Module, nn.Module]:
    """Folds norms into the convolutions that feed nothing else: convolution -> norm."""
    sources = {key: layer for layer in private if type(layer) in CONVOLUTIONS for key in trace.outputs[layer]}
    folded: dict[nn.Module, nn.Module] = {}
    for norm in [layer for layer in trace.inputs if type(layer) in NORMS]:
        conv = sources.get(trace.inputs[norm][0])
        if conv is None or not trace.is_only_reader(norm, conv):
            continue
        if isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1:
            continue
        _fold(conv, norm)
        folded[conv] = norm
    return folded


def folded_convolution(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """Copies a convolution that includes the batch norm behind it; both stay as they are."""
    folded = copy.copy(conv)
    folded._parameters = dict(conv._parameters)
    _fold(folded, norm)
    return folded


def _fold(conv: nn.Module, norm: nn.Module) -> None:
    names = ("running_mean", "running_var", "eps", "weight", "bias")
    mean, variance, eps, scale, shift = (getattr(norm, name) for name in names)
    weight, bias = conv.get_parameter("weight"), cast(Any, conv).bias
    is_transposed = isinstance(conv, nn.ConvTranspose2d)
    weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, eps, scale, shift, transpose=is_transposed)
    _set_parameters(conv, {"weight": weight, "bias": bias})


def _convert_weights(layers: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Converts the weights that autocast would convert at every call."""
    for layer in layers:
        parameters = dict(layer.named_parameters(recurse=False))
        _set_parameters(layer, {name: parameter.to(dtype) for name, parameter in parameters.items()})


def _merge_activations(
    trace: CallTrace, private: set[nn.Module], norms: Mapping[nn.Module, nn.Module], device: torch.device | None
) -> dict[nn.Module, nn.Module]:
    """Packs convolutions with the activations that alone read them; elsewhere these work in place.

    Returns:
        Module -> what takes its place.
    """
    sources = {key: layer for layer in private for key in trace.outputs[norms.get(layer, layer)]}
    activations: dict[nn.Module, nn.Module] = {}
    for layer in [layer for layer in trace.inputs if type(layer) in ACTIVATIONS]:
        source = sources.get(trace.inputs[layer][0])
        if source is not None and trace.is_only_reader(layer, norms.get(source, source)):
            activations[source] = layer
    replaced: dict[nn.Module, nn.Module] = {}
    for layer in private:
        activation = activations.get(layer)
        if device is not None and can_pack(layer, device):
            replaced[layer] = PackedConv2d(cast(nn.Conv2d, layer), activation)
            if activation is not None:
                replaced[activation] = nn.Identity()
        elif hasattr(activation, "inplace"):
            cast(Any, activation).inplace = True
    return replaced


def _keep_activation(norm: nn.Module) -> nn.Module:
    """What is left of a norm that was folded: the activation that some norms contain."""
    parts = (getattr(norm, name, None) for name in ("drop", "act"))
    layers = [part for part in parts if part is not None and not isinstance(part, nn.Identity)]
    return nn.Sequential(*layers) if layers else nn.Identity()


def _set_parameters(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        layer.register_parameter(name, nn.Parameter(tensor.detach(), requires_grad=False))


def _replace(form: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(form.modules()):
        for name, child in list(parent.named_children()):
            if child in replaced:
                setattr(parent, name, replaced[child])
