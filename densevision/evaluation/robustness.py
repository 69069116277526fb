"""How a model's answers degrade when its images do: a table, curves and examples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from densevision.datasets.corruptions import CORRUPTIONS, Corrupted
from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.html_page import Page
from densevision.draw.plots import bands
from densevision.errors import UsageError, did_you_mean
from densevision.evaluation.evaluate import evaluate_model
from densevision.evaluation.provenance import show_basis, show_origin
from densevision.evaluation.result import EvaluationResult, side_by_side
from densevision.inference.predictor import Model
from densevision.inference.progress import Progress, silent
from densevision.io.atomic_write import write_text
from densevision.metrics.bootstrap import LEVEL, Interval, intervals
from densevision.metrics.metric_info import metric_info
from densevision.run_config import PredictOptions
from densevision.run_folder import versions
from densevision.sample import SampleSet

DRAWS = 200
"""Draws of the images for the intervals, fewer than elsewhere: there is one for each step."""
CLEAN = "clean"
RESIZED, PIXELS = "scale", "[px]"
"""The corruption under which a pixel is of another size, and how the meaning of a number tells that it is in pixels."""


class Step(NamedTuple):
    """The numbers under one corruption of one strength.

    Attributes:
        strength: How strong it was; NaN for clean images.
        metrics: All numbers.
        interval: Of the watched number.
    """

    strength: float
    metrics: dict[str, float]
    interval: Interval


@dataclass
class Robustness:
    """How one model degrades.

    Attributes:
        evaluation: Of the clean images: which model, on which data, under which protocol.
        watched: The number that is told first.
        clean: Without corruption.
        seed: Of noise and blur.
        steps: Corruption -> steps from mild to strong.
        examples: Corruption -> images and captions of one sample under its last step.
    """

    evaluation_result: EvaluationResult
    monitored: str
    clean: Step
    seed: int = 0
    steps: dict[str, list[Step]] = field(default_factory=dict)
    examples: dict[str, tuple[list[np.ndarray], list[str]]] = field(default_factory=dict)

    def kept(self, name: str, step: Step) -> float:
        """The part of the clean number that is left; for errors, the clean error as a part of the one here.

        Errors in pixels of scaled images are compared in pixels of the images as they were.

        Args:
            name: The corruption.
            step: One of its steps.
        """
        clean, here = self.clean.metrics[self.monitored], step.metrics[self.monitored]
        told = metric_info(self.monitored)
        if name == RESIZED and PIXELS in told.text:
            here /= step.strength
        part, whole = (here, clean) if told.higher_is_better else (clean, here)
        return part / whole if whole else math.nan

    def note(self) -> str:
        """What is to be known of the part that is kept; empty where it says what it seems to."""
        if RESIZED not in self.steps or PIXELS not in metric_info(self.monitored).text:
            return ""
        return f"Under {RESIZED}, {self.monitored} is in pixels of the scaled images, its part kept in those of before."

    def rows(self) -> list[tuple[str, str, float, float, float, float]]:
        """Corruption, strength, number, interval's ends and the part that is kept."""
        found = [(CLEAN, "", self.clean.metrics[self.monitored], *self.clean.interval, 1.0)]
        for name, steps in self.steps.items():
            for step in steps:
                strength = f"{CORRUPTIONS[name].what}: {step.strength:g}"
                found.append((name, strength, step.metrics[self.monitored], *step.interval, self.kept(name, step)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not finite is null."""
        steps = {
            name: [{**_plain(step), "kept": _finite(self.kept(name, step))} for step in each]
            for name, each in self.steps.items()
        }
        report = self.evaluation_result.report.to_dict()
        return {
            "task": report["task"],
            "model": self.evaluation_result.origin,
            "protocol": report["protocol"],
            "counts": report["counts"],
            "seed": self.seed,
            "intervals": {"draws": DRAWS, "seed": 0, "level": LEVEL},
            "versions": versions(),
            "watched": self.monitored,
            CLEAN: _plain(self.clean),
            "corruptions": steps,
        }

    def write(self, out: Path, command: str = "") -> Path:
        """Writes a page, robustness.json and plots."""
        write_text(out / "robustness.json", json.dumps(self.to_dict(), indent=1) + "\n")
        page = Page(f"{self.evaluation_result.report.task}: robustness")
        page.text(self.evaluation_result.origin)
        page.heading(f"{self.monitored} under corruption")
        header = ("", "strength", self.monitored, f"{LEVEL:.0%} from", "to", "part kept")
        page.table(self.rows(), header, metric_info(self.monitored).text)
        page.text(
            f"Intervals are of {DRAWS} draws of the images; noise and blur are of seed {self.seed}. {self.note()}"
        )
        plots = []
        for number, (name, steps) in enumerate(self.steps.items()):
            path = out / f"plots/{number}.png"
            line = [(step.strength, step.metrics[self.monitored], *step.interval) for step in steps]
            bands(path, line, CORRUPTIONS[name].what, self.monitored, name, self.clean.metrics[self.monitored])
            plots.append(path)
        page.images(plots, list(self.steps))
        page.heading("One image, at the last step of each")
        for name, (drawn, captions) in self.examples.items():
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(1600, 480 * len(drawn)))
            page.image(sheet, name)
        show_basis(page, self.evaluation_result.report, self.evaluation_result.card)
        show_origin(page, command)
        return page.write(out / "index.html")


def measure(
    model: Model,
    samples: SampleSet,
    names: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    options: PredictOptions | None = None,
    progress: Progress = silent,
) -> Robustness:
    """Judges a model on the same images again and again, each time under another corruption.

    Where a corruption turns or scales images, their truth is turned and scaled along, and what it no longer tells,
    such as what lies beyond a turned image's edge, does not count.

    Args:
        model: What answers.
        samples: The dataset.
        names: Corruptions, as in `data.corruptions.CORRUPTIONS`; all when not given.
        limit: Only so many of the first samples.
        seed: Of noise and blur.
        options: How to predict.
        progress: Draws a bar over the samples.

    Raises:
        UsageError: There is no such corruption.
    """
    chosen = list(CORRUPTIONS) if names is None else list(names)
    for name in chosen:
        if name not in CORRUPTIONS:
            raise UsageError("no such corruption", field="only", value=name, hint=did_you_mean(name, CORRUPTIONS))
    options = options or model.task.evaluation_options()
    inputs = [name for name, spec in model.task.inputs.items() if spec.kind == "image"]
    data = model.task.config.data
    monitored = model.task.monitor[0]

    def step(name: str | None, strength: float) -> tuple[Step, EvaluationResult]:
        corrupted = Corrupted(samples, CORRUPTIONS.get(name or ""), strength, inputs, seed, limit)
        judged = evaluate_model(model, corrupted, options, data.workers, progress)
        span = intervals(judged.metric.per_image(), DRAWS)[monitored]
        return Step(strength, judged.report.metrics, span), judged

    clean, judged = step(None, math.nan)
    found = Robustness(judged, monitored, clean, seed)
    for name in chosen:
        for strength in CORRUPTIONS[name].strengths:
            one, judged = step(name, strength)
            found.steps.setdefault(name, []).append(one)
        found.examples[name] = _example(judged)
    return found


def _example(judged: EvaluationResult) -> tuple[list[np.ndarray], list[str]]:
    look = next(iter(judged.examples(judged.metric.per_image().ids[:1])))
    return side_by_side(look)


def _plain(step: Step) -> dict[str, Any]:
    return {
        "strength": _finite(step.strength),
        "metrics": {name: _finite(value) for name, value in step.metrics.items()},
        "interval": [_finite(end) for end in step.interval],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
