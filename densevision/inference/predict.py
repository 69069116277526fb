"""Prediction: a source in, records out, with memory bounded by the batch, the tile and the frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from densevision.errors import UsageError, did_you_mean
from densevision.inference.predictor import Model, TorchModel
from densevision.inference.sliding_window import blended, in_windows
from densevision.inference.sources import open_source
from densevision.inference.tta import variants
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample

ALWAYS = frozenset({"device", "precision", "batch", "max_pixels"})
"""Options that every task supports."""


def predict(model: Model, source: Any, stream: bool = False, **options: Any) -> Any:
    """Answers a source: one image gives one record, a list or folder a list, a video or `stream` an iterator.

    Args:
        model: What answers.
        source: See `sources.open_source`.
        stream: Give an iterator whatever the source.
        **options: Fields of `PredictOptions`.

    Raises:
        UsageError: An option that this task does not support.
        DataError: A source that cannot be read.
    """
    chosen = checked_options(model, options)
    opened = open_source(source, model.task.inputs, chosen.max_pixels)
    results = (result for _, result in answer(model, opened.samples, chosen))
    if stream or opened.kind == "stream":
        return results
    return next(results) if opened.kind == "one" else list(results)


def checked_options(model: Model, options: dict[str, Any]) -> PredictOptions:
    """The model's options with these replaced; an option without effect is an error."""
    supported = ALWAYS | model.task.supported_options
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in PredictOptions.model_fields:
            raise UsageError("no such option of predict", field=name, value=value, hint=did_you_mean(name, supported))
        if name not in supported and value != PredictOptions.model_fields[name].default:
            raise UsageError(
                f"has no effect on {model.task.name}",
                field=name,
                value=value,
                hint=f"Leave it out; supported are {', '.join(sorted(supported))}.",
            )
    chosen = PredictOptions.checked({**model.options.model_dump(), **given})
    if chosen.tile is None and "overlap" in given:
        raise UsageError("has no effect without tile", field="overlap", value=chosen.overlap)
    for look in chosen.tta:
        if look not in model.task.tta_transforms:
            hint = f"Known here: {', '.join(sorted(model.task.tta_transforms))}."
            raise UsageError(f"has no effect on {model.task.name}", field="tta", value=look, hint=hint)
    _check_single_pass(model, chosen)
    return chosen


def _check_single_pass(model: Model, options: PredictOptions) -> None:
    """Refuses what needs more than the one pass over whole images that is asked for or possible."""
    for name in ("warm_start", "forward_backward"):
        if getattr(options, name) and not isinstance(model, TorchModel):
            hint = "Use the weights that it was exported from."
            raise UsageError("is not part of an exported file", field=name, value=True, hint=hint)
    if options.warm_start and (options.tile or options.tta or options.batch > 1):
        raise UsageError(
            "has no effect with tile, tta or batch", field="warm_start", value=True, hint="Leave them out."
        )


def answer(model: Model, samples: Iterable[Sample], options: PredictOptions) -> Iterator[tuple[Sample, Result]]:
    """Samples with their records, in order; at most a batch of them is held at a time."""
    if options.warm_start:
        yield from _answer_sequence(model, samples, options)
        return
    chunk: list[Sample] = []
    for sample in samples:
        chunk.append(sample)
        if len(chunk) == options.batch:
            yield from _answer_chunk(model, chunk, options)
            chunk = []
    yield from _answer_chunk(model, chunk, options)


def _answer_sequence(
    model: Model, samples: Iterable[Sample], options: PredictOptions
) -> Iterator[tuple[Sample, Result]]:
    """One after the other, each helped by the one before, unless the size changes."""
    previous: Result | None = None
    for sample in samples:
        known = previous if previous is not None and previous.size == sample.size else None
        (previous,) = model.infer([sample], options, known)
        yield sample, replace(model.task.finish(previous, sample), source=_source(sample))


def _answer_chunk(model: Model, chunk: list[Sample], options: PredictOptions) -> Iterator[tuple[Sample, Result]]:
    chosen = [in_windows(model.task, sample.size, options) for sample in chunk]
    if any(each.tile is not None or each.tta for each in chosen):
        results = [_answer_by_parts(model, sample, each) for sample, each in zip(chunk, chosen)]
    else:
        results = _answer_by_size(model, chunk, options)
    for sample, result in zip(chunk, results):
        yield sample, replace(result, source=_source(sample))


def _source(sample: Sample) -> Any:
    """What the record is drawn on: the file, so that a list of records holds no images, or else the image."""
    return sample.file if Path(sample.file).is_file() else next(iter(sample.images.values()))


def _answer_by_size(model: Model, chunk: list[Sample], options: PredictOptions) -> list[Result]:
    """Images that share a canvas size share a pass, so that no answer depends on its neighbors' padding."""
    spec = next(iter(model.task.inputs.values()))
    groups: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(chunk):
        groups.setdefault(spec.view(sample.size).size, []).append(position)
    results: dict[int, Result] = {}
    for positions in groups.values():
        results.update(zip(positions, model.infer([chunk[position] for position in positions], options)))
    return [model.task.finish(results[position], sample) for position, sample in enumerate(chunk)]


def _answer_by_parts(model: Model, sample: Sample, options: PredictOptions) -> Result:
    """Tiles, mirrored and scaled views of one image: each answered, mapped back, and merged as the task asks."""
    if model.task.merge_strategy == "pixels":
        return blended(model, sample, options)
    results = []
    for variant in variants(sample, options):
        (result,) = model.infer([variant.sample], options)
        results.append(result.warp(variant.back, sample.size))
    return model.task.finish(model.task.merge(results, options), sample)
