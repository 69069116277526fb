"""The lists of a large COCO JSON, kept in the cache folder until the file changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.formats.coco_lists import CocoLists, read_lists
from densevision.io.array_index import read_index, write_index
from densevision.io.box_table import RECORD, StringArray
from densevision.io.file_cache import read_state
from densevision.io.label_issues import LabelIssues

__all__ = ["MIN_INDEXED_BYTES", "read_indexed_lists"]

MIN_INDEXED_BYTES = 1 << 22
"""Smaller files are read in a moment."""
VERSION = 1
"""Changes with the meaning of the arrays, and with what `read_lists` accepts."""
_COLUMNS = {"ids": np.int64, "heights": np.int32, "widths": np.int32, "image_origin": np.int32}


def read_indexed_lists(file: Path, issues: LabelIssues) -> CocoLists:
    """Reads the lists of a COCO JSON as `read_lists` does: a large unchanged file from its index.

    A file in which anything was reported has no index, so that it is reported each time.

    Args:
        file: The JSON.
        issues: Reports entries with a missing value or one of a wrong type.

    Raises:
        DataError: As `read_lists`.
    """
    state = read_state(file)
    if state is None or state[1] < MIN_INDEXED_BYTES:
        return read_lists(file, issues)
    subject, key = f"COCO JSON {os.path.abspath(file)}", {"version": VERSION, "modified": state[0], "bytes": state[1]}
    arrays = read_index(subject, key)
    lists = None if arrays is None else _unpack(file, arrays)
    if lists is None:
        reported = issues.counts.total()
        lists = read_lists(file, issues)
        if issues.counts.total() == reported and read_state(file) == state:
            write_index(subject, key, _pack(lists))
    return lists


def _pack(lists: CocoLists) -> dict[str, np.ndarray]:
    categories = np.frombuffer(json.dumps(lists.categories).encode(), np.uint8)
    columns = {name: getattr(lists, name) for name in (*_COLUMNS, "records", "annotation_ids")}
    return {"names": lists.files.blob, "name_offsets": lists.files.offsets, "categories": categories, **columns}


def _unpack(file: Path, arrays: dict[str, Any]) -> CocoLists | None:
    """Returns the lists of an index; None if its arrays do not fit one another."""
    try:
        files = StringArray(arrays["names"], arrays["name_offsets"])
        columns = {name: arrays[name] for name in _COLUMNS}
        records, annotation_ids = arrays["records"], arrays["annotation_ids"]
        categories = json.loads(arrays["categories"].tobytes())
    except (KeyError, ValueError):
        return None
    is_sound = all(column.shape == (len(files),) and column.dtype == _COLUMNS[name] for name, column in columns.items())
    is_sound &= records.dtype == RECORD and annotation_ids.shape == records.shape and isinstance(categories, list)
    if not is_sound:
        return None
    return CocoLists(file, files, **columns, records=records, annotation_ids=annotation_ids, categories=categories)
