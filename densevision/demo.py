"""The demo: fresh scenes, every task's starter weights, exact truth, a minute of training, one page to look at."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision import api
from densevision.datasets.scene_splits import HELD_OUT_SCENES
from densevision.datasets.scenes import Scenes
from densevision.draw.contact_sheet import contact_sheet
from densevision.draw.html_page import Page
from densevision.evaluation.evaluate import evaluate
from densevision.inference.predict import answer
from densevision.inference.predictor import Model
from densevision.io.atomic_write import write_text
from densevision.io.image import to_display, write_image
from densevision.published_weights import announcement, bundled_weights
from densevision.results import Detections
from densevision.run_folder import RunFolder, versions
from densevision.sample import Sample, SampleSet
from densevision.tasks import TASKS
from densevision.version import __version__

SCENES = 24
"""Scenes that each task is judged on."""
SHOWN = 4
"""Scenes that are shown."""
SECONDS = 45.0
"""Time for judging, all tasks together."""
TRAINING = {
    "preset": "nano",
    "backbone.name": "resnet10t",
    "data.size": 128,
    "train.epochs": 8,
    "train.batch": 8,
    "train.lr": 2e-3,
    "train.warmup_epochs": 0.5,
    "train.ema_decay": 0.98,
    "train.validate_every": 4,
    "augment.mosaic": 0.0,
    "augment.scale": (0.7, 1.3),
}
"""A detector that learns to find things, of one class, in about a minute."""
IMAGES = {"train": 200, "val": 40}
"""Images that are written for it, as a person's own would lie in a folder."""
SIDE = 160


def demo(out: Path, seed: int | None = None, say: Any = print) -> Path:
    """Runs everything and writes one page.

    Args:
        out: Folder for the page, its images and the run.
        seed: Seed of the scenes; fresh ones from the clock when not given.
        say: Where remarks go.

    Returns:
        The page.
    """
    seed = int(time.time()) % 1_000_000 if seed is None else seed
    page = Page(f"densevision {__version__}")
    page.text(
        f"Scenes of seed {seed}, rendered for this page; their truth is exact. The answers are those of the starter "
        "weights, which never saw them; what they learned from is said with each task."
    )
    for task in TASKS:
        if bundled_weights(task) is not None:
            say(f"{task}: answering and judging fresh scenes")
            _show_task(page, task, seed, out)
    say("detection: training a small detector for about a minute")
    _show_training(page, seed, out)
    page.heading("Versions")
    page.table(list(versions().items()), ("package", "version"))
    return page.write(out / "index.html")


@dataclass(frozen=True)
class _First:
    """The first samples of a dataset."""

    samples: SampleSet
    count: int
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.samples[range(self.count)[index]]


def _show_task(page: Page, task: str, seed: int, out: Path) -> None:
    model = api.load(bundled_weights(task), task)
    model.task.config = model.task.config.changed(data__path=f"scenes:{5 * SCENES}:{seed}", data__val=None)
    samples = model.task.dataset("val")
    page.heading(task)
    page.text(f"{TASKS[task]}\n{announcement(model.card)}")
    started = time.perf_counter()
    page.image(_sheet(model, _First(samples, SHOWN)), "Scene, truth and answer")
    seconds = time.perf_counter() - started
    # A slow machine judges fewer scenes, so that the page comes in time.
    count = int(np.clip(SECONDS / len(TASKS) / seconds * SHOWN, SHOWN, SCENES))
    report = evaluate(model, _First(samples, count)).report
    page.numbers(report.metrics, f"{count} scenes against their exact truth")
    page.fold("Protocol", json.dumps(report.protocol, indent=2, default=str))
    report.write(out / task / "report.json")


def _sheet(model: Model, samples: SampleSet) -> np.ndarray:
    drawn, captions = [], []
    for sample, result in answer(model, (samples[index] for index in range(len(samples))), model.options):
        image = next(iter(sample.images.values()))
        canvas = to_display(image)
        drawn += [canvas, sample.truth.overlay(canvas), result.beside(sample.truth, canvas)]
        captions += [f"scene {sample.id}", "truth", "answer"]
    return contact_sheet(drawn, captions, columns=6)


def _show_training(page: Page, seed: int, out: Path) -> None:
    folder, data = _free(out / "training"), _free(out / "things")
    _write_things(data, seed)
    started = time.perf_counter()
    api.train("detection", str(data), set=TRAINING, out=folder)
    seconds = time.perf_counter() - started
    run = RunFolder(folder)
    last = run.rows()[-1]
    page.heading("A detector trained just now")
    page.text(
        f"{TRAINING['train.epochs']} epochs over {IMAGES['train']} images of one class, thing, in {seconds:.0f} s, "
        f"from random weights; judged on {IMAGES['val']} others."
    )
    shown = ("train/loss", "val/loss", "AP", "AP50", "images_per_second")
    page.numbers({name: float(last[name]) for name in shown})
    images = {
        "First training batch": run.batches / "0.jpg",
        "Validation images with answer and truth": run.plots / "answers.jpg",
        "Curves": run.plots / "curves.png",
    }
    for caption, image in images.items():
        page.image(image, caption)


def _write_things(folder: Path, seed: int) -> None:
    """Scenes as JPEG files with YOLO labels, all of one class: what is a thing is soon learned, which one is not."""
    names = ("thing",)
    for split, count in IMAGES.items():
        first = 0 if split == "train" else HELD_OUT_SCENES
        for number, scene in enumerate(Scenes(count, seed, (SIDE, SIDE), first=first)):
            write_image(folder / "images" / split / f"{number}.jpg", scene.image)
            truth = Detections.of(scene.boxes, np.zeros(len(scene.boxes)), names, scene.size)
            lines = (line.rsplit(" ", 1)[0] for line in truth.to_yolo().splitlines())  # truth has no score
            write_text(folder / "labels" / split / f"{number}.txt", "".join(f"{line}\n" for line in lines))
    write_text(folder / "data.yaml", "train: images/train\nval: images/val\nnames: [thing]\n")


def _free(folder: Path) -> Path:
    """A folder in which no run is yet: the name itself, or with a number."""
    number = 1
    candidate = folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
