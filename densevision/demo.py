"""The demo: fresh scenes, every task's starter weights, exact truth, a minute of training, one page to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from densevision import api
from densevision.draw.page import Page
from densevision.draw.sheet import contact_sheet
from densevision.engine.evaluate import evaluate
from densevision.engine.model import Model
from densevision.engine.predict import answer
from densevision.engine.run_folder import RunFolder, versions
from densevision.tasks import TASKS
from densevision.version import __version__
from densevision.zoo import announcement, starter

SCENES = 24
"""Scenes that each task is judged on."""
SHOWN = 3
"""Scenes that are shown."""
TRAINING = {
    "preset": "nano",
    "backbone.name": "mobilenetv2_050",
    "data.size": 160,
    "train.epochs": 12,
    "train.batch": 16,
    "train.lr": 2e-3,
    "train.validate_every": 6,
    "augment.mosaic": 0.0,
}
"""A detector that learns something in about a minute."""
TRAINING_SCENES = 120


def demo(out: Path, seed: int | None = None, say: Any = print) -> Path:
    """Runs everything and writes one page.

    Args:
        out: Folder for the page, its pictures and the run.
        seed: Seed of the scenes; fresh ones from the clock when not given.
        say: Where remarks go.

    Returns:
        The page.
    """
    seed = int(time.time()) % 1_000_000 if seed is None else seed
    page = Page(f"densevision {__version__}")
    page.text(
        f"Scenes of seed {seed}, rendered for this page; their truth is exact. Left the truth, right the answer of the "
        "starter weights, which were trained on other scenes of the same kind."
    )
    for task in TASKS:
        if starter(task) is not None:
            say(f"{task}: predicting and evaluating {SCENES} fresh scenes")
            _show_task(page, task, seed, out)
    say("detection: training a small detector for about a minute")
    _show_training(page, seed, out)
    page.heading("Versions")
    page.table(list(versions().items()), ("package", "version"))
    return page.write(out / "index.html")


def _show_task(page: Page, task: str, seed: int, out: Path) -> None:
    model = api.load(starter(task), task)
    model.task.config = model.task.config.changed(data__path=f"scenes:{5 * SCENES}:{seed}", data__val=None)
    samples = model.task.dataset("val")
    started = time.perf_counter()
    evaluation = evaluate(model, samples)
    seconds = time.perf_counter() - started
    page.heading(task)
    page.text(TASKS[task])
    page.text(announcement(model.card))
    page.picture(_sheet(model, [samples[index] for index in range(SHOWN)]), f"{task}: truth and answer, in turn")
    page.numbers(evaluation.report.metrics)
    report = evaluation.report
    page.text(f"{report.counts['images']} pictures in {seconds:.1f} s. Protocol: {report.protocol}")
    report.write(out / task / "report.json")


def _sheet(model: Model, samples: list) -> np.ndarray:
    options = model.options
    drawn, captions = [], []
    for sample, result in answer(model, samples, options):
        image = next(iter(sample.images.values()))
        drawn += [model.task.draw(image, sample.truth), model.task.draw(image, result)]
        captions += [f"scene {sample.id}: truth", "answer"]
    return contact_sheet(drawn, captions, columns=2 * SHOWN)


def _show_training(page: Page, seed: int, out: Path) -> None:
    folder = _free(out / "training")
    started = time.perf_counter()
    api.train("detection", f"scenes:{TRAINING_SCENES}:{seed}", set=TRAINING, out=folder)
    seconds = time.perf_counter() - started
    run = RunFolder(folder)
    last = run.rows()[-1]
    page.heading("A detector trained just now")
    epochs = TRAINING["train.epochs"]
    page.text(f"{epochs} epochs over {TRAINING_SCENES} scenes in {seconds:.0f} s, from random weights.")
    shown = ("train/loss", "val/loss", "AP", "AP50", "images_per_second")
    page.numbers({name: float(last[name]) for name in shown})
    for picture, caption in ((run.batches / "0.jpg", "First training batch"), (run.plots / "curves.png", "Curves")):
        page.picture(picture, caption)


def _free(folder: Path) -> Path:
    """A folder in which no run is yet: the name itself, or with a number."""
    number = 1
    candidate = folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate

