"""Weights files: safetensors with a card that describes the weights. The file name carries no information."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.atomic_write import atomic_write
from densevision.io.json_writer import dump_json, to_json_value
from densevision.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "SCHEMA",
    "Card",
    "PublishedWeights",
    "check_task",
    "has_card",
    "load_card",
    "load_shapes",
    "load_weights",
    "save_weights",
]

SCHEMA = 1
"""Version of the card's fields that this code writes, and the newest that it reads."""

_KEY = "densevision"
_CONVERT = "Convert it with `densevision convert-weights NAME FILE OUT`."
_HINT = "Download or write it again."
_MAX_HEADER_BYTES = 16_000_000
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")


@dataclass(frozen=True)
class Card:
    """Everything that is needed to use and to evaluate weights.

    Attributes:
        task: Name of the task.
        config: The task's full config.
        classes: Class names in the order of the outputs; None for tasks without classes.
        preprocessing: Preprocessing of images beyond what the config says.
        data: The training data.
        metrics: Metrics by name, and the protocol of their evaluation.
        license: License of the weights.
        versions: Versions of densevision and its dependencies at the time of training.
        source: Origin of converted weights.
        schema: Version of this schema.
    """

    task: str
    config: dict[str, Any]
    classes: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    license: str = ""
    versions: dict[str, str] = field(default_factory=lambda: {"densevision": __version__})
    source: str | None = None
    schema: int = SCHEMA

    def replace(self, **fields: Any) -> Card:
        """Returns a copy with other values in the named fields."""
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data for JSON; non-finite numbers become None."""
        return to_json_value(dataclasses.asdict(self))

    def to_json(self) -> str:
        """The card as JSON."""
        return dump_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str, file: str | os.PathLike[str] | None = None) -> Card:
        """Reads a card; fields that this version does not know are ignored.

        Raises:
            WeightsError: The card is not JSON, of a newer schema, or a field is missing or of a wrong type.
        """
        try:
            fields = json.loads(text)
        except (ValueError, TypeError, RecursionError):  # the header may hold a number where text is due
            fields = None
        if not isinstance(fields, dict):
            raise WeightsError("the card is not a JSON object", file=file, field=_KEY, value=text, hint=_HINT)
        _check_schema(fields, file)
        for name, types in _FIELD_TYPES.items():
            if name not in fields:
                raise WeightsError("the card lacks this field", file=file, field=name, hint=_HINT)
            if not isinstance(fields[name], types):
                problem = "this field of the card has a wrong type"
                raise WeightsError(problem, file=file, field=name, value=fields[name], hint=_HINT)
        values = {name: fields[name] for name in _FIELD_TYPES}
        if values["classes"] is not None:
            values["classes"] = tuple(map(str, values["classes"]))
        return cls(**values)


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that other people published.

    Attributes:
        name: What a person types, e.g. "torchvision/raft_large".
        task: The task that they are for.
        address: Where they are downloaded from.
        sha256: Start of the file's hash, in hexadecimal; empty where no hash is known, so that a download cannot be
            verified.
        license: The terms, which begin with the name of the license.
        megabytes: Size of the download.
        trained_on: What they were trained on.
        parameters: Parameters of the model, in millions.
        metric: Name and value of the metric that their publisher states, if any.
        measured: What this project measured with the published file itself; empty where it measured nothing.
        file_sha256: Hash of the file that is at hand, once there is one.
    """

    name: str
    task: str
    address: str
    sha256: str
    license: str
    megabytes: float
    trained_on: str
    parameters: float = 0.0
    metric: tuple[str, float] | None = None
    measured: str = ""
    file_sha256: str = ""

    @property
    def short_license(self) -> str:
        """The name of the license alone, with "NC" where it forbids commercial use."""
        name = re.split(r"[;:(]| code", self.license)[0].strip().removesuffix("-Clause")
        return f"{name} NC" if "not for commercial" in self.license and "NC" not in name else name

    @property
    def is_verified(self) -> bool:
        """Whether the file at hand is the published one, by its hash."""
        return bool(self.sha256) and self.file_sha256.startswith(self.sha256.lower())

    def card(self, config: dict[str, Any], classes: Sequence[str] | None = None) -> Card:
        """What these weights say of themselves once they are converted.

        Args:
            config: The task's full config that builds their network.
            classes: Names of what they tell apart, if they do.
        """
        return Card(
            task=self.task,
            config=config,
            classes=None if classes is None else tuple(classes),
            data={
                "source": self.trained_on,
                "file": self.address,
                "file_sha256": self.file_sha256,
                "is_verified": self.is_verified,
            },
            license=self.license,
            source=self.name,
        )


_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "config": (dict,),
    "classes": (list, type(None)),
    "preprocessing": (dict,),
    "data": (dict,),
    "metrics": (dict,),
    "license": (str,),
    "versions": (dict,),
    "source": (str, type(None)),
    "schema": (int,),
}


