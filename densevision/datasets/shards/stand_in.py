"""Builds the stand-in folder of a dataset: labels as files, everything else as placeholders."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from densevision.datasets.shards.listing import Listing
from densevision.errors import DataError
from densevision.io.atomic_write import atomic_folder
from densevision.io.content_cache import make_key
from densevision.io.image_files import is_inside
from densevision.io.placeholders import get_stand_in_root, set_limit, write_index
from densevision.io.places import Container, Content

__all__ = ["LABEL_SUFFIXES", "Entry", "StandIn", "is_label", "open_stand_in"]

LABEL_SUFFIXES = frozenset(
    (".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".csv", ".tsv", ".md", ".names", ".labels", ".data", ".calib")
)
"""Suffixes of files that readers parse as a whole when a dataset is opened; they are copied."""
KEPT_DAYS = 30
"""Days without use after which a stand-in folder is removed."""
NOTES = "notes.json"
_warned: set[str] = set()

log = logging.getLogger("densevision")


class Entry(NamedTuple):
    """A file of the dataset.

    Attributes:
        name: Its path in the dataset, with slashes.
        content: What it holds, or where that lies.
    """

    name: str
    content: bytes | Content


class StandIn(NamedTuple):
    """What a stand-in folder is made of.

    Attributes:
        entries: The files, one by one.
        containers: What holds their contents; complete when the entries are.
        notes: What is missing; complete when the entries are.
    """

    entries: Iterable[Entry]
    containers: list[Container]
    notes: list[str]


def is_label(name: str) -> bool:
    """Whether a file is copied whole."""
    return os.path.splitext(name)[1].lower() in LABEL_SUFFIXES


def open_stand_in(listing: Listing, limit: int, list_entries: Callable[[], StandIn], *options: object) -> Path:
    """The stand-in folder of a dataset, which is built where it is not in the cache.

    Args:
        listing: The files of the dataset; where one of them changes, it is another set.
        limit: Size of the cache of contents in bytes.
        list_entries: Lists what the folder is made of.
        options: What that depends on besides the files.

    Raises:
        DataError: A shard is damaged, two files have the same name, or a name leads out of the dataset.
    """
    files = [(file.address, file.size, file.version) for file in (*listing.shards, *listing.files)]
    key = make_key(listing.origin, *options, *files)
    root = get_stand_in_root()
    root.mkdir(parents=True, exist_ok=True)
    folder = root / key
    with FileLock(root / f"{key}.lock"):
        if folder.is_dir():
            set_limit(folder, limit)
        else:
            _remove_unused(root)
            _build(folder, listing, limit, list_entries())
        os.utime(folder)
    _warn(folder, listing.origin)
    return folder / _name_folder(listing)


def _build(folder: Path, listing: Listing, limit: int, stand_in: StandIn) -> None:
    with atomic_folder(folder) as temporary:
        base = temporary / _name_folder(listing)
        base.mkdir()
        indexed = _write_files(base, stand_in.entries, listing.origin)
        write_index(temporary, listing.origin, limit, stand_in.containers, indexed)
        (temporary / NOTES).write_text(json.dumps(stand_in.notes))


def _write_files(base: Path, entries: Iterable[Entry], origin: str) -> Iterator[tuple[str, Content]]:
    """Writes labels and placeholders; yields the placeholders with the places of their contents."""
    folders: set[str] = set()
    for entry in entries:
        if not is_inside(entry.name):
            hint = "Names must be relative paths without `..`."
            raise DataError("the name of a file leads out of the dataset", file=origin, value=entry.name, hint=hint)
        path = os.path.join(base, *entry.name.split("/"))
        parent = os.path.dirname(path)
        if parent not in folders:
            os.makedirs(parent, exist_ok=True)
            folders.add(parent)
        try:
            with open(path, "xb") as stream:
                if isinstance(entry.content, bytes):
                    stream.write(entry.content)
        except FileExistsError:
            hint = "Give parts of samples different files in data.columns, with {split} where shards are of several."
            raise DataError("two files have the same name", file=origin, value=entry.name, hint=hint) from None
        if isinstance(entry.content, Content):
            yield f"{base.name}/{entry.name}", entry.content


def _name_folder(listing: Listing) -> str:
    """The last name of the dataset's path: readers may show or compare it."""
    name = listing.root.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in name if letter.isalnum() or letter in "-_. ").strip(". ")
    return kept or "data"


def _remove_unused(root: Path) -> None:
    oldest = time.time() - 86400 * KEPT_DAYS
    for path in root.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.stat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)


def _warn(folder: Path, origin: str) -> None:
    """Names what is missing, once in each process."""
    if folder.name not in _warned:
        _warned.add(folder.name)
        for note in json.loads((folder / NOTES).read_text()):
            log.warning("%s: %s", origin, note)
