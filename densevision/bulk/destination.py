"""The folder of a bulk prediction: its manifest, its complete shards, and what they hold already.

A shard appears whole or not at all, and has each of its rows once. A run that continues another computes what no shard
holds; a shard that a worker of a killed run wrote late loses the rows that others have.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from densevision.errors import DenseVisionError, UsageError
from densevision.io import remote
from densevision.io.atomic_write import write_bytes as write_local
from densevision.io.json_writer import to_json_value
from densevision.optional_packages import import_optional
from densevision.results import Result
from densevision.results.shards import encode_shard, list_shards, read_column, read_shard

__all__ = ["FORMATS", "MANIFEST", "Destination"]

MANIFEST = "manifest.json"
RUN = "run.txt"
"""The file that names the run that may write: workers that a killed run left behind find another name, and stop."""
FORMATS = ("parquet", "jsonl", "coco", "png")
"""What can be saved; parquet always is, because it says what is done."""
COMPARED = ("task", "weights", "options", "overrides", "versions", "save")
"""Entries of the manifest that must be equal for a run to continue."""


class Destination:
    """A folder, by its path or address, which all nodes must see.

    Args:
        folder: The folder.
        kinds: Classes of records of other packages, by name.
    """

    def __init__(self, folder: str | os.PathLike[str], kinds: Mapping[str, type[Result]] | None = None):
        name = os.fspath(folder)
        self.is_remote = remote.has_scheme(name)
        self.folder = name.rstrip("/") if self.is_remote else os.path.abspath(name)
        self.run, self.kinds = "", kinds

    def place(self, name: str) -> str:
        """The path or address of a file."""
        return remote.join_address(self.folder, name) if self.is_remote else os.path.join(self.folder, name)

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Begins a run, or continues the one whose manifest is there.

        Raises:
            UsageError: The folder holds other files, or a run with other weights, options or versions.
        """
        plain = json.loads(json.dumps(to_json_value(dict(manifest))))
        present = self.read_manifest()
        if present is None:
            if list_shards(self.folder):
                hint = "Choose a new folder."
                raise UsageError("holds predictions of unknown origin", file=self.folder, field="out", hint=hint)
            self.write(MANIFEST, (json.dumps(plain, indent=1) + "\n").encode())
        else:
            _compare_manifests(self.folder, present, plain)
        self.run = uuid.uuid4().hex
        self.write(RUN, self.run.encode())

    def read_manifest(self) -> dict[str, Any] | None:
        """What the folder says about its run; None where there is none."""
        data = self.read(MANIFEST)
        return None if data is None else json.loads(data)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        place = self.place(name)
        if self.is_remote:
            return remote.read_bytes(place) if remote.exists(place) else None
        return Path(place).read_bytes() if Path(place).is_file() else None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all.

        Raises:
            DenseVisionError: The folder is full, or refuses.
        """
        if self.is_remote:
            remote.write_bytes(self.place(name), data)
        else:
            write_local(self.place(name), data)

    def check_run(self) -> None:
        """Raises DenseVisionError unless this node sees the folder, and no other run has begun in it."""
        found = self.read(RUN)
        if found is None:
            hint = "Give a folder that all nodes share, or an address such as s3://..."
            raise DenseVisionError("a worker does not see this folder", file=self.folder, hint=hint)
        if found.decode() != self.run:
            raise DenseVisionError("another run has begun in this folder", file=self.folder)

    def write_shard(self, table: Any, save: Sequence[str]) -> str:
        """Writes rows: first the files that belong to them, then the shard that says that they are done.

        Args:
            table: An Arrow table with the columns of `results.shards.make_schema`, and `png` if that is saved.
            save: Names of `FORMATS`.

        Returns:
            The name of the shard, which follows from its sources: written twice, it is one file.
        """
        sources = "\n".join(sorted(table["source"].to_pylist()))
        stem = f"part-{hashlib.sha256(sources.encode()).hexdigest()[:16]}"
        if "png" in save:
            for name, drawing in zip(table["name"].to_pylist(), table["png"].to_pylist()):
                if drawing is not None:
                    self.write(f"{name}.png", drawing)
            table = table.drop_columns(["png"])
        data = encode_shard(table)
        self.check_run()
        if "jsonl" in save:
            self.write(f"{stem}.jsonl", self._encode_lines(stem, data))
        self.write(f"{stem}.parquet", data)
        return f"{stem}.parquet"

    def find_done(self, save: Sequence[str] = ()) -> Any:
        """The sources of all complete shards, each once, as an Arrow array; rows that two shards hold are removed."""
        pyarrow = import_optional("pyarrow", "bulk prediction")
        compute = import_optional("pyarrow.compute", "bulk prediction")
        shards = list_shards(self.folder)
        parts = [read_column(shard, "source") for shard in shards]
        chunks = [chunk for part in parts for chunk in part.chunks]
        done = pyarrow.chunked_array(chunks, pyarrow.string())
        if len(compute.unique(done)) == len(done):
            return done
        self._remove_repetitions(shards, [set(part.to_pylist()) for part in parts], save)
        return self.find_done(save)

    def _remove_repetitions(self, shards: Sequence[str], sources: Sequence[set[str]], save: Sequence[str]) -> None:
        seen: set[str] = set()
        for shard, own in zip(shards, sources):
            if own & seen:
                kept = _select_rows(shard, own - seen)
                if kept.num_rows:
                    self.write_shard(kept, [each for each in save if each != "png"])
                self._remove(shard)
                if "jsonl" in save:
                    self._remove(f"{shard.removesuffix('.parquet')}.jsonl")
            seen |= own

    def _remove(self, file: str) -> None:
        if self.is_remote:
            remote.remove_file(file)
        else:
            Path(file).unlink(missing_ok=True)

    def count_failures(self) -> int:
        """Rows without prediction."""
        errors = (read_column(shard, "error") for shard in list_shards(self.folder))
        return sum(len(column) - column.null_count for column in errors)

    def write_coco(self) -> str:
        """Writes predictions.json: images, categories and annotations with scores in COCO's format, from all shards."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        categories: list[dict[str, Any]] = []
        for row in sorted(self._iterate_rows(), key=lambda row: row[0]):
            source, name, sha256, size, entries, names = row
            image = {"id": len(images) + 1, "file_name": name, "source": source, "sha256": sha256}
            images.append(image | ({} if size is None else {"height": size[0], "width": size[1]}))
            categories = categories or names
            annotations += [
                {"id": len(annotations) + n, **e, "image_id": image["id"]} for n, e in enumerate(entries, 1)
            ]
        content = {"images": images, "categories": categories, "annotations": annotations}
        self.write("predictions.json", json.dumps(content, allow_nan=False).encode())
        return self.place("predictions.json")

    def _encode_lines(self, shard: str, data: bytes) -> bytes:
        """One JSON object per row: source, sha256, and the record as `to_dict` has it, or the error."""
        lines = []
        for row in read_shard(shard, self.kinds, data):
            body = {"error": row.error} if row.result is None else row.result.to_dict()
            lines.append(json.dumps({"source": row.source, "sha256": row.sha256, **body}, allow_nan=False) + "\n")
        return "".join(lines).encode()

    def _iterate_rows(self) -> Iterator[tuple[Any, ...]]:
        for shard in list_shards(self.folder):
            for row in read_shard(shard, self.kinds):
                result: Any = row.result
                entries = [] if result is None else result.to_coco()
                ids = [] if result is None else getattr(result, "category_ids", None) or range(1, 1 + len(result.names))
                names = [] if result is None else [{"id": i, "name": n} for i, n in zip(ids, result.names)]
                yield row.source, row.name, row.sha256, row.size, entries, names


def _select_rows(shard: str, sources: set[str]) -> Any:
    pyarrow = import_optional("pyarrow", "bulk prediction")
    parquet = import_optional("pyarrow.parquet", "bulk prediction")
    table = parquet.read_table(remote.open_file(shard) if remote.has_scheme(shard) else shard)
    return table.filter(pyarrow.array([source in sources for source in table["source"].to_pylist()]))


def _compare_manifests(folder: str, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for entry in COMPARED:
        before, after = present.get(entry), wanted.get(entry)
        if before == after:
            continue
        names = [f"{entry}.{name}" for name in _list_differences(before, after)] or [entry]
        problem = f"holds a run with another {entry}"
        hint = f"Before: {_describe(before, after)}. Continue with that, or choose a new folder."
        raise UsageError(problem, file=folder, field=", ".join(names), value=_describe(after, before), hint=hint)


def _list_differences(before: Any, after: Any) -> list[str]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _describe(value: Any, other: Any) -> Any:
    """The part of a value that differs from another one."""
    return {name: value.get(name) for name in _list_differences(value, other)} if isinstance(value, dict) else value
