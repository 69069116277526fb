"""Streams the lists of a large JSON object element by element, in the memory of one element."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from densevision.errors import DataError

__all__ = ["Element", "stream_json"]

CHUNK_SIZE = 1 << 20
"""Characters per read."""
NUMBER_CHARACTERS = ".+-eE0123456789"
"""Characters that may continue a number; the empty string at the end of the window counts as one of them."""
_skip_space = re.compile(r"[ \t\r\n]*").match


class Element(NamedTuple):
    """An element of a list, or a value that is not a list (`index` is None), under a key of the object."""

    key: str
    index: int | None  # type: ignore[assignment]
    value: Any


def stream_json(path: str | os.PathLike[str], chunk_size: int = CHUNK_SIZE) -> Iterator[Element]:
    """Yields the content of a JSON object: lists element by element, other values at once.

    Each list is announced by an element (key, None, []), so that empty lists are visible as well.

    Args:
        path: A file that holds one JSON object.
        chunk_size: Characters per read.

    Raises:
        DataError: The file cannot be read, is not valid JSON, or does not hold an object.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            yield from _Scanner(stream, path, chunk_size).scan()
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None
    except UnicodeDecodeError as failure:
        raise DataError(f"is not UTF-8 text, {failure.reason}", file=path, hint="Save the file as UTF-8.") from None


class _Scanner:
    """A window of text that moves over the file; `position` is the place in the window."""

    def __init__(self, stream: TextIO, path: str | os.PathLike[str], chunk_size: int):
        self.stream, self.path, self.chunk_size = stream, path, chunk_size
        self.decode = json.JSONDecoder().raw_decode
        self.text, self.position, self.consumed = "", 0, 0

    def scan(self) -> Iterator[Element]:
        first = self.peek()
        if first != "{":
            problems = {"": "is empty", "[": "is a JSON list, where an object is expected"}
            raise DataError(problems.get(first, "is not a JSON object"), file=self.path)
        self.position += 1
        for _ in self.iterate_items("}"):
            key = self.read_value()
            if not isinstance(key, str) or self.peek() != ":":
                raise self.build_error("expected a key")
            self.position += 1
            if self.peek() == "[":
                self.position += 1
                yield Element(key, None, [])
                for index, _ in enumerate(self.iterate_items("]")):
                    yield Element(key, index, self.read_value())
            else:
                yield Element(key, None, self.read_value())
        if self.peek():
            raise self.build_error("text after the end")

    def iterate_items(self, end: str) -> Iterator[None]:
        """Yields at the start of each comma-separated item up to the closing bracket `end`."""
        character = self.peek()
        while character != end:
            yield
            character = self.peek()
            if character == ",":
                self.position += 1
            elif character != end:
                raise self.build_error(f"expected ',' or '{end}'")
        self.position += 1

    def peek(self) -> str:
        """Returns the next character that is not white space, or an empty string at the end of the file."""
        while True:
            self.position = _skip_space(self.text, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.read_more():
                return ""

    def read_value(self) -> Any:
        """Reads the value at the current position; a value that the window cuts off is retried with more text."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.position)
            except (ValueError, RecursionError) as failure:
                if not self.read_more():
                    raise self.build_error(getattr(failure, "msg", str(failure))) from None
                continue
            # "0." at the edge of the window decodes as 0 until the window moves on.
            if self.text[end : end + 1] in NUMBER_CHARACTERS and self.read_more():
                continue
            self.position = end
            return value

    def read_more(self) -> bool:
        """Moves the window forward, doubling it while one value does not fit; False at the end of the file."""
        rest = self.text[self.position :]
        chunk = self.stream.read(max(self.chunk_size, len(rest)))
        self.consumed += self.position
        self.text, self.position = rest + chunk, 0
        return bool(chunk)

    def build_error(self, problem: str) -> DataError:
        problem = f"is not valid JSON, {problem[0].lower()}{problem[1:]}"
        field = f"character {self.consumed + self.position + 1}"
        return DataError(problem, file=self.path, field=field, hint="The file may be truncated; export it again.")
