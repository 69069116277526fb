"""How a model's metrics degrade when its images do: a table, curves and examples."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from densevision.datasets.corruptions import CORRUPTIONS, CorruptedDataset
from densevision.draw.html_page import HTMLPage
from densevision.draw.plots import plot_intervals
from densevision.errors import UsageError, did_you_mean
from densevision.evaluation.analysis_page import AnalysisPage
from densevision.evaluation.evaluate import evaluate_model
from densevision.evaluation.provenance import add_provenance
from densevision.evaluation.report_page import draw_example
from densevision.evaluation.result import EvaluationResult, Example, draw_side_by_side
from densevision.inference.predictor import Predictor
from densevision.inference.progress import Progress, hide_progress
from densevision.io.json_writer import to_json_value
from densevision.metrics.bootstrap import LEVEL, Interval, compute_intervals
from densevision.run_config import PredictOptions
from densevision.run_folder import collect_versions
from densevision.sample import SampleSet
from densevision.tasks import get_metric_info

__all__ = ["DRAWS", "Robustness", "Step", "measure_robustness"]

DRAWS = 200
"""Resamples for the intervals; fewer than elsewhere, for there is one for each step."""
CLEAN = "clean"
SCALE, PIXEL_UNIT = "scale", "[px]"
"""The corruption that changes the size of a pixel, and the mark of metrics in pixels in their descriptions."""


class Step(NamedTuple):
    """The metrics under one corruption of one strength.

    Attributes:
        strength: Strength of the corruption; NaN for clean images.
        metrics: All headline metrics.
        interval: Confidence interval of the monitored metric.
    """

    strength: float
    metrics: dict[str, float]
    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"strength": self.strength, "metrics": self.metrics, "interval": list(self.interval)}


@dataclass
class Robustness(AnalysisPage):
    """How one model degrades.

    Attributes:
        evaluation: Evaluation of the clean images.
        monitored: The task's monitored metric.
        clean: Without corruption.
        seed: Seed of noise and blur.
        steps: Corruption -> steps from mild to strong.
        examples: Corruption -> one image under its last step.
    """

    file_name = "robustness.json"

    evaluation: EvaluationResult
    monitored: str
    clean: Step
    seed: int = 0
    steps: dict[str, list[Step]] = field(default_factory=dict)
    examples: dict[str, Example] = field(default_factory=dict)

    def retention(self, name: str, step: Step) -> float:
        """The share of the clean metric that remains; for errors, the clean error as a share of the one of this step.

        Errors in pixels of scaled images are converted to pixels of the original images.

        Args:
            name: The corruption.
            step: One of its steps.
        """
        clean, value = self.clean.metrics[self.monitored], step.metrics[self.monitored]
        info = get_metric_info(self.evaluation.report.task, self.monitored)
        if name == SCALE and PIXEL_UNIT in info.text:
            value /= step.strength
        numerator, denominator = (value, clean) if info.higher_is_better else (clean, value)
        return numerator / denominator if denominator else math.nan

    def note(self) -> str:
        """A remark on retention under scaling; empty if none is needed."""
        if (
            SCALE not in self.steps
            or PIXEL_UNIT not in get_metric_info(self.evaluation.report.task, self.monitored).text
        ):
            return ""
        return (
            f"Under {SCALE}, {self.monitored} is in pixels of the scaled images; its retention is in those of the "
            "original ones."
        )

    def rows(self) -> list[tuple[str, str, float, float, float, float]]:
        """(corruption, strength, monitored metric, low and high end of its interval, retention) of every step."""
        rows = [(CLEAN, "", self.clean.metrics[self.monitored], *self.clean.interval, 1.0)]
        for name, steps in self.steps.items():
            for step in steps:
                strength = f"{CORRUPTIONS[name].description}: {step.strength:g}"
                value = step.metrics[self.monitored]
                rows.append((name, strength, value, *step.interval, self.retention(name, step)))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""
        steps = {
            name: [{**step.to_dict(), "kept": self.retention(name, step)} for step in steps]
            for name, steps in self.steps.items()
        }
        report = self.evaluation.report
        return to_json_value(
            {
                "task": report.task,
                "model": self.evaluation.origin,
                "protocol": report.protocol,
                "counts": report.counts,
                "seed": self.seed,
                "intervals": {"draws": DRAWS, "seed": 0, "level": LEVEL},
                "versions": collect_versions(),
                "watched": self.monitored,
                CLEAN: self.clean.to_dict(),
                "corruptions": steps,
            }
        )

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"{self.evaluation.report.task}: robustness"

    def fill_page(self, page: HTMLPage, out: Path) -> None:
        """The metric under each corruption, and one image of each."""
        report = self.evaluation.report
        page.add_text(self.evaluation.origin)
        page.add_heading(f"{self.monitored} under corruption")
        header = ("", "strength", self.monitored, f"{LEVEL:.0%} from", "to", "retention")
        page.add_table(self.rows(), header, get_metric_info(self.evaluation.report.task, self.monitored).text)
        page.add_text(
            f"Intervals come from {DRAWS} resamples of the images; the seed of noise and blur is {self.seed}. "
            f"{self.note()}"
        )
        plots = []
        for index, (name, steps) in enumerate(self.steps.items()):
            path = out / f"plots/{index}.png"
            points = [(step.strength, step.metrics[self.monitored], *step.interval) for step in steps]
            clean = self.clean.metrics[self.monitored]
            plot_intervals(path, points, CORRUPTIONS[name].description, self.monitored, name, clean)
            plots.append(path)
        page.add_images(plots, list(self.steps))
        page.add_heading("One image under the strongest step of each corruption")
        for name, example in self.examples.items():
            draw_example(page, example, name, draw_side_by_side(example))
        add_provenance(page, report, self.evaluation.card)


def measure_robustness(
    model: Predictor,
    samples: SampleSet,
    *,
    corruptions: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    options: PredictOptions | None = None,
    out: Path | None = None,
    command: str = "",
    progress: Progress = hide_progress,
) -> Robustness:
    """Evaluates a model on the same images under each corruption in turn.

    If a corruption rotates or scales images, so it does with their ground truth; what is then undefined, such as the
    area outside a rotated image, does not count.

    Args:
        model: The model.
        samples: The dataset.
        corruptions: Names in `datasets.corruptions.CORRUPTIONS`; all by default.
        limit: Number of first samples to use.
        seed: Seed of noise and blur.
        options: How to predict; the task's evaluation options by default.
        out: Folder for a page and robustness.json.
        command: The command that reproduces the page.
        progress: Draws a bar over the samples.

    Raises:
        UsageError: There is no such corruption.
    """
    names = list(CORRUPTIONS if corruptions is None else dict.fromkeys(corruptions))
    for name in names:
        if name not in CORRUPTIONS:
            raise UsageError("no such corruption", field="only", value=name, hint=did_you_mean(name, CORRUPTIONS))
    options = options or model.task.evaluation_options()
    inputs = [name for name, spec in model.task.input_spec.items() if spec.kind == "image"]
    workers = model.task.config.data.workers
    monitored = model.task.monitor[0]

    def evaluate_step(name: str | None, strength: float) -> tuple[Step, EvaluationResult]:
        corrupted = CorruptedDataset(samples, CORRUPTIONS.get(name or ""), strength, inputs, seed, limit)
        evaluation = evaluate_model(model, corrupted, options, workers, progress)
        interval = compute_intervals(evaluation.metric.per_image(), DRAWS)[monitored]
        return Step(strength, evaluation.report.metrics, interval), evaluation

    clean, evaluation = evaluate_step(None, math.nan)
    robustness = Robustness(evaluation, monitored, clean, seed)
    for name in names:
        steps = []
        for strength in CORRUPTIONS[name].strengths:
            step, corrupted = evaluate_step(name, strength)
            steps.append(step)
        robustness.steps[name] = steps
        robustness.examples[name] = next(iter(corrupted.examples(corrupted.metric.per_image().ids[:1])))
    if out is not None:
        robustness.write(out, command)
    return robustness
