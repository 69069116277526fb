"""Draws the images of docs/: python tools/draw_docs.py. Scenes are held out; predictions are the bundled weights'."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from densevision import api
from densevision.draw.contact_sheet import make_contact_sheet
from densevision.inference.predict import predict_samples
from densevision.io.image import to_display
from densevision.published_weights import find_bundled_weights
from densevision.tasks import TASKS

FOLDER = Path(__file__).parent.parent / "docs" / "images"
SEED = 2024
ROWS = 2
WIDTH, JPEG_QUALITY = 1200, 80


def main() -> None:
    for task in TASKS:
        drawing = cv2.cvtColor(draw_task(task), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(FOLDER / f"{task}.jpg"), drawing, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def draw_task(task: str) -> np.ndarray:
    """Scenes, ground truth and predictions side by side."""
    predictor = api.load(find_bundled_weights(task), task)
    predictor.task.config = predictor.task.config.replace(data__path=f"scenes:{5 * ROWS}:{SEED}", data__val=None)
    samples = predictor.task.open_dataset("val")
    items = (samples[index] for index in range(ROWS))
    images, captions = [], []
    for sample, result in predict_samples(predictor, items, predictor.options):
        canvas = to_display(next(iter(sample.images.values())))
        images += [canvas, sample.truth.overlay(canvas), result.overlay_for_comparison(sample.truth, canvas)]
        captions += ["input", "ground truth", "prediction"]
    return make_contact_sheet(images, captions, columns=3, width=WIDTH)


if __name__ == "__main__":
    main()
