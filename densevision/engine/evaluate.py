"""Evaluation: the very path of prediction, then the metric; sharded over processes and gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from densevision.engine.loader import Collate, reading_loader
from densevision.engine.model import Model, TorchModel
from densevision.engine.predict import answer
from densevision.engine.processes import gathered, rank_and_world
from densevision.engine.progress import Progress, silent
from densevision.engine.report import Report
from densevision.recipe import PredictOptions
from densevision.results import Result
from densevision.sample import Sample, SampleSet
from densevision.tasks.contract import Metric


@dataclass
class Evaluation:
    """A report together with the metric that it came from, which still can draw its plots.

    Attributes:
        report: The numbers.
        metric: What they came from.
        losses: Mean losses by name.
        shown: The first samples with their answers.
    """

    report: Report
    metric: Metric
    losses: dict[str, float] = field(default_factory=dict)
    shown: list[tuple[Sample, Result]] = field(default_factory=list)


def evaluate(
    model: Model,
    samples: SampleSet,
    options: PredictOptions | None = None,
    workers: int = 0,
    losses: bool = False,
    progress: Progress = silent,
    examples: int = 0,
) -> Evaluation:
    """Judges a model on a dataset.

    In several processes each reads its share; every process returns the numbers of the whole.

    Args:
        model: What answers.
        samples: The dataset; samples without truth are counted and not judged.
        options: How to predict; the task's evaluation options when not given.
        workers: Processes that read.
        losses: Also compute the mean validation losses (PyTorch models only).
        progress: Draws a bar over the samples.
        examples: Samples that are kept with their answers, to be drawn; those with truth that this process reads first.
    """
    options = options or model.task.evaluation_options()
    rank, world = rank_and_world()
    metric, judged, untold = model.task.metric(), 0, 0
    shown: list[tuple[Sample, Result]] = []
    tally = _LossTally(model) if losses and isinstance(model, TorchModel) else None
    reading = progress(reading_loader(samples, range(rank, len(samples), world), workers), "evaluating")
    for sample, result in answer(model, tally.watch(reading, options.batch) if tally else reading, options):
        if sample.truth is None:
            untold += 1
            continue
        judged += 1
        metric.update(result, sample.truth, sample.id)
        if len(shown) < examples:
            shown.append((sample, result))
    shards = gathered((metric, judged, untold, tally.sums() if tally else {}))
    metric, judged, untold, sums = _merged(shards)
    counts = {"images": judged, "images without truth": untold, "notes": list(samples.notes), **metric.counts()}
    report = Report(model.task.name, metric.compute(), _protocol(model, options, metric), counts, metric.tables())
    means = {name: total / max(count, 1) for name, (total, count) in sums.items()}
    return Evaluation(report, metric, means, shown)


class _LossTally:
    """Sums the losses of the samples that pass by on their way to the answers."""

    def __init__(self, model: TorchModel):
        self.model, self.collate = model, Collate(model.task)
        self.totals: dict[str, tuple[float, int]] = {}

    def watch(self, samples: Iterable[Sample], batch: int) -> Iterator[Sample]:
        chunk: list[Sample] = []
        for sample in samples:
            chunk.append(sample)
            if len(chunk) == batch:
                self.add(chunk)
                yield from chunk
                chunk = []
        if chunk:
            self.add(chunk)
            yield from chunk

    def add(self, chunk: list[Sample]) -> None:
        told = [sample for sample in chunk if sample.truth is not None]
        if not told:
            return
        task, net = self.model.task, self.model.net
        device = next(net.parameters()).device
        training = net.training
        net.eval()
        with torch.no_grad():
            losses = task.losses(net, self.collate(told).to(device), None, "net")
        net.train(training)  # the net may be the one that is being trained
        for name, value in losses.items():
            total, count = self.totals.get(name, (0.0, 0))
            self.totals[name] = total + float(value) * len(told), count + len(told)

    def sums(self) -> dict[str, tuple[float, int]]:
        return self.totals


def _merged(shards: list[tuple[Metric, int, int, dict]]) -> tuple[Metric, int, int, dict[str, tuple[float, int]]]:
    metric, judged, untold, sums = shards[0]
    for other, more, more_untold, other_sums in shards[1:]:
        metric.merge(other)
        judged, untold = judged + more, untold + more_untold
        for name, (total, count) in other_sums.items():
            before = sums.get(name, (0.0, 0))
            sums[name] = before[0] + total, before[1] + count
    return metric, judged, untold, sums


def _protocol(model: Model, options: PredictOptions, metric: Metric) -> dict[str, Any]:
    """How the numbers came about: the metric's own rules and every option that shaped the answers."""
    from densevision.version import __version__

    heeded = {"batch"} | model.task.heeds
    asked = {
        name: value for name, value in options.model_dump(mode="json").items() if name in heeded and value is not None
    }
    prediction = {**asked, "precision": model.precision(options)}
    return {**metric.protocol, "prediction": prediction, "densevision": __version__}
