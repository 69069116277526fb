"""A model as a stage of a Ray Data pipeline: batches with images in, batches with predictions out."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densevision.bulk.reading import unpack_image
from densevision.errors import DataError, UsageError
from densevision.inference.predict import check_options, predict_samples
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.io.image import convert_channels, load_image
from densevision.loading import configure_predictor, copy_predictor
from densevision.optional_packages import import_optional
from densevision.results import Result
from densevision.results.columns import describe_constants, encode_cells, list_columns
from densevision.results.shards import parse_type
from densevision.run_config import PredictOptions
from densevision.sample import Sample

__all__ = ["PackedWeights", "RayPredictor", "find_constants", "find_kinds", "open_predictor", "pack_weights"]

BLANK_SIZE = (32, 32)
"""Size in pixels of the image whose prediction shows which columns there are."""


@dataclass(frozen=True)
class PackedWeights:
    """The files of weights, for nodes that do not see them.

    Attributes:
        files: Name -> content, of which the first one is opened; or a reference to them in Ray's store.
    """

    files: Any

    def load(self) -> Mapping[str, bytes]:
        """The files."""
        return self.files if isinstance(self.files, Mapping) else import_optional("ray", "engine=ray").get(self.files)


class RayPredictor:
    """Predicts the batches of `ray.data.Dataset.map_batches`; give the class itself, and Ray starts it on each worker.

    Args:
        task: A name in `TASKS`; needed when no weights are given.
        weights: A file that every node sees, which may be an exported model, a name, a predictor, or `PackedWeights`.
        column: The column of images: arrays (H, W, C) in RGB, contents of image files, or paths.
        overrides: Dotted names to values of the weights' own config.
        drawings: Add a column `png` with the drawing of each prediction as the content of a file.
        on_error: "fail" raises at an image that cannot be read; "skip" gives a row whose column `error` says why.
        **options: Options of `predict`.

    Raises:
        UsageError: The task does not support an option, or takes several images at a time.
        WeightsError: The weights cannot be used.
    """

    def __init__(
        self,
        task: str | None = None,
        weights: Any = None,
        *,
        column: str = "image",
        overrides: Mapping[str, Any] | None = None,
        drawings: bool = False,
        on_error: str = "fail",
        **options: Any,
    ):
        self.predictor = open_predictor(task, weights, overrides)
        self.options: PredictOptions = check_options(self.predictor, {**options, "on_error": on_error})
        self.column, self.drawings, self.on_error = column, drawings, on_error
        self.columns = list_columns(find_constants(self.predictor, self.options), find_kinds(self.predictor))

    def __call__(self, batch: Any) -> Any:
        """Predicts a batch.

        Args:
            batch: A dictionary of arrays or lists, or an Arrow table.

        Returns:
            An Arrow table: the columns of the batch without the images, then width, height, error and those of the
            predictions (`densevision.results.columns`), and `png` if that was requested.

        Raises:
            DataError: An image cannot be read.
        """
        pyarrow = import_optional("pyarrow", "RayPredictor")
        columns = batch if isinstance(batch, Mapping) else {name: batch[name] for name in batch.column_names}
        if self.column not in columns:
            raise UsageError("no such column", field="column", value=self.column, hint=f"Has {[*columns]}.")
        count = len(columns[self.column])
        errors = columns["error"].to_pylist() if "error" in columns else [None] * count
        samples = self._load(columns[self.column], errors)
        rows = self._predict(samples, count)
        added = {"width": "int32", "height": "int32", **self.columns, **({"png": "binary"} if self.drawings else {})}
        kept = {name: _to_arrow(value) for name, value in columns.items() if name not in (self.column, "error")}
        kept["error"] = pyarrow.array(errors, pyarrow.string())
        for name, kind in added.items():
            kept[name] = pyarrow.array([row.get(name) for row in rows], parse_type(kind))
        return pyarrow.Table.from_pydict(kept)

    def _load(self, images: Any, errors: list[str | None]) -> dict[int, Sample]:
        """Row -> image; `errors` gets why a row has none."""
        spec = next(iter(self.predictor.task.input_spec.values()))
        samples = {}
        for row, cell in enumerate(images):
            try:
                pixels = _load_cell(cell, self.options.max_pixels)
                if pixels is None:
                    errors[row] = errors[row] or "no image"
                    continue
                convert_channels(pixels[:1, :1], spec.channels)
            except DataError as error:
                if self.on_error == "fail":
                    raise
                errors[row] = error.problem
                continue
            samples[row] = Sample({"image": pixels}, None, row)
        name = next(iter(self.predictor.task.input_spec))
        return {row: replace(sample, images={name: sample.images["image"]}) for row, sample in samples.items()}

    def _predict(self, samples: Mapping[int, Sample], count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        for sample, result in predict_samples(self.predictor, samples.values(), self.options):
            height, width = sample.size
            cells = {"width": width, "height": height, **encode_cells(result)}
            if self.drawings:
                cells["png"] = _draw(replace(result, source=next(iter(sample.images.values()))))
            rows[int(sample.id)] = cells
        return rows


def open_predictor(task: str | None, weights: Any, overrides: Mapping[str, Any] | None = None) -> Predictor:
    """Opens weights as `densevision.predict` does, also packed ones.

    Raises:
        UsageError: The task takes several images at a time.
        WeightsError: The weights cannot be used.
    """
    if isinstance(weights, PackedWeights):
        files = weights.load()
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            predictor = copy_predictor(Path(folder) / next(iter(files)), task)
    else:
        predictor = copy_predictor(weights, task)
    configure_predictor(predictor, overrides or {})
    inputs = [name for name, spec in predictor.task.input_spec.items() if spec.kind == "image"]
    if len(inputs) > 1:
        problem = f"predictions of {len(inputs)} images at a time cannot be distributed by Ray"
        raise UsageError(problem, field="engine", value=predictor.task.name, hint="Use predict without engine=ray.")
    return predictor


def pack_weights(predictor: Predictor) -> PackedWeights:
    """The files of a predictor."""
    if not isinstance(predictor, TorchPredictor) and predictor.file is not None:
        files = [predictor.file, predictor.file.with_suffix(".bin")]
        return PackedWeights({file.name: file.read_bytes() for file in files if file.is_file()})
    assert isinstance(predictor, TorchPredictor)  # all others are files
    predictor = copy.copy(predictor)
    predictor.card = predictor.card.replace(config=predictor.task.config.to_dict())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        predictor.save(path)
        return PackedWeights({path.name: path.read_bytes()})


def find_constants(predictor: Predictor, options: PredictOptions) -> dict[str, Any]:
    """What all predictions share, from that of a blank image; see `results.columns.describe_constants`."""
    name, spec = next(iter(predictor.task.input_spec.items()))
    blank = Sample({name: np.zeros((*BLANK_SIZE, spec.channels), np.uint8)})
    ((_, result),) = predict_samples(predictor, [blank], options)
    return describe_constants(result)


def find_kinds(predictor: Predictor) -> dict[str, type[Result]]:
    """The class of the predictions by name, which may be that of another package."""
    return {predictor.task.Result.__name__: predictor.task.Result}


def _load_cell(cell: Any, max_pixels: int) -> np.ndarray | None:
    if cell is None:
        return None
    if hasattr(cell, "as_py"):  # a cell of an Arrow table: packed by ImageReader, or anything of the user's
        is_packed = getattr(cell, "type", None) is not None and str(cell.type).startswith("struct<data:")
        return unpack_image(cell) if is_packed else _load_cell(cell.as_py(), max_pixels)
    return load_image(cell, max_pixels)


def _draw(result: Result) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return result.save(Path(folder) / "drawing.png").read_bytes()


def _to_arrow(values: Any) -> Any:
    pyarrow = import_optional("pyarrow", "RayPredictor")
    if isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        return values
    return pyarrow.array(values.tolist() if isinstance(values, np.ndarray) else list(values))