def save_weights(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor | np.ndarray],
    card: Card,
    half: bool = False,
) -> None:
    """Writes weights with their card atomically; the same weights give the same bytes.

    Tensors that share memory, or that are not contiguous, are written separately and in full.

    Args:
        path: The file to write.
        tensors: Tensors by name, as a state dict gives them.
        card: The card.
        half: Write floats as float16; integers and booleans are not changed.

    Raises:
        WeightsError: A finite value is too large for half precision.
        DenseVisionError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    prepared = {name: _prepare_tensor(name, tensor, half) for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(prepared, temporary, {_KEY: card.to_json()})
        except SafetensorError as error:
            raise OSError(str(error)) from None


def load_card(path: str | os.PathLike[str]) -> Card:
    """Reads only the card, without the weights and without torch.

    Raises:
        WeightsError: The file is missing, truncated, not safetensors, or has no valid card.
    """
    card = _read_header(path).get("__metadata__", {}).get(_KEY)
    if card is None:
        problem = "safetensors without a densevision card, so its model is unknown"
        raise WeightsError(problem, file=path, hint=_CONVERT)
    return Card.from_json(card, path)


def has_card(path: str | os.PathLike[str]) -> bool:
    """Whether a safetensors file has a densevision card.

    Raises:
        WeightsError: The file is missing, truncated or no safetensors.
    """
    return _KEY in _read_header(path).get("__metadata__", {})


def load_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the tensors by name, from the header of the file only.

    Raises:
        WeightsError: The file is missing, truncated or not safetensors, or a shape is invalid.
    """
    shapes = {}
    for name, entry in _read_header(path).items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
            problem = "the header of the file has an invalid shape"
            raise WeightsError(problem, file=path, field=name, value=shape, hint=_HINT)
        shapes[name] = tuple(shape)
    return shapes


def check_task(card: Card, path: str | os.PathLike[str], task: str | None) -> None:
    """Refuses weights of another task; None accepts any.

    Raises:
        WeightsError: They are of another task.
    """
    if task is not None and card.task != task:
        hint = f"Pass weights of {task}, or use these with `densevision {card.task}`."
        raise WeightsError("weights of another task", file=path, field="task", value=card.task, hint=hint)


def load_weights(path: str | os.PathLike[str], task: str | None = None) -> tuple[dict[str, torch.Tensor], Card]:
    """Reads weights and their card.

    Args:
        path: A file that `save_weights` wrote.
        task: Refuse weights of any other task.

    Returns:
        Tensors by name on the CPU, float16 and bfloat16 converted to float32; and the card.

    Raises:
        WeightsError: As `load_card`; or the weights are of another task.
    """
    card = load_card(path)
    check_task(card, path, task)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"the file is damaged: {error}", file=path, hint=_HINT) from None
    return {name: _to_full_precision(tensor) for name, tensor in tensors.items()}, card


def _prepare_tensor(name: str, tensor: torch.Tensor | np.ndarray, half: bool) -> torch.Tensor:
    import torch

    tensor = torch.as_tensor(tensor).detach().cpu()
    if half and tensor.is_floating_point():
        half_tensor = tensor.half()
        if bool((half_tensor.isinf() & tensor.isfinite()).any()):
            largest = tensor[tensor.isfinite()].abs().max().item()
            hint = "Save these weights without half."
            raise WeightsError("too large for half precision", field=name, value=largest, hint=hint)
        tensor = half_tensor
    # A copy: safetensors refuses tensors that share memory.
    return tensor.clone(memory_format=torch.contiguous_format)


def _to_full_precision(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the JSON header of a safetensors file, and checks that the file holds all tensors that it lists."""
    size, length, text = _read_header_bytes(path)
    header, end = None, 0
    if len(text) == length:
        try:
            header = json.loads(text)
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
            header.get("__metadata__", {}).get(_KEY)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise WeightsError("the header of the file is damaged", file=path, hint=_HINT) from None
    expected = 8 + length + end
    if header is None or size < expected:
        raise WeightsError(f"truncated: {size:,} of at least {expected:,} bytes", file=path, hint=_HINT)
    return header


def _read_header_bytes(path: str | os.PathLike[str]) -> tuple[int, int, bytes]:
    """Reads the file size, the length of the JSON header, and as much of the header as the file holds."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(9)
            length = int.from_bytes(start[:8], "little")
            is_safetensors = start[8:] == b"{" and length <= _MAX_HEADER_BYTES
            text = start[8:] + stream.read(length - 1) if is_safetensors else b""
    except FileNotFoundError:
        raise WeightsError("no such file", file=path) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot be read: {getattr(error, 'strerror', error)}", file=path) from None
    if not size:
        raise WeightsError("the file is empty (0 bytes)", file=path, hint=_HINT)
    if not is_safetensors:
        is_pickle = start.startswith(_PICKLES)
        problem = "a PyTorch checkpoint, not safetensors" if is_pickle else "not safetensors, or truncated"
        raise WeightsError(problem, file=path, hint=_CONVERT)
    return size, length, text


def _check_schema(fields: dict[str, Any], file: str | os.PathLike[str] | None) -> None:
    schema = fields.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        versions = fields.get("versions")
        writer = versions.get("densevision", "newer") if isinstance(versions, dict) else "newer"
        hint = f"Update densevision: this is {__version__}, the weights were written by {writer}."
        problem = f"weights of a newer schema than {SCHEMA}, the newest that this version reads"
        raise WeightsError(problem, file=file, field="schema", value=schema, hint=hint)
