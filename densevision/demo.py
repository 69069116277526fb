"""The demo: every task on fresh synthetic scenes with exact ground truth, a short training, and one HTML page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from densevision import api
from densevision.datasets.scenes import Scenes
from densevision.datasets.splits import FIRST_VALIDATION_SCENE
from densevision.draw.contact_sheet import make_contact_sheet
from densevision.draw.html_page import HTMLPage
from densevision.evaluation.evaluate import evaluate
from densevision.inference.predict import predict_samples
from densevision.inference.predictor import Predictor
from densevision.io.atomic_write import write_text
from densevision.io.image import to_display, write_image
from densevision.published_weights import describe_bundled_weights, find_bundled_weights
from densevision.results import Detections, Result
from densevision.run_folder import RunFolder, collect_versions
from densevision.sample import FirstSamples, SampleSet
from densevision.tasks import TASKS
from densevision.version import __version__

__all__ = ["run_demo"]

MAX_SCENES = 24
"""Scenes that each task is evaluated on."""
SHOWN_SCENES = 4
MAX_EVALUATION_SECONDS = 45.0
"""Time for evaluation, all tasks together."""
TRAINING = {
    "arch": "yolo_n",
    "backbone.name": "resnet10t",
    "backbone.pretrained": False,
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
"""A detector that learns to find objects of one class in about a minute."""
IMAGE_COUNTS = {"train": 200, "val": 40}
"""Images of the dataset that is written for it."""
IMAGE_SIZE = 160


def run_demo(out: Path, seed: int | None = None, report_progress: Callable[[str], Any] = print) -> Path:
    """Runs every task and writes one page.

    Args:
        out: Folder for the page, its images and the run.
        seed: Seed of the scenes; from the clock by default.
        report_progress: Called with one line before each step.

    Returns:
        The page.
    """
    seed = int(time.time()) % 1_000_000 if seed is None else seed
    page = HTMLPage(f"densevision {__version__}")
    page.add_text(
        f"Scenes of seed {seed}, rendered for this page, with exact ground truth. Predictions come from the bundled "
        "demo weights, which were trained on other synthetic scenes."
    )
    for task in TASKS.built_in:
        if find_bundled_weights(task) is not None:
            report_progress(f"{task}: predicting and evaluating fresh scenes")
            _show_task(page, task, seed, out)
    report_progress("detection: training a small detector for about a minute")
    _show_training(page, seed, out)
    page.add_heading("Versions")
    page.add_table(list(collect_versions().items()), ("package", "version"))
    return page.write(out / "index.html")


def _show_task(page: HTMLPage, task: str, seed: int, out: Path) -> None:
    predictor = api.load(find_bundled_weights(task), task)
    predictor.task.config = predictor.task.config.replace(data__path=f"scenes:{5 * MAX_SCENES}:{seed}", data__val=None)
    samples = predictor.task.open_dataset("val")
    page.add_heading(task)
    page.add_text(f"{TASKS[task]}\n{describe_bundled_weights(predictor.card)}")
    started = time.perf_counter()
    page.add_image(_draw_sheet(predictor, FirstSamples(samples, SHOWN_SCENES)), "Scene, ground truth and prediction")
    seconds = time.perf_counter() - started
    # A slow machine evaluates fewer scenes, so that the page is done in time.
    affordable = MAX_EVALUATION_SECONDS / len(TASKS.built_in) / seconds * SHOWN_SCENES
    count = int(np.clip(affordable, SHOWN_SCENES, MAX_SCENES))
    report = evaluate(predictor, FirstSamples(samples, count)).report
    page.add_numbers(report.metrics, f"{count} scenes, exact ground truth")
    page.add_collapsible("Protocol", json.dumps(report.protocol, indent=2, default=str))
    report.write(out / task / "report.json")


def _draw_sheet(predictor: Predictor, samples: SampleSet) -> np.ndarray:
    images, captions = [], []
    items = (samples[index] for index in range(len(samples)))
    for sample, result in predict_samples(predictor, items, predictor.options):
        image = next(iter(sample.images.values()))
        canvas, truth = to_display(image), cast(Result, sample.truth)  # of scenes it is known
        images += [canvas, truth.overlay(canvas), result.overlay_for_comparison(truth, canvas)]
        captions += [f"scene {sample.id}", "ground truth", "prediction"]
    return make_contact_sheet(images, captions, columns=6)


def _show_training(page: HTMLPage, seed: int, out: Path) -> None:
    folder, data = _find_free_folder(out / "training"), _find_free_folder(out / "objects")
    _write_dataset(data, seed)
    started = time.perf_counter()
    api.train("detection", data, overrides=TRAINING, out=folder, quiet=True)
    seconds = time.perf_counter() - started
    run = RunFolder(folder)
    last = run.read_rows()[-1]
    page.add_heading("A detector trained from scratch")
    page.add_text(
        f"{TRAINING['train.epochs']} epochs over {IMAGE_COUNTS['train']} images of one class in {seconds:.0f} s, from "
        f"random weights; evaluated on {IMAGE_COUNTS['val']} others."
    )
    shown = ("train/loss", "val/loss", "AP", "AP50", "images_per_second")
    page.add_numbers({name: float(last[name]) for name in shown})
    images = {
        "First training batch": run.batches / "0.jpg",
        "Validation images with prediction and ground truth": run.plots / "predictions.jpg",
        "Curves": run.plots / "curves.png",
    }
    for caption, image in images.items():
        page.add_image(image, caption)


def _write_dataset(folder: Path, seed: int) -> None:
    """Writes scenes as JPEG files with YOLO labels of a single class, which is learned sooner than ten."""
    names = ("object",)
    for split, count in IMAGE_COUNTS.items():
        first = 0 if split == "train" else FIRST_VALIDATION_SCENE
        for number, scene in enumerate(Scenes(count, seed, (IMAGE_SIZE, IMAGE_SIZE), first=first)):
            write_image(folder / "images" / split / f"{number}.jpg", scene.image)
            truth = Detections.from_arrays(scene.boxes, np.zeros(len(scene.boxes)), names, scene.size)
            lines = (line.rsplit(" ", 1)[0] for line in truth.to_yolo().splitlines())  # ground truth has no score
            write_text(folder / "labels" / split / f"{number}.txt", "".join(f"{line}\n" for line in lines))
    write_text(folder / "data.yaml", "train: images/train\nval: images/val\nnames: [object]\n")


def _find_free_folder(folder: Path) -> Path:
    """A folder that does not exist yet: the name itself, or with a number."""
    number = 1
    candidate = folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate
