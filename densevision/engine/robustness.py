"""How a model's answers degrade when its pictures do: a table, curves and examples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from densevision.data.corruptions import CORRUPTIONS, Corrupted
from densevision.draw.page import Page
from densevision.draw.plots import bands
from densevision.draw.sheet import contact_sheet
from densevision.engine.evaluate import judge_model
from densevision.engine.judgement import side_by_side
from densevision.engine.model import Model
from densevision.engine.progress import Progress, silent
from densevision.errors import UsageError, did_you_mean
from densevision.io.files import write_text
from densevision.metrics.bootstrap import LEVEL, Interval, intervals
from densevision.metrics.glossary import meaning
from densevision.recipe import PredictOptions
from densevision.sample import SampleSet

DRAWS = 200
CLEAN = "clean"


class Step(NamedTuple):
    """The numbers under one corruption of one strength.

    Attributes:
        strength: How strong it was; NaN for clean pictures.
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
        origin: Which model, on which data.
        watched: The number that is told first.
        clean: Without corruption.
        steps: Corruption -> steps from mild to strong.
        examples: Corruption -> pictures and captions of one sample under its last step.
    """

    origin: str
    watched: str
    clean: Step
    steps: dict[str, list[Step]] = field(default_factory=dict)
    examples: dict[str, tuple[list[np.ndarray], list[str]]] = field(default_factory=dict)

    def kept(self, step: Step) -> float:
        """The part of the clean number that is left; for errors, the clean error as a part of the one here."""
        clean, here = self.clean.metrics[self.watched], step.metrics[self.watched]
        part, whole = (here, clean) if meaning(self.watched).rising else (clean, here)
        return part / whole if whole else math.nan

    def rows(self) -> list[tuple[str, str, float, float, float, float]]:
        """Corruption, strength, number, interval's ends and the part that is kept."""
        found = [(CLEAN, "", self.clean.metrics[self.watched], *self.clean.interval, 1.0)]
        for name, steps in self.steps.items():
            for step in steps:
                strength = f"{CORRUPTIONS[name].what}: {step.strength:g}"
                found.append((name, strength, step.metrics[self.watched], *step.interval, self.kept(step)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not finite is null."""
        steps = {name: [_plain(step) for step in each] for name, each in self.steps.items()}
        return {"model": self.origin, "watched": self.watched, CLEAN: _plain(self.clean), "corruptions": steps}

    def write(self, out: Path, command: str = "") -> Path:
        """Writes a page, robustness.json and plots."""
        write_text(out / "robustness.json", json.dumps(self.to_dict(), indent=1) + "\n")
        page = Page("Robustness")
        page.text(self.origin)
        page.heading(f"{self.watched} under corruption")
        header = ("", "strength", self.watched, f"{LEVEL:.0%} from", "to", "part kept")
        page.table(self.rows(), header, meaning(self.watched).text)
        plots = []
        for number, (name, steps) in enumerate(self.steps.items()):
            path = out / f"plots/{number}.png"
            line = [(step.strength, step.metrics[self.watched], *step.interval) for step in steps]
            bands(path, line, CORRUPTIONS[name].what, self.watched, name, self.clean.metrics[self.watched])
            plots.append(path)
        page.pictures(plots, list(self.steps))
        page.heading("One picture, at the last step of each")
        for name, (drawn, captions) in self.examples.items():
            sheet = contact_sheet(drawn, captions, columns=len(drawn), width=min(1600, 480 * len(drawn)))
            page.picture(sheet, name)
        if command:
            page.heading("Again")
            page.code(command)
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
    """Judges a model on the same pictures again and again, each time under another corruption.

    Where a corruption turns or scales pictures, their truth is turned and scaled along, and what it no longer tells,
    such as what lies beyond a turned picture's edge, does not count.

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
            raise UsageError("no such corruption", field="only", value=name, mend=did_you_mean(name, CORRUPTIONS))
    options = options or model.task.evaluation_options()
    inputs = [name for name, spec in model.task.inputs.items() if spec.kind == "image"]
    data = model.task.config.data
    watched = model.task.watch[0]

    def step(name: str | None, strength: float) -> tuple[Step, Any]:
        corrupted = Corrupted(samples, CORRUPTIONS.get(name or ""), strength, inputs, seed, limit)
        judged = judge_model(model, corrupted, options, data.workers, progress)
        span = intervals(judged.metric.by_picture(), DRAWS)[watched]
        return Step(strength, judged.report.metrics, span), judged

    clean, judged = step(None, math.nan)
    found = Robustness(judged.origin, watched, clean)
    for name in chosen:
        for strength in CORRUPTIONS[name].strengths:
            one, judged = step(name, strength)
            found.steps.setdefault(name, []).append(one)
        found.examples[name] = _example(judged)
    return found


def _example(judged: Any) -> tuple[list[np.ndarray], list[str]]:
    look = next(iter(judged.looks(judged.metric.by_picture().ids[:1])))
    return side_by_side(look)


def _plain(step: Step) -> dict[str, Any]:
    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    numbers: Sequence[float] = step.interval
    return {
        "strength": finite(step.strength),
        "metrics": {name: finite(value) for name, value in step.metrics.items()},
        "interval": [finite(end) for end in numbers],
    }
