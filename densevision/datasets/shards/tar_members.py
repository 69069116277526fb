"""The files in a tar, by position; WebDataset's shards are such tars."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from densevision.datasets.shards.listing import SourceFile
from densevision.errors import DataError
from densevision.io.containers import open_container

__all__ = ["TarMember", "list_members"]


class TarMember(NamedTuple):
    """A file in a tar.

    Attributes:
        name: Its path.
        start: Its first byte in the tar.
        size: Bytes.
        content: Its content, if it was asked for.
    """

    name: str
    start: int
    size: int
    content: bytes | None = None


def list_members(shard: SourceFile, reads: set[str] | frozenset[str], notes: list[str] | None) -> Iterator[TarMember]:
    """Lists the regular files of a tar; memory does not grow with their number.

    Args:
        shard: The tar.
        reads: Suffixes of files whose content is read at once.
        notes: Takes a line where the tar is cut short; None raises an error.

    Raises:
        DataError: It is no tar, or it is cut short and `notes` is None.
    """
    position = 0
    hint = "Download or write the shard again, or leave it out; data.on_error=skip uses what it still holds."
    with open_container(shard.address) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                    position = member.offset_data + member.size
                    if member.isreg() and not member.issparse():
                        suffix = member.name[member.name.rfind(".") :].lower()
                        content = _read(archive, member) if suffix in reads else None
                        yield TarMember(member.name.removeprefix("./"), member.offset_data, member.size, content)
                is_complete = _ends_properly(archive, position)
        except tarfile.ReadError as error:
            if not position:
                raise DataError(f"not an uncompressed tar: {error}", file=shard.address, hint=hint) from None
            is_complete = False
    if not is_complete:
        if notes is None:
            raise DataError("the tar is cut short", file=shard.address, hint=hint)
        notes.append(f"{shard.name} is cut short: files after the cut are missing")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    content = stream.read() if stream is not None else b""
    if len(content) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _ends_properly(archive: tarfile.TarFile, end: int) -> bool:
    """Whether the last file is whole, and a block of zeros marks the end of the tar."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(-(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    return stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
