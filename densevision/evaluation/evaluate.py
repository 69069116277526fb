"""Evaluation: the very path of prediction, then the metric; sharded over processes and gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from densevision.evaluation.report import Report
from densevision.evaluation.result import EvaluationResult, Example
from densevision.inference.loader import Collate, reading_loader
from densevision.inference.predict import answer
from densevision.inference.predictor import Model, TorchModel
from densevision.inference.processes import gathered, rank_and_world
from densevision.inference.progress import Progress, silent
from densevision.io.image import to_display
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, SampleSet
from densevision.tasks.base import Metric

UNLABELED = "images without truth"


@dataclass
class Evaluation:
    """A report together with the metric that it came from, which still can draw its plots.

    Attributes:
        report: The numbers.
        metric: What they came from.
        losses: Mean losses by name.
        shown: The first samples with their answers.
        places: Identity of each judged sample -> its index in the dataset.
    """

    report: Report
    metric: Metric
    losses: dict[str, float] = field(default_factory=dict)
    shown: list[tuple[Sample, Result]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)


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
    metric, places, untold = model.task.metric(), {}, []
    indices = range(rank, len(samples), world)
    shown: list[tuple[Sample, Result]] = []
    tally = _LossTally(model) if losses and isinstance(model, TorchModel) else None
    reading = progress(reading_loader(samples, indices, workers), "evaluating")
    answers = answer(model, tally.monitor(reading, options.batch) if tally else reading, options)
    for (sample, result), index in zip(answers, indices):
        if sample.truth is None:
            untold.append(str(sample.id))
            continue
        places[str(sample.id)] = index
        metric.update(result, sample.truth, sample.id)
        if len(shown) < examples:
            shown.append((sample, result))
    metric, places, untold, sums = _merged(gathered((metric, places, untold, tally.sums() if tally else {})))
    report = Report(
        model.task.name,
        metric.compute(),
        _protocol(model, options, metric),
        {"images": len(places), UNLABELED: len(untold), "notes": list(samples.notes), **metric.counts()},
        metric.tables(),
        {UNLABELED: untold} if untold else {},
    )
    means = {name: total / max(count, 1) for name, (total, count) in sums.items()}
    return Evaluation(report, metric, means, shown, places)


def evaluate_model(
    model: Model, samples: SampleSet, options: PredictOptions, workers: int = 0, progress: Progress = silent
) -> EvaluationResult:
    """Judges a model so that its answers can be looked into: images that are asked for are answered again.

    Args:
        model: What answers.
        samples: The dataset.
        options: How to predict.
        workers: Processes that read.
        progress: Draws a bar over the samples.
    """
    evaluation = evaluate(model, samples, options, workers, progress=progress)

    def examples(ids: Sequence[str]) -> Iterator[Example]:
        chosen = (samples[evaluation.places[id]] for id in ids)
        for id, (sample, result) in zip(ids, answer(model, chosen, options)):
            yield Example(id, to_display(next(iter(sample.images.values()))), result, sample.truth)

    data = model.task.config.data.path
    return EvaluationResult(evaluation.report, evaluation.metric, examples, f"{_name(model)} on {data}", model.card)


class _LossTally:
    """Sums the losses of the samples that pass by on their way to the answers."""

    def __init__(self, model: TorchModel):
        self.model, self.collate = model, Collate(model.task)
        self.totals: dict[str, tuple[float, int]] = {}

    def monitor(self, samples: Iterable[Sample], batch: int) -> Iterator[Sample]:
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


def _name(model: Model) -> str:
    """Which network it is, from which file, and what its card says of where the weights come from."""
    config = model.task.config
    fields = type(config).model_fields
    words = [model.task.name, getattr(config, "arch", None)]
    if "preset" in fields and config.preset != fields["preset"].default:
        words.append(config.preset)
    if isinstance(model, TorchModel) and hasattr(model.net.encoder, "network"):  # other encoders support no backbone
        words.append(config.backbone.name)
    if model.card.license == "none needed":  # such as an interpolation
        words.append("(no weights)")
    made = model.card.source or (f"trained on {model.card.data['path']}" if model.card.data.get("path") else "")
    told = ", ".join(part for part in (str(model.file or ""), made) if part)
    return " ".join(word for word in (*words, f"({told})" if told else "") if word)


Shard = tuple[Metric, dict[str, int], list[str], dict[str, tuple[float, int]]]


def _merged(shards: list[Shard]) -> Shard:
    metric, places, untold, sums = shards[0]
    for other, more, more_untold, other_sums in shards[1:]:
        metric.merge(other)
        places, untold = places | more, untold + more_untold
        for name, (total, count) in other_sums.items():
            before = sums.get(name, (0.0, 0))
            sums[name] = before[0] + total, before[1] + count
    return metric, places, sorted(untold), sums


def _protocol(model: Model, options: PredictOptions, metric: Metric) -> dict[str, Any]:
    """How the numbers came about: the metric's own rules and every option that shaped the answers."""
    from densevision.version import __version__

    supported = {"batch"} | model.task.supported_options
    asked = {
        name: value
        for name, value in options.model_dump(mode="json").items()
        if name in supported and value is not None
    }
    prediction = {**asked, "precision": model.precision(options)}
    return {**metric.protocol, "prediction": prediction, "densevision": __version__}
