"""Datasets in tars and Parquet files, whose stand-in folder is in a cache of its own."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pyarrow
from pyarrow import parquet

from fuzzing.images import FILES, SIZE
from fuzzing.labels import read_as
from fuzzing.reader import Reader

LABELS = b"0 0.5 0.5 0.2 0.2\n"
MEMBERS = {
    "classes.txt": b"cat\n",
    **{f"images/{stem}.png": FILES["rgb.png"] for stem in "ab"},
    **{f"labels/{stem}.txt": LABELS for stem in "ab"},
}


def make_tar() -> bytes:
    """Two images with YOLO labels."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def make_parquet() -> bytes:
    """Two images with objects, as Hugging Face stores them."""
    objects = {"bbox": [[1.0, 1.0, SIZE[1] / 2, SIZE[0] / 2]], "category": [0]}
    rows = [{"image": {"bytes": FILES["rgb.png"], "path": f"{stem}.png"}, "objects": objects} for stem in "ab"]
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    return stream.getvalue()


def read(path: Path, rng: random.Random) -> Sequence[str]:
    """Opens the shard with an empty cache."""
    cache = path.parent / ".cache"
    shutil.rmtree(cache, ignore_errors=True)
    with patch.dict(os.environ, {"DENSEVISION_CACHE": str(cache)}):
        return read_as("detection", file=True)(path, rng)


READERS = [
    Reader("dataset_tar", {"set.tar": make_tar()}, read),
    Reader("dataset_parquet", {"set.parquet": make_parquet()}, read),
]
