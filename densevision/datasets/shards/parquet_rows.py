"""The files in the rows of Parquet files, as Hugging Face stores datasets and as `densevision convert` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from densevision.datasets.shards.listing import SourceFile
from densevision.datasets.shards.naming import fill_template
from densevision.datasets.shards.object_labels import OBJECTS, ObjectLabels
from densevision.datasets.shards.stand_in import Entry
from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.containers import iterate_cells, open_container, open_parquet
from densevision.io.places import Container, Content

__all__ = ["FILES_MARK", "IMAGE_COLUMN", "LABEL_COLUMN", "list_rows"]

FILES_MARK = b"densevision"
"""Key in the metadata of the schema: each row is a file of a folder."""
IMAGE_COLUMN, LABEL_COLUMN = "image", "label_file"
"""Columns of such a file: what is read when it is needed, and what is read when the dataset is opened."""
IMAGE_NAMES = ("image", "img", "pixel_values", "photo")
MASK_NAMES = ("label", "labels", "mask", "masks", "annotation", "segmentation", "segmentation_mask", "semantic_mask")
DEPTH_NAMES = ("depth", "depth_map")
OBJECT_NAMES = (OBJECTS, "annotations")
SUFFIXES = (
    *((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"GIF8", ".gif")),
    *((b"BM", ".bmp"), (b"RIFF", ".webp"), (b"\x93NUMPY", ".npy")),
)
"""First bytes of a content -> suffix of its file."""


def list_rows(
    files: Sequence[SourceFile],
    split: str,
    columns: Mapping[str, str],
    containers: list[Container],
    labels: dict[str, ObjectLabels],
) -> Iterator[Entry]:
    """Lists what the rows of a split hold.

    Args:
        files: The Parquet files of the split.
        split: Folder of the split; "" where the dataset states none.
        columns: As `data.columns`; by default by the names of the columns.
        containers: Takes the files.
        labels: Takes the objects of the split.

    Raises:
        DataError: A file is damaged, or its columns are not understood.
        UsageError: `columns` names a column that there is not.
    """
    row = 0
    for file in files:
        with open_container(file.address) as stream:
            parquet = open_parquet(stream, file.address)
            containers.append(Container("parquet", file.address, file.version))
            schema = parquet.schema_arrow
            if FILES_MARK in (schema.metadata or {}):
                yield from _list_files(parquet, file.address, len(containers) - 1)
                continue
            targets = dict(columns) or _guess_columns(schema, file.address)
            _check_columns(targets, schema, file.address)
            boxes = [name for name, target in targets.items() if target.partition(":")[0] == OBJECTS]
            if boxes and split not in labels:
                labels[split] = ObjectLabels(targets[boxes[0]], _find_class_names(schema, boxes[0]))
            rows = _Rows(parquet, file.address, {name: each for name, each in targets.items() if name not in boxes})
            yield from rows.list_entries(split, row, len(containers) - 1, labels.get(split), boxes)
            row += parquet.metadata.num_rows


class _Rows:
    """The rows of one file, each of which is a sample."""

    def __init__(self, parquet: Any, address: str, templates: Mapping[str, str]):
        self.parquet, self.address, self.templates = parquet, address, templates
        self.suffixes = {name: self._guess_suffix(name) for name in templates}

    def list_entries(
        self, split: str, first: int, container: int, labels: ObjectLabels | None, boxes: list[str]
    ) -> Iterator[Entry]:
        """Yields the files of all rows; adds their objects to `labels`."""
        sides = [name for name in ("width", "height") if boxes and name in self.parquet.schema_arrow.names]
        # The paths of images are a column of their own, so that no image is read.
        read = [*(f"{name}.path" for name in self.templates if self._has_path(name)), *boxes, *sides]
        rows = iterate_cells(self.parquet, read, self.address) if read else iter(())
        for number in range(self.parquet.metadata.num_rows):
            cells = next(rows, {}) if read else {}
            key = f"{first + number:08d}"
            images: dict[str, str] = {}
            for name, template in self.templates.items():
                path = fill_template(template, split, key)
                if "." not in path.rpartition("/")[2]:
                    path += self._get_suffix((cells.get(name) or {}).get("path"), name)
                images.setdefault(key, path)
                yield Entry(path, Content(container, number, -1, name))
            if boxes and labels is not None:
                labels.add(key, cells[boxes[0]], cells)
                labels.name_images(images, split)

    def _has_path(self, name: str) -> bool:
        kind = self.parquet.schema_arrow.field(name).type
        return any(kind.field(index).name == "path" for index in range(kind.num_fields))

    def _get_suffix(self, path: Any, name: str) -> str:
        stated = f".{str(path).rpartition('.')[2].lower()}" if path and "." in str(path) else ""
        return stated if 1 < len(stated) <= 5 and stated[1:].isalnum() else self.suffixes[name]

    def _guess_suffix(self, name: str) -> str:
        """The suffix of the first content of a column."""
        for cells in iterate_cells(self.parquet, [name], self.address, [0] if self.parquet.num_row_groups else []):
            start = (cells[name] or {}).get("bytes") or b""
            return next((suffix for magic, suffix in SUFFIXES if start.startswith(magic)), ".png")
        return ".png"


def _list_files(parquet: Any, address: str, container: int) -> Iterator[Entry]:
    """Yields the files of rows of which each is a file of a folder."""
    schema = parquet.schema_arrow
    if not all(name in schema.names and _holds_bytes(schema.field(name)) for name in (IMAGE_COLUMN, LABEL_COLUMN)):
        raise DataError("has not the columns of files", file=address, field="columns", value=", ".join(schema.names))
    for row, cells in enumerate(iterate_cells(parquet, [f"{IMAGE_COLUMN}.path", LABEL_COLUMN], address)):
        label = cells[LABEL_COLUMN]
        name = (label or cells[IMAGE_COLUMN] or {}).get("path")
        if not isinstance(name, str):
            raise DataError("a file without a path", file=address, field=f"row {row}", value=name)
        yield Entry(name, Content(container, row, -1, IMAGE_COLUMN) if label is None else label["bytes"] or b"")


def _guess_columns(schema: Any, address: str) -> dict[str, str]:
    """Maps the columns of a dataset by their names."""
    images = [name for name in schema.names if _holds_bytes(schema.field(name))]
    objects = [name for name in OBJECT_NAMES if name in schema.names and name not in images]
    photo = next((name for name in IMAGE_NAMES if name in images), images[0] if len(images) == 1 else None)
    masks = [name for name in MASK_NAMES if name in images]
    depths = [name for name in DEPTH_NAMES if name in images]
    if photo is not None and objects:
        return {photo: "{split}/{key}", objects[0]: OBJECTS}
    if photo is not None and masks:
        return {photo: "images/{split}/{key}", masks[0]: "masks/{split}/{key}"}
    if photo is not None and depths:
        return {photo: "{split}/rgb/{key}", depths[0]: "{split}/depth/{key}"}
    if photo is not None and len(images) == 1:
        return {photo: "{split}/{key}"}
    hint = (
        'Set data.columns, such as {image: "images/{split}/{key}", mask: "masks/{split}/{key}"}, or {boxes: objects}.'
    )
    value = ", ".join(schema.names)
    raise DataError("the columns of samples are not known", file=address, field="columns", value=value, hint=hint)


def _check_columns(targets: Mapping[str, str], schema: Any, address: str) -> None:
    for name, target in targets.items():
        if name not in schema.names:
            hint = did_you_mean(name, schema.names)
            raise UsageError("there is no such column", file=address, field="data.columns", value=name, hint=hint)
        if target.partition(":")[0] != OBJECTS and not _holds_bytes(schema.field(name)):
            hint = "Such a column is a struct with `bytes` and `path`."
            value = f"{name}: {schema.field(name).type}"
            raise UsageError("not a column of images", file=address, field="data.columns", value=value, hint=hint)


def _holds_bytes(field: Any) -> bool:
    kind = field.type
    return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))


def _find_class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Names of classes that Hugging Face's metadata states for a column."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(text)["info"]["features"][column] if text else None
    except (ValueError, KeyError, TypeError):
        return ()
    pending = [features]
    while pending:
        value = pending.pop(0)
        if isinstance(value, dict):
            names = value.get("names")
            if isinstance(names, list) and names:
                return tuple(map(str, names))
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return ()
