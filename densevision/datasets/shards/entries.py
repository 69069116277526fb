"""The files of a dataset, from its shards and from remote storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from densevision.datasets.shards.listing import Listing, SourceFile
from densevision.datasets.shards.naming import fill_template, name_splits
from densevision.datasets.shards.object_labels import OBJECTS, ObjectLabels, parse_json_objects
from densevision.datasets.shards.parquet_rows import list_rows
from densevision.datasets.shards.stand_in import LABEL_SUFFIXES, Entry, StandIn, is_label
from densevision.datasets.shards.tar_members import list_members
from densevision.errors import DataError, UsageError
from densevision.io import remote
from densevision.io.places import Container, Content

__all__ = ["list_entries"]

CONNECTIONS = 16
"""Labels that are fetched at a time from remote storage."""


def list_entries(listing: Listing, columns: Mapping[str, str], policy: str) -> StandIn:
    """Lists the files of a dataset.

    Args:
        listing: Its shards and other files.
        columns: As `data.columns`.
        policy: As `data.on_error`.

    Raises:
        DataError: A shard is damaged. Raised while the entries are read, too.
        UsageError: `columns` has no effect, or does not fit the shards.
    """
    if columns and not listing.shards:
        hint = "It names the parts of samples in .tar and .parquet files; leave it out."
        raise UsageError("has no effect without shards", field="data.columns", file=listing.origin, hint=hint)
    containers: list[Container] = []
    notes: list[str] = []
    return StandIn(_iterate(listing, columns, policy, containers, notes), containers, notes)


def _iterate(
    listing: Listing, columns: Mapping[str, str], policy: str, containers: list[Container], notes: list[str]
) -> Iterator[Entry]:
    if listing.files:
        yield from _iterate_files(listing, containers)
    splits = name_splits(shard.name for shard in listing.shards)
    labels: dict[str, ObjectLabels] = {}
    tars = [shard for shard in listing.shards if shard.name.lower().endswith(".tar")]
    for shard in tars:
        containers.append(Container("tar", shard.address, shard.version))
        cut = None if policy == "fail" else notes
        yield from _iterate_tar(shard, splits[shard.name], columns, len(containers) - 1, labels, cut, notes)
    for split in dict.fromkeys(splits.values()):
        files = [shard for shard in listing.shards if shard not in tars and splits[shard.name] == split]
        if files:
            yield from list_rows(files, split, columns, containers, labels)
    for folder, each in labels.items():
        yield Entry(fill_template("{split}/_annotations.coco.json", folder, ""), each.write())


def _iterate_files(listing: Listing, containers: list[Container]) -> Iterator[Entry]:
    """Files that lie one by one: labels are fetched, several at a time."""
    containers.append(Container("file", listing.root))
    labels = [file for file in listing.files if is_label(file.name)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        yield from (Entry(file.name, content) for file, content in zip(labels, pool.map(_read_file, labels)))
    for file in listing.files:
        if not is_label(file.name):
            yield Entry(file.name, Content(0, 0, file.size, f"{file.name}\0{file.version}"))


def _read_file(file: SourceFile) -> bytes:
    if remote.has_scheme(file.address):
        return remote.read_bytes(file.address)
    try:
        return Path(file.address).read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file.address) from None


def _iterate_tar(
    shard: SourceFile,
    split: str,
    columns: Mapping[str, str],
    container: int,
    labels: dict[str, ObjectLabels],
    cut: list[str] | None,
    notes: list[str],
) -> Iterator[Entry]:
    unused: Counter[str] = Counter()
    images: dict[str, str] = {}
    for member in list_members(shard, LABEL_SUFFIXES, cut):
        place: bytes | Content = member.content if member.content is not None else Content(container, *member[1:3])
        if not columns:
            yield Entry(fill_template("{split}/{key}", split, member.name), place)
            continue
        # WebDataset: the key of a sample ends at the first point of the last name.
        folder, _, file = member.name.rpartition("/")
        stem, _, part = file.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        target = columns.get(part.lower())
        if target is None:
            unused[part] += 1
        elif target.partition(":")[0] == OBJECTS:
            objects = labels.setdefault(split, ObjectLabels(target))
            objects.add(key, *parse_json_objects(member.content or b"", shard.name, member.name))
        else:
            yield Entry(fill_template(target, split, key), place)
            images.setdefault(key, fill_template(target, split, key))
    if labels and split in labels:
        labels[split].name_images(images, split)
    if columns and len(unused):
        counts = ", ".join(f"{count} {part or 'without suffix'}" for part, count in sorted(unused.items()))
        notes.append(f"{shard.name}: files that data.columns does not name: {counts}")
