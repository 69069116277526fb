"""Shards of bulk predictions: parquet files with boxes, masks, PNGs and NumPy files."""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from densevision.ops.masks import encode
from densevision.results import DepthMap, Instances, Result, SemanticMap
from densevision.results.columns import describe_constants, encode_cells
from densevision.results.shards import encode_shard, make_schema, read_predictions
from fuzzing.reader import Reader

SIZE = (12, 16)
RAMP = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))


def make_shard(record: Result) -> bytes:
    """A shard with a prediction and a failure."""
    import pyarrow

    row = {"source": "a.jpg", "name": "a", "sha256": "0", "width": SIZE[1], "height": SIZE[0], "error": None}
    failure = dict.fromkeys(row) | {"source": "b.jpg", "name": "b", "error": "broken"}
    schema = make_schema("any", describe_constants(record))
    return encode_shard(pyarrow.Table.from_pylist([row | encode_cells(record), failure], schema=schema))


def make_seeds() -> dict[str, bytes]:
    """One shard for each kind of cells."""
    masks = (encode(RAMP > 9), encode(RAMP % 3 == 0))
    boxes = np.array([[1, 2, 3, 4], [0, 0, 9, 9]], np.float32)
    scores, labels = np.array([0.5, 0.25], np.float32), np.array([0, 1])
    records: dict[str, Result] = {
        "objects": Instances(boxes=boxes, scores=scores, labels=labels, names=("a", "b"), masks=masks, size=SIZE),
        "semantic": SemanticMap(labels=(RAMP % 2).astype(np.uint8), names=("a", "b"), size=SIZE),
        "depth": DepthMap(depth=RAMP.astype(np.float32), size=SIZE),
    }
    return {f"{name}.parquet": make_shard(record) for name, record in records.items()}


def read_shard_file(path: Path, rng: random.Random) -> Sequence[str]:
    for row in read_predictions(path):
        if row.result is not None:
            row.result.to_dict()
            row.result.overlay(np.zeros((*row.result.size, 3), np.uint8))
    return ()


READERS = [Reader("shards", make_seeds(), read_shard_file)] if find_spec("pyarrow") else []
