"""Predictions in parquet files, as the files that scoring pairs with the ground truth by their names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from densevision.errors import DataError
from densevision.io.image_files import is_inside
from densevision.results import DepthMap, FlowField, Image, Result, SemanticMap
from densevision.results.shards import list_shards, read_predictions

__all__ = ["open_predictions"]

SUFFIXES: tuple[tuple[type[Result], str], ...] = (
    (SemanticMap, ".labels.png"),
    (DepthMap, ".npz"),
    (FlowField, ".npy"),
    (Image, ".png"),
)
"""The format that scoring reads, as `predict` writes it; records of objects are `.json`."""


@contextmanager
def open_predictions(predictions: Path) -> Iterator[Path]:
    """Provides predictions as files: the given ones, or those of the shards of a bulk prediction in a temporary folder.

    Rows without prediction are left out, so that their images count as images without prediction.

    Args:
        predictions: A folder, which may hold `part-*.parquet`.

    Raises:
        DataError: A shard is damaged, or no row has a prediction.
    """
    if not list_shards(predictions):
        yield predictions
        return
    with tempfile.TemporaryDirectory() as temporary:
        count = 0
        for row in read_predictions(predictions):
            if row.result is None:
                continue
            if not is_inside(row.name):
                raise DataError("a name that leads out of the folder", file=predictions, field="name", value=row.name)
            path = Path(temporary, f"{row.name}{_get_suffix(row.result)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            row.result.save(path)
            count += 1
        if not count:
            raise DataError("no row has a prediction", file=predictions, hint="The column error says why.")
        yield Path(temporary)


def _get_suffix(result: Result) -> str:
    return next((suffix for kind, suffix in SUFFIXES if isinstance(result, kind)), ".json")
