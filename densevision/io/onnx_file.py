"""Validation of ONNX files: all tensors are inside the file, and all operators are ONNX's own.

The protobuf wire format is parsed along the messages that can contain tensors, without building any object.

Source: onnx/onnx.proto, https://github.com/onnx/onnx (Apache-2.0): the field numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from densevision.errors import WeightsError

__all__ = ["check_onnx"]

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message -> field number -> message in this field."""
_EXTERNAL, _LOCATION = 13, 14
"""Fields of a tensor that refer to data outside of the file."""
_DOMAINS = (b"", b"ai.onnx")
_DOMAIN = 7
"""Field of a node that names the domain of its operator."""
_MAX_DEPTH = 64
_HINT = "Pass a file that `densevision TASK export` wrote."


def check_onnx(path: Path) -> None:
    """Refuses an ONNX file that would make a runtime open other files, or run operators of other domains.

    Raises:
        WeightsError: The file refers to external data or other operators, or is damaged.
    """
    if not path.stat().st_size:  # which cannot be mapped
        raise WeightsError("the file is empty (0 bytes)", file=path, hint=_HINT)
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _check_message(data, 0, len(data), "model", path, 0)
        except (IndexError, ValueError):
            raise WeightsError("the file is damaged or not ONNX", file=path, hint=_HINT) from None


def _check_message(data: mmap.mmap, start: int, end: int, kind: str, path: Path, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise WeightsError("graphs are nested too deeply", file=path, hint=_HINT)
    for number, low, high, value in _read_fields(data, start, end):
        if kind == "tensor":
            if number == _EXTERNAL or (number == _LOCATION and value):
                reference = data[low:high][:200].decode("utf-8", "replace") if high > low else value
                problem = "refers to data in another file, which exports never do"
                raise WeightsError(problem, file=path, field="external_data", value=reference, hint=_HINT)
        elif kind == "node" and number == _DOMAIN and data[low:high] not in _DOMAINS:
            domain = data[low:high][:200].decode("utf-8", "replace")
            raise WeightsError("an operator is not ONNX's own", file=path, field="domain", value=domain, hint=_HINT)
        elif number in _MESSAGES.get(kind, ()):
            _check_message(data, low, high, _MESSAGES[kind][number], path, depth + 1)


def _read_fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, first byte, end, and integer value of each field."""
    position = start
    while position < end:
        key, position = _read_varint(data, position, end)
        number, wire = key >> 3, key & 7
        low, value = position, 0
        if wire == 0:
            value, position = _read_varint(data, position, end)
            low = position
        elif wire == 2:
            length, low = _read_varint(data, position, end)
            position = low + length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError("no such wire type")
        if position > end or not number:
            raise ValueError("a field exceeds its message")
        yield number, low, position, value


def _read_varint(data: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    """Reads a variable-length integer; returns it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise IndexError("truncated")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("an integer is too long")
