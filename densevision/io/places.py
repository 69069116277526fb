"""Where the content of a file lies: in which container, and at which position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Container", "Content"]


@dataclass(frozen=True)
class Container:
    """What holds contents.

    Attributes:
        kind: "file": each content is a file below `address`; "tar": a range of bytes; "parquet": a cell of a column.
        address: A path or an address.
        version: What changes when it does.
    """

    kind: Literal["file", "tar", "parquet"]
    address: str
    version: str = ""


@dataclass(frozen=True)
class Content:
    """Where the content of a file lies.

    Attributes:
        container: Index of its container.
        start: First byte in a tar; row in a Parquet file.
        size: Bytes; -1 where unknown.
        part: Column in a Parquet file; name and version of a file.
    """

    container: int
    start: int = 0
    size: int = -1
    part: str = ""
