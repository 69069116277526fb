"""Prediction: a source in, results out, with memory bounded by the batch, the tile and the frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, did_you_mean
from densevision.inference.read_ahead import read_ahead
from densevision.inference.sliding_window import choose_tile, predict_blended
from densevision.inference.sources import Source, open_source
from densevision.inference.tracking import follow_objects
from densevision.inference.tta import make_tta_views
from densevision.results import Result
from densevision.run_config import COMMON_OPTIONS, PredictOptions
from densevision.sample import Sample
from densevision.sequence_options import SequenceOptions, split_sequence_options

if TYPE_CHECKING:
    from densevision.inference.predictor import Predictor

__all__ = ["ResultStream", "check_options", "predict", "predict_samples"]


class ResultStream(Iterator[Result]):
    """The results of a source, computed one by one.

    Attributes:
        fps: Frames per second that a video or stream states, or None.
        is_live: Whether frames are taken as they come: those that come faster than they are predicted are dropped.
    """

    def __init__(self, results: Iterator[Result], source: Source):
        self._results = results
        self.fps, self.is_live = source.fps, source.is_live

    def __next__(self) -> Result:
        return next(self._results)

    def close(self) -> None:
        """Ends the iteration and closes the source."""
        close = getattr(self._results, "close", None)
        if close is not None:
            close()


def predict(predictor: Predictor, source: Any, stream: bool = False, **options: Any) -> Any:
    """Predicts a source: one image gives one result, a list or folder a list, a video or `stream` an iterator.

    Args:
        predictor: The model.
        source: See `sources.open_source`.
        stream: Return an iterator for any source.
        **options: Fields of `PredictOptions` and `SequenceOptions`.

    Raises:
        UsageError: The task does not support an option.
        DataError: The source cannot be read.
    """
    sequence, others = split_sequence_options(options)
    checked = check_options(predictor, others)
    _check_tracking(predictor, sequence)
    skips = checked.on_error == "skip"
    opened = open_source(source, predictor.task.input_spec, checked.max_pixels, skips, sequence)
    _check_sequence(opened, sequence)
    # A live source is read when its frame is needed: one that was read ahead would be old by then.
    samples = opened.samples if opened.kind == "single" or opened.is_live else read_ahead(opened.samples)
    pairs = predict_samples(predictor, islice(samples, sequence.max_frames), checked)
    if sequence.track is not None:
        pairs = follow_objects(pairs, sequence.track, sequence.track_options, opened.fps)
    results = _drop_samples(pairs, samples)
    if stream or opened.kind == "stream":
        return ResultStream(results, opened)
    return next(results) if opened.kind == "single" else list(results)


def _drop_samples(pairs: Iterator[tuple[Sample, Result]], samples: Iterable[Sample]) -> Iterator[Result]:
    """The results alone; at their end, also an early one, the source is closed."""
    try:
        for _, result in pairs:
            yield result
    finally:
        close = getattr(samples, "close", None)
        if close is not None:
            close()


def _check_tracking(predictor: Predictor, options: SequenceOptions) -> None:
    """Refuses to track where there are no objects, and options of a tracker without one.

    Raises:
        UsageError: The option has no effect.
    """
    if options.track is not None and not predictor.task.config.is_trackable:
        hint = "Detection and instance have objects."
        raise UsageError(f"is not supported by {predictor.task.name}", field="track", value=options.track, hint=hint)
    if options.track is None and options.track_options:
        raise UsageError("has no effect without track", field="track_options", value=options.track_options)


def _check_sequence(source: Source, options: SequenceOptions) -> None:
    """Refuses options of sequences on a single image, and those of videos on images.

    Raises:
        UsageError: An option has no effect.
    """
    if source.kind == "single" and options.track is not None:
        hint = "Give a video, a stream, or a folder of frames."
        raise UsageError("has no effect on a single image", field="track", value=options.track, hint=hint)
    if source.kind != "stream" and options.max_frames is not None:
        problem = "has no effect: the source is neither a video nor a stream"
        raise UsageError(problem, field="max_frames", value=options.max_frames)


def check_options(predictor: Predictor, options: Mapping[str, Any]) -> PredictOptions:
    """Merges options into the predictor's defaults; an option without effect is an error.

    Args:
        predictor: The model.
        options: Fields of `PredictOptions`; None means not given.

    Raises:
        UsageError: An option does not exist, or has no effect on this task or with the other options.
    """
    task = predictor.task
    supported = COMMON_OPTIONS | task.supported_options
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in PredictOptions.model_fields:
            raise UsageError("no such option of predict", field=name, value=value, hint=did_you_mean(name, supported))
        if name not in supported and value != PredictOptions.model_fields[name].default:
            hint = f"Supported: {', '.join(sorted(supported))}."
            raise UsageError(f"is not supported by {task.name}", field=name, value=value, hint=hint)
    merged = PredictOptions.from_dict({**predictor.options.model_dump(), **given})
    if merged.tile is None and "overlap" in given:
        raise UsageError("has no effect without tile", field="overlap", value=merged.overlap)
    for transform in merged.tta:
        if transform not in task.tta_transforms:
            hint = f"Supported: {', '.join(sorted(task.tta_transforms))}."
            raise UsageError(f"is not supported by {task.name}", field="tta", value=transform, hint=hint)
    for name in ("warm_start", "forward_backward"):
        if getattr(merged, name) and predictor.is_exported:
            hint = "Use the weights that it was exported from."
            raise UsageError("is not supported by exported files", field=name, value=True, hint=hint)
    if merged.warm_start and (merged.tile or merged.tta or merged.batch > 1):
        raise UsageError("cannot be combined with tile, tta or batch", field="warm_start", value=True)
    return merged


def predict_samples(
    predictor: Predictor, samples: Iterable[Sample], options: PredictOptions
) -> Iterator[tuple[Sample, Result]]:
    """Yields samples with their results, in order; at most one batch is in memory here."""
    if options.warm_start:
        yield from _predict_sequence(predictor, samples, options)
        return
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == options.batch:
            yield from _predict_chunk(predictor, chunk, options)
            chunk = []
    yield from _predict_chunk(predictor, chunk, options)


def _predict_sequence(
    predictor: Predictor, samples: Iterable[Sample], options: PredictOptions
) -> Iterator[tuple[Sample, Result]]:
    """Predicts one sample after the other; each starts from the previous result, unless the size changes."""
    previous: Result | None = None
    for sample in samples:
        start = previous if previous is not None and previous.size == sample.size else None
        (previous,) = predictor.predict_batch([sample], options, start)
        yield sample, replace(predictor.task.restore_metadata(previous, sample), source=_get_source(sample))


def _predict_chunk(
    predictor: Predictor, chunk: list[Sample], options: PredictOptions
) -> Iterator[tuple[Sample, Result]]:
    tasks = list(predictor.task.parts.values()) or [predictor.task]
    chunk_options = [choose_tile(task, sample.size, options) for sample in chunk for task in tasks]
    if any(each.tile is not None or each.tta for each in chunk_options):
        results = [_predict_merged(predictor, sample, options) for sample in chunk]
    else:
        results = _predict_by_size(predictor, chunk, options)
    for sample, result in zip(chunk, results):
        yield sample, replace(result, source=_get_source(sample))


def _get_source(sample: Sample) -> Any:
    """What the result is drawn on: the file, so that a list of results holds no images, or else the image."""
    return sample.file if Path(sample.file).is_file() else next(iter(sample.images.values()))


def _predict_by_size(predictor: Predictor, chunk: list[Sample], options: PredictOptions) -> list[Result]:
    """Predicts images of the same canvas size together, so that no result depends on padding for its neighbors."""
    task = predictor.task
    spec = next(iter(task.input_spec.values()))
    groups: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(chunk):
        groups.setdefault(spec.view(sample.size).size, []).append(position)
    results: dict[int, Result] = {}
    for positions in groups.values():
        results.update(zip(positions, predictor.predict_batch([chunk[i] for i in positions], options)))
    return [task.restore_metadata(results[position], sample) for position, sample in enumerate(chunk)]


def _predict_merged(predictor: Predictor, sample: Sample, options: PredictOptions) -> Result:
    """Predicts tiles and TTA views of one image, maps them back, and merges them as the task asks."""
    task = predictor.task
    if task.merge_strategy == "parts":
        results_by_part = {
            name: _predict_merged(predictor.take_part(name), sample, part.select_options(options))
            for name, part in task.parts.items()
        }
        return task.join_results(results_by_part, sample.size)
    options = choose_tile(task, sample.size, options)
    if task.merge_strategy == "blend":
        return predict_blended(predictor, sample, options)
    results = []
    for view in make_tta_views(sample, options):
        (result,) = predictor.predict_batch([view.sample], options)
        results.append(result.warp(view.to_image, sample.size))
    return task.restore_metadata(task.merge_predictions(results, options), sample)
