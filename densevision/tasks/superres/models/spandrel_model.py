"""Any architecture of the spandrel library as a model, built from arguments or from a state dict of its file.

Source: spandrel (MIT), https://github.com/chaiNNer-org/spandrel.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from densevision.errors import UsageError, WeightsError, did_you_mean
from densevision.limits import check_decoder_options
from densevision.tasks.superres.models.superres_model import SuperresModel

__all__ = ["SCALES", "Spandrel", "describe_network", "load_descriptor"]

SCALES = (1, 2, 3, 4, 8, 16)
"""Scales of `SuperresConfig.scale`."""
SINGLE_IMAGE_ARCHITECTURES = ("DRUNet", "DnCNN")
"""Architectures whose adapters add a noise map for a single image."""
MAX_WINDOW = 64
MAX_IMAGE_SIDE = 512
"""Largest window and nominal image size among the options: tables grow with their fourth and second powers."""
MAX_LAYERS = 10_000
"""Largest product of the options that count blocks, each of which is built before its shape is compared with a file."""
_COUNTS = re.compile("depth|block|blk|layer|group|stage|unit|^nb$")
"""Names of options that count blocks, or groups of them."""
INSTALL_HINT = "pip install 'densevision[community]'"
_SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]


class Spandrel(SuperresModel):
    """A network of spandrel, in float32: not every architecture tolerates less.

    spandrel derives scale, channels and size requirements from the network's state dict.

    Args:
        architecture: Name of a network class of spandrel, such as "SwinIR", "HAT", "DAT" or "Compact".
        options: Arguments of that class: numbers, booleans, names, or short lists of these.
        scale: Must be the network's scale, if given.
        in_channels: Must be the network's number of channels, if given.
        residual: Add the output to the bicubic enlargement of the image.
        criterion: See `SuperresModel`.

    Attributes:
        network: The network itself.

    Raises:
        UsageError: spandrel is not installed, has no such architecture, or the architecture refuses the options.
    """

    allows_packing = False

    def __init__(
        self,
        architecture: str = "Compact",
        options: Mapping[str, Any] | None = None,
        scale: int | None = None,
        in_channels: int | None = None,
        residual: bool = False,
        criterion: nn.Module | None = None,
    ):
        descriptor = _build_descriptor(architecture, options or {})
        _check_match("scale", scale, descriptor.scale)
        _check_match("backbone.channels", in_channels, descriptor.input_channels)
        requirements = descriptor.size_requirements
        super().__init__(descriptor.scale, descriptor.input_channels, residual=residual, criterion=criterion)
        self.limit_sides(min_side=max(requirements.minimum, 1))
        self.network: nn.Module = descriptor.model
        self.multiple_of = requirements.multiple_of
        # Windowed networks pad to multiples of their windows by themselves, in ways that cannot be exported.
        self.export_multiple_of = math.lcm(requirements.multiple_of, *_list_windows(options or {}))
        for module in self.network.modules():
            if hasattr(module, "input_resolution"):  # Swin: a mask of the nominal size, or one computed for any size
                module.input_resolution = (0, 0)
        self.is_square = requirements.square
        self.takes_batches = architecture not in SINGLE_IMAGE_ARCHITECTURES
        # Some architectures return several tensors or take noise levels. spandrel keeps the adapter of each for itself,
        # and its public call can neither be trained nor exported.
        self._call_network = descriptor._call_fn

    def to(self, *args: Any, **kwargs: Any) -> Spandrel:
        """Ignores memory formats: some networks reshape by `view`, which channels-last tensors do not allow."""
        kwargs.pop("memory_format", None)
        return super().to(*args, **kwargs)

    def upscale(self, image: Tensor) -> Tensor:
        """See `SuperresModel.upscale`."""
        if torch.compiler.is_exporting():
            return self._run(image)
        with torch.autocast(image.device.type, enabled=False):
            image = image.to(next(self.network.parameters()).dtype, copy=True)  # some networks change it in place
            return self._run(image) if self.takes_batches else torch.cat([self._run(one) for one in image.split(1)])

    def _run(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        output = self._call_network(self.network, self._pad(image))
        return output[..., : height * self.scale, : width * self.scale]

    def _pad(self, image: Tensor) -> Tensor:
        """Pads the bottom and right to sides that the network accepts, by reflection like spandrel's own call.

        By gathering, and with sides written as multiples, because an export must know that later layers halve them
        evenly.
        """
        multiple = self.export_multiple_of if torch.compiler.is_exporting() else self.multiple_of
        sides: list[Any] = [(length + multiple - 1) // multiple * multiple for length in image.shape[-2:]]
        if self.is_square:
            sides = [torch.sym_max(*sides)] * 2
        for axis, side in zip((2, 3), sides):
            length = image.shape[axis]
            if multiple > 1 or self.is_square:
                position = torch.arange(side, device=image.device)
                image = image.index_select(axis, torch.minimum(position, 2 * length - 2 - position).clamp(min=0))
        return image


def load_descriptor(tensors: Mapping[str, Tensor]) -> Any:
    """Builds spandrel's descriptor of a state dict.

    Returns:
        A `spandrel.ImageModelDescriptor`.

    Raises:
        WeightsError: spandrel is not installed or does not know the network, or the network is none from images to
            images of the same channels.
    """
    spandrel = _import_spandrel()
    if spandrel is None:
        raise WeightsError("the architecture is unknown, and spandrel is not installed", hint=INSTALL_HINT)
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(tensors))
    except spandrel.UnsupportedModelError:
        hint = "`densevision models superres` lists the published weights that can be converted."
        raise WeightsError("spandrel does not know this network", value=next(iter(tensors)), hint=hint) from None
    except Exception as error:  # detection of foreign networks fails in many ways
        raise WeightsError(f"spandrel cannot load the network: {_summarize(error)}") from None
    return _check_descriptor(descriptor, WeightsError)


def describe_network(network: nn.Module) -> dict[str, Any]:
    """The constructor arguments of `Spandrel` that rebuild a network of spandrel."""
    parameters = getattr(network, "hyperparameters", {})
    options = {name: value for name, value in parameters.items() if _is_plain(value)}
    names = [name for name, (_, network_class) in _list_networks().items() if network_class is type(network)]
    return {"architecture": names[0] if names else type(network).__name__, "options": options}


def _build_descriptor(architecture: str, options: Mapping[str, Any]) -> Any:
    """Builds a network from arguments, and spandrel's descriptor of its state dict."""
    _check_options(options)
    if _import_spandrel() is None:
        raise UsageError("spandrel is not installed", field="arch", value="spandrel", hint=INSTALL_HINT)
    networks = _list_networks()
    if architecture not in networks:
        hint = did_you_mean(architecture, networks)
        raise UsageError("no such architecture", field="model.architecture", value=architecture, hint=hint)
    try:
        loader, network_class = networks[architecture]
        with _RealConstants():
            descriptor = loader.load(network_class(**options).state_dict())
    except Exception as error:  # constructors and detection fail in many ways
        problem = f"{architecture} cannot be built: {_summarize(error)}"
        raise UsageError(problem, field="model.options", value=dict(options)) from None
    return _check_descriptor(descriptor, UsageError)


