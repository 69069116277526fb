"""Streams the lists of a large JSON object, element by element or in blocks, in the memory of one block of text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from densevision.errors import DataError

__all__ = ["Block", "Element", "stream_json", "stream_json_blocks"]

CHUNK_SIZE = 1 << 20
"""Characters per read."""
MAX_SPACE = 100
"""Characters between two elements of a list that are searched for its comma."""
NUMBER_CHARACTERS = ".+-eE0123456789"
"""Characters that may continue a number; the empty string at the end of the window counts as one of them."""
_skip_space = re.compile(r"[ \t\r\n]*").match


class Element(NamedTuple):
    """An element of a list, or a value that is not a list (`index` is None), under a key of the object."""

    key: str
    index: int | None  # type: ignore[assignment]
    value: Any


class Block(NamedTuple):
    """Consecutive elements of a list, as a decoder returned them; `start` is the index of the first."""

    key: str
    start: int
    values: list[Any]


BlockDecoder = Callable[[str], list[Any] | None]
"""The text of a JSON list -> its elements; None for text that is not JSON, or that the decoder leaves to `json`."""


def stream_json(path: str | os.PathLike[str], chunk_size: int = CHUNK_SIZE) -> Iterator[Element]:
    """Yields the content of a JSON object: lists element by element, other values at once.

    Each list is announced by an element (key, None, []), so that empty lists are visible as well.

    Args:
        path: A file that holds one JSON object.
        chunk_size: Characters per read.

    Raises:
        DataError: The file cannot be read, is not valid JSON, or does not hold an object.
    """
    for item in stream_json_blocks(path, {}, chunk_size):
        if isinstance(item, Element):  # without decoders there are no blocks
            yield item


def stream_json_blocks(
    path: str | os.PathLike[str], decoders: Mapping[str, BlockDecoder], chunk_size: int = CHUNK_SIZE
) -> Iterator[Element | Block]:
    """Yields the content of a JSON object as `stream_json` does, and many elements of a list at once where it can.

    A list of objects under a key of `decoders` is cut into blocks of text. The elements of a block that its decoder
    refuses come one by one, read by Python's `json`: a decoder need only accept what is usual.

    Args:
        path: A file that holds one JSON object.
        decoders: Key of a list -> decoder of its blocks.
        chunk_size: Characters per read and per block.

    Raises:
        DataError: The file cannot be read, is not valid JSON, or does not hold an object.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            yield from _Scanner(stream, path, chunk_size, decoders).scan()
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None
    except UnicodeDecodeError as failure:
        raise DataError(f"is not UTF-8 text, {failure.reason}", file=path, hint="Save the file as UTF-8.") from None


class _Scanner:
    """A window of text that moves over the file; `position` is the place in the window."""

    def __init__(
        self, stream: TextIO, path: str | os.PathLike[str], chunk_size: int, decoders: Mapping[str, BlockDecoder]
    ):
        self.stream, self.path, self.chunk_size, self.decoders = stream, path, chunk_size, decoders
        self.decode = json.JSONDecoder().raw_decode
        self.text, self.position, self.consumed = "", 0, 0

    def scan(self) -> Iterator[Element | Block]:
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
                yield from self.read_list(key)
            else:
                yield Element(key, None, self.read_value())
        if self.peek():
            raise self.build_error("text after the end")

    def read_list(self, key: str) -> Iterator[Element | Block]:
        decode, index, refused_end = self.decoders.get(key), 0, 0
        for _ in self.iterate_items("]"):
            if decode is not None and self.consumed + self.position >= refused_end:
                values, refused_end = self.read_block(decode)
                if values:
                    yield Block(key, index, values)
                    index += len(values)
                    continue
            yield Element(key, index, self.read_value())
            index += 1

    def read_block(self, decode: BlockDecoder) -> tuple[list[Any] | None, int]:
        """Reads elements from the current position on, and moves behind them.

        A cut at the wrong place, such as inside a string or an inner list, leaves text that is not a JSON list: only
        one whose brackets all close before the end is valid.

        Returns:
            The elements, or None and the place in the file before which no block should be tried again.
        """
        if len(self.text) - self.position < self.chunk_size:
            self.read_more()
        start, end = self.position, self.position
        for end in self.find_cuts(min(len(self.text), start + self.chunk_size)):
            values = decode(f"[{self.text[start:end]}]")
            if values:
                self.position = end
                return values, 0
        return None, self.consumed + end

    def find_cuts(self, limit: int) -> Iterator[int]:
        """Yields places before `limit` where a block may end: the end of the list, and the last element that fits."""
        end = self.text.find("}]", self.position, limit)
        if end >= 0:
            yield end + 1
        end = self.text.rfind("{", self.position + 1, limit)
        while end > self.position:
            before = self.text[max(self.position, end - MAX_SPACE) : end].rstrip()
            if before.endswith(",") and (before := before[:-1].rstrip()).endswith("}"):
                yield max(self.position, end - MAX_SPACE) + len(before)
                return
            end = self.text.rfind("{", self.position + 1, end)

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
