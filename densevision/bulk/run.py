"""Prediction of many images on a Ray cluster, into parquet files; a run that was killed continues where it was."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from densevision.bulk.cluster import Resources, connect_to_ray
from densevision.bulk.destination import FORMATS, Destination
from densevision.bulk.plan import Item, list_items, make_chunks
from densevision.bulk.ray_predictor import (
    PackedWeights,
    RayPredictor,
    find_constants,
    find_kinds,
    open_predictor,
    pack_weights,
)
from densevision.bulk.reading import ImageReader
from densevision.bulk.shard_writer import ShardWriter
from densevision.engines import hash_weights
from densevision.errors import DataError, DenseVisionError, UsageError, did_you_mean
from densevision.inference.predict import check_options
from densevision.inference.predictor import Predictor
from densevision.inference.progress import Progress, hide_progress, show_progress
from densevision.io import remote
from densevision.optional_packages import import_optional
from densevision.results.shards import StoredPrediction, make_schema, read_predictions
from densevision.run_config import PredictOptions

__all__ = ["BulkRun", "predict_bulk"]

ROWS_PER_FILE = {"nms": 500, "blend": 50, "parts": 50}
"""Rows of a shard by how a task merges: boxes are small, maps are large."""
MAX_PASSES = 3
"""How often rows are computed that Ray has lost."""
VERSIONED = ("densevision", "torch", "timm")
LOCAL_OPTIONS = ("device", "on_error")
"""Options that change no prediction."""

log = logging.getLogger("densevision")
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class BulkRun:
    """What a bulk prediction did; iterating reads its predictions.

    Attributes:
        folder: Where the predictions are.
        images: Images of the sources.
        done_before: Of these, those that an earlier run had finished.
        failed: Images without prediction, whose rows say why.
        seconds: Duration of this run.
        kinds: Classes of records of other packages, by name.
    """

    folder: str
    images: int
    done_before: int
    failed: int
    seconds: float
    kinds: Mapping[str, Any]

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[StoredPrediction]:
        return read_predictions(self.folder, self.kinds)

    def __str__(self) -> str:
        speed = (self.images - self.done_before) / max(self.seconds, 1e-9)
        before = f", {self.done_before} done before" if self.done_before else ""
        return f"{self.images} images{before}, {self.failed} failed, {speed:.1f} images/s: {self.folder}"


def predict_bulk(
    source: Any,
    task: str | None = None,
    weights: Any = None,
    *,
    out: PathLike,
    save: str | Sequence[str] = ("parquet",),
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    rows_per_file: int | None = None,
    column: str | None = None,
    timeout: float = remote.TIMEOUT,
    overrides: Mapping[str, Any] | None = None,
    quiet: bool = False,
    **options: Any,
) -> BulkRun:
    """Predicts images on a Ray cluster (extra `ray`); `densevision.predict(..., engine="ray")` leads here.

    What `out` holds already is not computed again, so a killed run is continued by the same call.

    Args:
        source: A path, glob or address (s3://, gs://, hf://datasets/..., file://) of images, folders, WebDataset
            archives (.tar), parquet tables, or lists (.txt); or a list of these.
        task: A name in `TASKS`; needed when no weights are given.
        weights: A file, which may be an exported model, a name, or a predictor; the bundled demo weights by default.
        out: Folder or address of the predictions, which all nodes must see.
        save: What to write besides parquet: "jsonl", "coco" (one file, when all is done), "png" (drawings).
        workers: Copies of the model; by default one per GPU share, or per core without GPUs.
        gpus_per_worker: GPUs of each, also a fraction; by default 1 where the cluster has any, else 0.
        rows_per_file: Predictions in a shard; by default 500, for maps of all pixels 50.
        column: Column of the images in parquet tables; found by name by default.
        timeout: Seconds per attempt to read an image from a store.
        overrides: Dotted names to values of the weights' own config.
        quiet: Suppress the progress bar.
        **options: Options of `predict`; with `on_error="skip"`, images that cannot be read become rows with the error.

    Returns:
        The counts; iterating yields the predictions with their sources.

    Raises:
        UsageError: An option is wrong, or `out` holds a run with other weights, options or versions.
        DataError: A source cannot be read.
        DenseVisionError: `out` cannot be written to.
    """
    begin = time.monotonic()
    sources = _check_sources(source)
    _check_numbers(workers=workers, gpus_per_worker=gpus_per_worker, rows_per_file=rows_per_file, timeout=timeout)
    predictor = open_predictor(task, weights, overrides)
    checked = check_options(predictor, options)
    formats = _check_formats(predictor, (save,) if isinstance(save, str) else tuple(save))
    items = list_items(sources, column)
    _check_names(items, formats)
    destination = Destination(out, find_kinds(predictor))
    destination.start(_describe_run(predictor, checked, overrides, formats))
    done = destination.find_done(formats)
    todo = _select_missing(items, done)
    stages = _Stages(predictor, checked, overrides or {}, destination, formats, timeout)
    stages.rows_per_file = rows_per_file or ROWS_PER_FILE[predictor.task.merge_strategy]
    before = len(items) - len(todo)
    progress = hide_progress if quiet else show_progress
    for _ in range(MAX_PASSES if todo else 0):
        stages.run(todo, workers, gpus_per_worker, progress)
        todo = _select_missing(items, destination.find_done(formats))
        if not todo:
            break
    if todo:
        problem = f"{len(todo)} images have no row after {MAX_PASSES} attempts"
        raise DenseVisionError(problem, file=destination.folder, value=todo[0].source, hint="Run the same call again.")
    if "coco" in formats:
        destination.write_coco()
    failed = destination.count_failures()
    return BulkRun(destination.folder, len(items), before, failed, time.monotonic() - begin, destination.kinds or {})


class _Stages:
    """The pipeline: read and decode on any core, predict on workers, write where the rows are."""

    def __init__(
        self,
        predictor: Predictor,
        options: PredictOptions,
        overrides: Mapping[str, Any],
        destination: Destination,
        formats: Sequence[str],
        timeout: float,
    ):
        self.predictor, self.options, self.overrides = predictor, options, dict(overrides)
        self.destination, self.formats, self.timeout = destination, formats, timeout
        self.rows_per_file = 1

    def run(
        self, items: Sequence[Item], workers: int | None, gpus_per_worker: float | None, progress: Progress
    ) -> None:
        """Computes the rows of these items.

        Raises:
            DataError: An image cannot be read, and `on_error` is "fail".
            DenseVisionError: The destination cannot be written to.
        """
        ray = connect_to_ray()
        resources = Resources(ray, workers, gpus_per_worker)
        spec = next(iter(self.predictor.task.input_spec.values()))
        reader = ImageReader(spec.channels, self.options.max_pixels, self.timeout)
        constants = find_constants(self.predictor, self.options)
        schema = make_schema(self.predictor.task.name, constants, self.destination.kinds)
        writer = ShardWriter(self.destination, schema, self.formats, self.options.on_error)
        dataset = ray.data.from_arrow(make_chunks(items))
        dataset = dataset.map_batches(
            reader, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, num_cpus=resources.task_cpus
        )
        dataset = dataset.map_batches(
            RayPredictor,
            fn_constructor_kwargs=self._get_arguments(ray),
            batch_size=max(self.options.batch, 8),
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=resources.workers),
            num_cpus=resources.worker_cpus,
            num_gpus=resources.gpus,
        )
        dataset = dataset.map_batches(
            writer,
            batch_size=self.rows_per_file,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=resources.task_cpus,
        )
        self._collect(dataset, len(items), progress)

    def _get_arguments(self, ray: Any) -> dict[str, Any]:
        """Constructor arguments of the workers; the weights travel through Ray's store, once per node."""
        fields = PredictOptions.model_fields
        values = self.options.model_dump()
        given = {name: value for name, value in values.items() if value != fields[name].get_default()}
        return {
            "task": self.predictor.task.name,
            "weights": PackedWeights(ray.put(pack_weights(self.predictor).files)),
            "overrides": self.overrides,
            "drawings": "png" in self.formats,
            **given,
            "on_error": "skip",  # the writer decides
        }

    def _collect(self, dataset: Any, count: int, progress: Progress) -> None:
        bar = iter(progress(range(count), "predicting"))
        for summary in _iterate_rows(dataset):
            for _ in range(summary["rows"]):
                next(bar, None)
            if summary["fatal"] is not None:
                raise DenseVisionError(summary["fatal"])
            if summary["failed"] and self.options.on_error == "fail":
                hint = "Use on_error=skip for rows with the error instead."
                raise DataError(summary["error"], file=summary["source"], hint=hint)
        next(bar, None)  # ends the bar, unless rows are absent


def _iterate_rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """The rows of a dataset; what a worker raises is raised as it was there, without Ray's wrapping."""
    try:
        yield from dataset.iter_rows()
    except Exception as error:
        cause: Any = error
        while cause is not None:
            inner = getattr(cause, "cause", None) or cause.__cause__
            if isinstance(cause, DenseVisionError) and not isinstance(inner, DenseVisionError):
                kind = next(each for each in type(cause).__mro__ if each.__module__ == DenseVisionError.__module__)
                raise kind(cause.problem, file=cause.file, field=cause.field, hint=cause.hint) from error
            cause = inner
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DenseVisionError(f"Ray has failed: {reason[-1].strip()}") from error


def _check_sources(source: Any) -> list[str]:
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    for each in sources:
        if not isinstance(each, (str, os.PathLike)):
            hint = "Give paths or addresses: the images are read on other machines."
            raise UsageError("not a path or address", field="source", value=type(each).__name__, hint=hint)
    return [os.fspath(each) for each in sources]


def _check_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        is_valid = value is None or (value >= 0 if name == "gpus_per_worker" else value > 0)
        if not is_valid or (name in ("workers", "rows_per_file") and not isinstance(value, (int, type(None)))):
            raise UsageError("must be a positive number", field=name, value=value)


def _check_formats(predictor: Predictor, formats: Sequence[str]) -> tuple[str, ...]:
    for each in formats:
        if each not in FORMATS:
            raise UsageError("no such format", field="save", value=each, hint=did_you_mean(each, FORMATS))
    if "coco" in formats and not hasattr(predictor.task.Result, "to_coco"):
        problem, hint = f"COCO has no format for {predictor.task.name}", "Use parquet or jsonl."
        raise UsageError(problem, field="save", value="coco", hint=hint)
    return tuple(each for each in FORMATS if each in {"parquet", *formats})


def _check_names(items: Sequence[Item], formats: Sequence[str]) -> None:
    """Refuses two drawings of one name."""
    by_name: dict[str, str] = {}
    for item in items if "png" in formats else ():
        if item.name in by_name:
            problem, hint = f"would overwrite the drawing of {by_name[item.name]}", "Predict them separately."
            raise UsageError(problem, file=item.source, field="save", value="png", hint=hint)
        by_name[item.name] = item.source


def _describe_run(
    predictor: Predictor, options: PredictOptions, overrides: Mapping[str, Any] | None, formats: Sequence[str]
) -> dict[str, Any]:
    supported = predictor.task.supported_options | {"batch", "precision", "max_pixels"}
    values = options.model_dump(mode="json")
    given = {name: values[name] for name in sorted(supported) if name not in LOCAL_OPTIONS}
    return {
        "task": predictor.task.name,
        "weights": hash_weights(predictor),
        "file": None if predictor.file is None else str(predictor.file),
        "options": given,
        "on_error": options.on_error,
        "overrides": dict(overrides or {}),
        "save": list(formats),
        "versions": {name: version(name) for name in VERSIONED},
        "platform": {"python": sys.version.split()[0], "ray": version("ray"), "pyarrow": version("pyarrow")},
    }


def _select_missing(items: Sequence[Item], done: Any) -> list[Item]:
    """The items that are not done."""
    pyarrow = import_optional("pyarrow", "bulk prediction")
    compute = import_optional("pyarrow.compute", "bulk prediction")
    if not len(done):
        return list(items)
    sources = pyarrow.array([item.source for item in items])
    is_done = compute.is_in(sources, value_set=done.combine_chunks())
    return [item for item, done_already in zip(items, is_done.to_pylist()) if not done_already]