class _RealConstants(TorchFunctionMode):
    """Lets layers assign constants to weights that have no memory, as they are within `SkipInit`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _SET_DATA and args[0].is_meta and not args[1].is_meta:
            weight = nn.Parameter(args[1], requires_grad=args[0].requires_grad)
            return torch.utils.swap_tensors(args[0], weight)
        return func(*args, **(kwargs or {}))


def _check_descriptor(descriptor: Any, error: type[UsageError] | type[WeightsError]) -> Any:
    spandrel = _import_spandrel()
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.scale not in SCALES:
        value = getattr(descriptor, "scale", type(descriptor).__name__)
        raise error("the network does not map images to images of a known scale", value=value)
    if descriptor.output_channels != descriptor.input_channels:
        value = f"{descriptor.input_channels} in, {descriptor.output_channels} out"
        raise error("the network changes the number of channels", value=value)
    return descriptor


def _check_match(field: str, stated: int | None, actual: int) -> None:
    if stated is not None and stated != actual:
        problem = "does not match the network, which follows from model.options"
        raise UsageError(problem, field=field, value=stated, hint=f"Set {field} to {actual}.")


def _check_options(options: Mapping[str, Any]) -> None:
    check_decoder_options(options, "model.options")
    for name, value in options.items():
        limit = MAX_WINDOW if re.search("window|split", name) else MAX_IMAGE_SIDE if "size" in name else None
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        if limit is not None and any(isinstance(number, (int, float)) and number > limit for number in numbers):
            raise UsageError(f"is above the limit of {limit}", field=f"model.options.{name}", value=value)
    counts = {name: _sum_integers(value) for name, value in options.items() if _COUNTS.search(name)}
    if math.prod(max(1, count) for count in counts.values()) > MAX_LAYERS:
        raise UsageError(f"describes more than {MAX_LAYERS:,} blocks", field="model.options", value=counts)


def _sum_integers(value: Any) -> int:
    return sum(item for item in (value if isinstance(value, (list, tuple)) else (value,)) if type(item) is int)


def _list_windows(options: Mapping[str, Any]) -> list[int]:
    """Window sizes among the options."""
    windows: list[int] = []
    for name, value in options.items():
        if "window" in name or "split" in name:
            windows += [item for item in (value if isinstance(value, (list, tuple)) else (value,)) if type(item) is int]
    return [window for window in windows if window > 0]


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, (list, tuple)) else (value,)
    return all(item is None or isinstance(item, (bool, int, float, str)) for item in items)


def _list_networks() -> dict[str, tuple[Any, type[nn.Module]]]:
    """Name under which spandrel exports a network class -> the architecture, which loads state dicts, and the class."""
    networks: dict[str, tuple[Any, type[nn.Module]]] = {}
    for support in _import_spandrel().MAIN_REGISTRY.architectures():
        package = import_module(type(support.architecture).__module__)
        for name in package.__all__:
            value = getattr(package, name)
            if inspect.isclass(value) and issubclass(value, nn.Module):
                networks[name] = support.architecture, value
    return networks


def _import_spandrel() -> Any:
    try:
        return import_module("spandrel")
    except ModuleNotFoundError:
        return None


def _summarize(error: Exception) -> str:
    return re.split(r"\n|\. |\.$", str(error).strip())[0] or type(error).__name__
