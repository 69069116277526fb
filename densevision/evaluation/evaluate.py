"""Evaluation of a model on a dataset by the code path of `predict`; sharded over processes and merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from densevision.evaluation.report import Report
from densevision.evaluation.result import EvaluationResult, Example
from densevision.inference.device import autocast
from densevision.inference.loader import Collate, ReadSample, make_reading_loader
from densevision.inference.predict import predict_samples
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.inference.processes import gather_objects, get_rank_and_world_size
from densevision.inference.progress import Progress, hide_progress
from densevision.io.image import to_display
from densevision.metrics.metric import Metric
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, SampleSet

__all__ = [
    "Evaluation",
    "Shard",
    "add_examples",
    "divide_rows",
    "evaluate",
    "evaluate_model",
    "evaluate_rows",
    "merge_shards",
]

UNLABELED, DAMAGED = "images without truth", "damaged images"
PART_SAMPLES, MAX_PARTS = 16, 1024
"""Samples of a part of the dataset, of which each process judges some; and how many parts there are at most."""


@dataclass
class Evaluation:
    """A report with the metric that it comes from.

    Attributes:
        report: The numbers.
        metric: The metric, which can draw its plots.
        losses: Mean losses by name.
        shown: The first samples with their predictions.
        indices: Id of each evaluated sample -> its index in the dataset.
    """

    report: Report
    metric: Metric
    losses: dict[str, float] = field(default_factory=dict)
    shown: list[tuple[Sample, Result]] = field(default_factory=list)
    indices: dict[str, int] = field(default_factory=dict)


@dataclass
class Shard:
    """What a part of the dataset contributes.

    Attributes:
        metric: Its accumulator.
        indices: As in `Evaluation`.
        unlabeled: Ids of the samples without ground truth.
        damaged: Files of the damaged images.
        totals: Loss name -> (sum over samples, number of samples).
    """

    metric: Metric
    indices: dict[str, int] = field(default_factory=dict)
    unlabeled: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    totals: dict[str, tuple[float, int]] = field(default_factory=dict)

    def merge(self, other: Shard) -> None:
        """Adds a later part."""
        self.metric.merge(other.metric)
        self.indices |= other.indices
        self.unlabeled += other.unlabeled
        self.damaged += other.damaged
        for name, (total, count) in other.totals.items():
            previous_total, previous_count = self.totals.get(name, (0.0, 0))
            self.totals[name] = previous_total + total, previous_count + count


def evaluate(
    model: Predictor,
    samples: SampleSet,
    options: PredictOptions | None = None,
    workers: int = 0,
    losses: bool = False,
    progress: Progress = hide_progress,
    examples: int = 0,
) -> Evaluation:
    """Evaluates a model on a dataset.

    In distributed runs each process reads its share; every process returns the numbers of the whole dataset, which
    equal those of one process to the last digit: the dataset is divided into the same parts for any number of
    processes, and their accumulators are merged in the same order.

    Args:
        model: The model.
        samples: The dataset; samples without ground truth are counted and skipped, and so are damaged images, unless
            `data.on_error` is `fail`.
        options: How to predict; the task's evaluation options by default.
        workers: Number of reader processes.
        losses: Also compute the mean validation losses (PyTorch models only).
        progress: Draws a bar over the samples.
        examples: Number of samples to return with their predictions: the first ones with ground truth of this process.
    """
    options = options or model.task.evaluation_options()
    rank, world = get_rank_and_world_size()
    parts = divide_rows(len(samples), options)
    rows = [row for part in parts[rank::world] for row in part]
    skip_damaged = model.task.config.data.on_error != "fail"
    reader = progress(make_reading_loader(samples, rows, workers, skip_damaged), "evaluating")
    shown: list[tuple[Sample, Result]] = []
    size = len(parts[0]) if parts else 1
    shards = {
        number: _evaluate_part(model, read, options, losses, shown, examples)
        for number, read in groupby(reader, lambda each: each.row // size)
    }
    gathered = sorted((pair for each in gather_objects(shards) for pair in each.items()), key=itemgetter(0))
    return merge_shards(model, samples, options, [shard for _, shard in gathered], shown)


def divide_rows(count: int, options: PredictOptions) -> list[range]:
    """Divides a dataset into parts, whose accumulators are merged in order by whatever evaluates them.

    Sums of floats depend on their order, so parts do not depend on the number of processes. They consist of whole
    batches, at least `PART_SAMPLES` samples, and there are at most `MAX_PARTS`. Predictions of which each starts from
    the previous one are not divided.

    Args:
        count: Samples in the dataset.
        options: How to predict.
    """
    wanted = max(PART_SAMPLES, -(-count // MAX_PARTS))
    size = max(count, 1) if options.warm_start else -(-wanted // options.batch) * options.batch
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def evaluate_rows(model: Predictor, samples: SampleSet, options: PredictOptions, rows: Sequence[int]) -> Shard:
    """Evaluates a model on a part of a dataset, as `divide_rows` gives it; see `evaluate`."""
    skip_damaged = model.task.config.data.on_error != "fail"
    return _evaluate_part(model, make_reading_loader(samples, rows, 0, skip_damaged), options, False, [], 0)


def merge_shards(
    model: Predictor,
    samples: SampleSet,
    options: PredictOptions,
    shards: Iterable[Shard],
    shown: list[tuple[Sample, Result]] | None = None,
) -> Evaluation:
    """The evaluation of the whole dataset from its parts, in order.

    Args:
        model: The model.
        samples: The dataset.
        options: How the parts were predicted.
        shards: From `evaluate_rows`.
        shown: The first samples with their predictions.
    """
    merged = Shard(model.task.build_metric())
    for shard in shards:
        merged.merge(shard)
    metric, unlabeled, damaged = merged.metric, sorted(merged.unlabeled), sorted(merged.damaged)
    named = {kind: names for kind, names in ((UNLABELED, unlabeled), (DAMAGED, damaged)) if names}
    left_out = {UNLABELED: len(unlabeled), **({DAMAGED: len(damaged)} if damaged else {})}
    report = Report(
        model.task.name,
        metric.compute(),
        _describe_protocol(model, options, metric),
        {"images": len(merged.indices), **left_out, "notes": list(samples.notes), **metric.counts()},
        metric.tables(),
        named,
    )
    means = {name: total / max(count, 1) for name, (total, count) in merged.totals.items()}
    return Evaluation(report, metric, means, shown or [], merged.indices)


def _evaluate_part(
    model: Predictor,
    read: Iterable[ReadSample],
    options: PredictOptions,
    losses: bool,
    shown: list[tuple[Sample, Result]],
    examples: int,
) -> Shard:
    """Predicts and judges the samples of a part; the first ones go to `shown`."""
    part = Shard(model.task.build_metric())
    read_indices: deque[int] = deque()

    def select_intact() -> Iterator[Sample]:
        for index, sample, file in read:
            if sample is None:
                part.damaged.append(file)
            else:
                read_indices.append(index)
                yield sample

    reader: Iterable[Sample] = select_intact()
    loss_means = _LossMeans(model, model.precision(options)) if losses and isinstance(model, TorchPredictor) else None
    if loss_means is not None:
        reader, part.totals = loss_means.observe(reader, options.batch), loss_means.totals
    for sample, result in predict_samples(model, reader, options):
        index = read_indices.popleft()
        if sample.truth is None:
            part.unlabeled.append(str(sample.id))
            continue
        part.indices[str(sample.id)] = index
        part.metric.update(result, sample.truth, sample.id)
        if len(shown) < examples:
            shown.append((sample, result))
    return part


def evaluate_model(
    model: Predictor, samples: SampleSet, options: PredictOptions, workers: int = 0, progress: Progress = hide_progress
) -> EvaluationResult:
    """Evaluates a model with access to single images, whose predictions are computed again on demand.

    Args:
        model: The model.
        samples: The dataset.
        options: How to predict.
        workers: Number of reader processes.
        progress: Draws a bar over the samples.
    """
    return add_examples(model, samples, options, evaluate(model, samples, options, workers, progress=progress))


def add_examples(
    model: Predictor, samples: SampleSet, options: PredictOptions, evaluation: Evaluation
) -> EvaluationResult:
    """The evaluation with access to single images; see `evaluate_model`."""

    def examples(ids: Sequence[str]) -> Iterator[Example]:
        selection = (samples[evaluation.indices[image_id]] for image_id in ids)
        for image_id, (sample, result) in zip(ids, predict_samples(model, selection, options)):
            assert sample.truth is not None  # only samples with ground truth have an index
            yield Example(image_id, to_display(next(iter(sample.images.values()))), result, sample.truth)

    origin = f"{_describe_model(model)} on {model.task.config.dataset}"
    return EvaluationResult(evaluation.report, evaluation.metric, examples, origin, model.card)


class _LossMeans:
    """Accumulates the losses of the samples that pass by on their way to the predictor, in its precision.

    Attributes:
        totals: Loss name -> (sum over samples, number of samples).
    """

    def __init__(self, model: TorchPredictor, precision: str):
        self.predictor, self.task, self.model = model, model.task, model.model
        self.collate = Collate(model.task)
        self.precision = precision
        self.totals: dict[str, tuple[float, int]] = {}

    def observe(self, samples: Iterable[Sample], batch: int) -> Iterator[Sample]:
        chunk: list[Sample] = []
        for sample in samples:
            chunk.append(sample)
            if len(chunk) == batch:
                self._add(chunk)
                yield from chunk
                chunk = []
        if chunk:
            self._add(chunk)
            yield from chunk

    def _add(self, chunk: list[Sample]) -> None:
        labeled = [sample for sample in chunk if sample.truth is not None]
        if not labeled:
            return
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        # Where the losses see the images as predictions do, the network runs once for both.
        with torch.no_grad(), autocast(device, self.precision), self.predictor.keep_outputs():
            losses = self.task.compute_losses(self.model, self.collate(labeled).to(device), None, "net")
        self.model.train(was_training)  # the model may be in training
        for name, value in losses.items():
            total, count = self.totals.get(name, (0.0, 0))
            self.totals[name] = total + float(value) * len(labeled), count + len(labeled)


def _describe_model(model: Predictor) -> str:
    """Architecture, weights file, and where the card says the weights come from."""
    config = model.task.config
    fields = type(config).model_fields
    words = [model.task.name, getattr(config, "arch", None)]
    if "preset" in fields and config.preset != fields["preset"].default:
        words.append(config.preset)
    # Models without a timm encoder ignore `backbone`.
    if isinstance(model, TorchPredictor) and hasattr(getattr(model.task.meta_model, "encoder", None), "network"):
        words.append(config.backbone.name)
    if model.card.license == "none needed":  # such as an interpolation
        words.append("(no weights)")
    trained_on = model.card.data.get("path")
    source = model.card.source or (f"trained on {trained_on}" if trained_on else "")
    details = ", ".join(part for part in (str(model.file or ""), source) if part)
    return " ".join(word for word in (*words, f"({details})" if details else "") if word)


def _describe_protocol(model: Predictor, options: PredictOptions, metric: Metric) -> dict[str, Any]:
    """The metric's own protocol and every option that affects predictions."""
    from densevision.version import __version__

    supported = {"batch"} | model.task.supported_options
    values = options.model_dump(mode="json").items()
    prediction = {name: value for name, value in values if name in supported and value is not None}
    prediction["precision"] = model.precision(options)
    return {**metric.protocol, "prediction": prediction, "densevision": __version__}
