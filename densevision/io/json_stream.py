"""Reads the lists of a large JSON object element by element, in the memory of one element."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TextIO

from densevision.errors import DataError

CHUNK = 1 << 20
"""Characters that are read at a time."""
NUMERIC = ".+-eE0123456789"
"""What may continue a number; the empty end of a window counts among it."""
_skip_space = re.compile(r"[ \t\r\n]*").match


class Element(NamedTuple):
    """One element of a list, or a value that is no list (then `index` is None), under a key of the object."""

    key: str
    index: int | None
    value: Any


def stream_json(path: str | os.PathLike[str], chunk: int = CHUNK) -> Iterator[Element]:
    """Yields what the object in a file holds: each list element by element, any other value whole.

    An empty list yields nothing, so a first element (key, None, []) announces each list.

    Args:
        path: A file that holds one JSON object.
        chunk: Characters that are read at a time.

    Raises:
        DataError: The file cannot be read, is not valid JSON, or holds no object.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            yield from _Scanner(stream, path, chunk).elements()
    except OSError as failure:
        raise DataError(f"cannot be read: {os.strerror(failure.errno or 0)}", file=path) from None
    except UnicodeDecodeError as failure:
        raise DataError(f"is not UTF-8 text, {failure.reason}", file=path, hint="Write the file as UTF-8.") from None


class _Scanner:
    """A window of text that moves over the file; `at` is the position in it."""

    def __init__(self, stream: TextIO, path: str | os.PathLike[str], chunk: int):
        self.stream, self.path, self.chunk = stream, path, chunk
        self.decode = json.JSONDecoder().raw_decode
        self.text, self.at, self.passed = "", 0, 0

    def elements(self) -> Iterator[Element]:
        if self.peek() != "{":
            what = {"": "is empty", "[": "is a JSON list, where an object is expected"}
            raise DataError(what.get(self.peek(), "is not a JSON object"), file=self.path)
        self.at += 1
        for _ in self.separated("}"):
            key = self.value()
            if not isinstance(key, str) or self.peek() != ":":
                raise self.broken("a key is expected")
            self.at += 1
            if self.peek() == "[":
                self.at += 1
                yield Element(key, None, [])
                for index, _ in enumerate(self.separated("]")):
                    yield Element(key, index, self.value())
            else:
                yield Element(key, None, self.value())
        if self.peek():
            raise self.broken("text after the end")

    def separated(self, end: str) -> Iterator[None]:
        """Stops at each of the things between here and `end`, which commas separate."""
        mark = self.peek()
        while mark != end:
            yield
            mark = self.peek()
            if mark == ",":
                self.at += 1
            elif mark != end:
                raise self.broken(f"',' or '{end}' is expected")
        self.at += 1

    def peek(self) -> str:
        """The next character that is no space; nothing at the end of the file."""
        while True:
            self.at = _skip_space(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The value that starts here. One that the window cuts off is tried again with more text."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except (ValueError, RecursionError) as failure:
                if not self.more():
                    raise self.broken(getattr(failure, "msg", str(failure))) from None
                continue
            # "0." at the edge of the window reads as 0 until the window moves on.
            if self.text[end : end + 1] in NUMERIC and self.more():
                continue
            self.at = end
            return value

    def more(self) -> bool:
        """Moves the window forward; it doubles while one value does not fit."""
        rest = self.text[self.at :]
        fresh = self.stream.read(max(self.chunk, len(rest)))
        self.passed += self.at
        self.text, self.at = rest + fresh, 0
        return bool(fresh)

    def broken(self, problem: str) -> DataError:
        problem = f"is not valid JSON, {problem[0].lower()}{problem[1:]}"
        field = f"character {self.passed + self.at + 1}"
        return DataError(problem, file=self.path, field=field, hint="The file may be cut off; write it anew.")
