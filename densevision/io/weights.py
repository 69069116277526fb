"""Weights files: safetensors with a card that says what the weights are. The file's name means nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.atomic_write import whole
from densevision.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import torch

SCHEMA = 1
"""Version of the card's fields that this code writes, and the newest that it reads."""

_KEY = "densevision"
_CONVERT = "Convert it with `python tools/convert.py NAME FILE OUT`."
_AGAIN = "Fetch or write it again."
_LARGEST_HEAD = 100_000_000
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x04")


@dataclass(frozen=True)
class Card:
    """What weights say of themselves: everything that is needed to use them, and to judge them.

    Attributes:
        task: One of the seven task names.
        config: The task's full config.
        classes: Class names in the order of the outputs, None for tasks without classes.
        preprocessing: What has to happen to an image before the network, beyond what the config says.
        data: What the weights were trained on.
        metrics: Numbers by name, and the protocol under which they were measured.
        license: Terms under which the weights may be used.
        versions: Versions of densevision and of what it was built on when they were made.
        source: Where they come from, when they were converted.
        schema: Version of these fields.
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

    def changed(self, **fields: Any) -> Card:
        """The same card with other values in the named fields."""
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data for JSON; numbers that are not finite become None."""
        return _plain(dataclasses.asdict(self))

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(self.to_dict(), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, file: str | os.PathLike[str] | None = None) -> Card:
        """Reads a card; fields that this version does not know are left aside.

        Raises:
            WeightsError: It is not JSON, of a newer schema, or a field is missing or of a wrong type.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise WeightsError("the card is not a JSON object", file=file, field=_KEY, value=text, hint=_AGAIN)
        _check_schema(found, file)
        for name, kinds in _KINDS.items():
            if name not in found:
                raise WeightsError("the card lacks this field", file=file, field=name, hint=_AGAIN)
            if not isinstance(found[name], kinds):
                raise WeightsError(
                    "the card's field has a wrong type", file=file, field=name, value=found[name], hint=_AGAIN
                )
        values = {name: found[name] for name in _KINDS}
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
        sha256: Start of the file's hash, in hexadecimal, as its publisher states it.
        license: The terms.
        megabytes: Size of the download.
        trained_on: What they were trained on.
    """

    name: str
    task: str
    address: str
    sha256: str
    license: str
    megabytes: float
    trained_on: str

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
            data={"source": self.trained_on},
            license=self.license,
            source=self.name,
        )


_KINDS: dict[str, tuple[type, ...]] = {
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
    """Writes weights with their card, whole or not at all; the same weights give the same bytes.

    Tensors that share memory, or whose elements are not in order, are each written out in full.

    Args:
        path: The file to write.
        tensors: Tensors by name, as a state dict gives them.
        card: What they are.
        half: Write floats as float16. Integers and booleans stay.

    Raises:
        WeightsError: A finite value is too large for half precision.
        DenseVisionError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    prepared = {name: _prepared(name, tensor, half) for name, tensor in tensors.items()}
    with whole(path) as temporary:
        try:
            save_file(prepared, temporary, {_KEY: card.to_json()})
        except SafetensorError as failure:
            raise OSError(str(failure)) from None


def load_card(path: str | os.PathLike[str]) -> Card:
    """Reads the card alone, without the weights and without torch.

    Raises:
        WeightsError: The file is missing, truncated, no safetensors, has no card, or a card that cannot be used.
    """
    card = _read_header(path).get("__metadata__", {}).get(_KEY)
    if card is None:
        problem = "safetensors without a densevision card, so what these weights are is unknown"
        raise WeightsError(problem, file=path, hint=_CONVERT)
    return Card.from_json(card, path)


def load_weights(path: str | os.PathLike[str], task: str | None = None) -> tuple[dict[str, torch.Tensor], Card]:
    """Reads weights and their card.

    Args:
        path: A file that `save_weights` wrote.
        task: Refuse weights of any other task.

    Returns:
        Tensors by name on the CPU, float16 and bfloat16 restored to float32; and the card.

    Raises:
        WeightsError: As `load_card`; or the weights are of another task.
    """
    card = load_card(path)
    if task is not None and card.task != task:
        hint = f"Give weights of {task}, or use these with `densevision {card.task}`."
        raise WeightsError("weights of another task", file=path, field="task", value=card.task, hint=hint)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as failure:
        raise WeightsError(f"the file is damaged: {failure}", file=path, hint=_AGAIN) from None
    return {name: _restored(tensor) for name, tensor in tensors.items()}, card


def _prepared(name: str, tensor: torch.Tensor | np.ndarray, half: bool) -> torch.Tensor:
    import torch

    tensor = torch.as_tensor(tensor).detach().cpu()
    if half and tensor.is_floating_point():
        narrow = tensor.half()
        if bool((narrow.isinf() & tensor.isfinite()).any()):
            largest = tensor[tensor.isfinite()].abs().max().item()
            hint = "Save these weights without half."
            raise WeightsError("too large for half precision", field=name, value=largest, hint=hint)
        tensor = narrow
    # A copy of its own: safetensors refuses tensors that share memory.
    return tensor.clone(memory_format=torch.contiguous_format)


def _restored(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON at the head of a safetensors file, once it is sure that the file holds all that it lists."""
    size, length, text = _read_head(path)
    header, end = None, 0
    if len(text) == length:
        try:
            header = json.loads(text)
            end = max((part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"), default=0)
            header.get("__metadata__", {}).get(_KEY)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise WeightsError("the head of the file is damaged", file=path, hint=_AGAIN) from None
    stated = 8 + length + end
    if header is None or size < stated:
        raise WeightsError(f"truncated: {size:,} of at least {stated:,} bytes are there", file=path, hint=_AGAIN)
    return header


def _read_head(path: str | os.PathLike[str]) -> tuple[int, int, bytes]:
    """Bytes in the file, bytes that its JSON head should have, and what there is of it."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(9)
            length = int.from_bytes(start[:8], "little")
            known = start[8:] == b"{" and length <= _LARGEST_HEAD
            text = start[8:] + stream.read(length - 1) if known else b""
    except FileNotFoundError:
        raise WeightsError("no such file", file=path) from None
    except (OSError, ValueError) as failure:
        raise WeightsError(f"cannot be read: {getattr(failure, 'strerror', failure)}", file=path) from None
    if not size:
        raise WeightsError("the file is empty (0 bytes)", file=path, hint=_AGAIN)
    if not known:
        pickled = start.startswith(_PICKLES)
        problem = "a PyTorch checkpoint, not safetensors" if pickled else "not safetensors, or cut off at its beginning"
        raise WeightsError(problem, file=path, hint=_CONVERT)
    return size, length, text


def _check_schema(found: dict[str, Any], file: str | os.PathLike[str] | None) -> None:
    schema = found.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        made = found.get("versions")
        maker = made.get("densevision", "newer") if isinstance(made, dict) else "newer"
        hint = f"Update densevision: this is {__version__}, they were made with {maker}."
        problem = f"weights of a newer schema than {SCHEMA}, which this version reads"
        raise WeightsError(problem, file=file, field="schema", value=schema, hint=hint)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
