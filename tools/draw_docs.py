"""Draws the images of docs/: python tools/draw_docs.py [NAME ...], all by default.

Scenes are held out; predictions are the bundled weights'.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from densevision import api
from densevision.datasets.scenes import SceneVideo
from densevision.draw.contact_sheet import make_contact_sheet
from densevision.draw.trails import Trails
from densevision.inference.counting import ObjectCounter
from densevision.inference.predict import predict_samples
from densevision.inference.tracking import Tracker
from densevision.io.image import to_display
from densevision.published_weights import find_bundled_weights
from densevision.tasks import TASKS

FOLDER = Path(__file__).parent.parent / "docs" / "images"
SEED = 2024
ROWS = 2
WIDTH, JPEG_QUALITY = 1200, 80
VIDEO_SEED, VIDEO_FRAMES, VIDEO_SIZE = 6, 30, (400, 640)
VIDEO_LINE, VIDEO_ZONE = (320, 20, 320, 390), (40, 220, 280, 220, 260, 385, 20, 385)
VIDEO_THRESHOLDS = {"high_conf_det_threshold": 0.4, "track_activation_threshold": 0.4}


def main() -> None:
    drawings = {task: partial(draw_task, task) for task in TASKS} | {"video": draw_video}
    for name in sys.argv[1:] or drawings:
        drawing = cv2.cvtColor(drawings[name](), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(FOLDER / f"{name}.jpg"), drawing, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def draw_video() -> np.ndarray:
    """The last frame of a synthetic video that was tracked, with trails, a line and a zone."""
    detector, tracker = api.load(task="detection"), Tracker("bytetrack", VIDEO_THRESHOLDS, frame_rate=25)
    trails, counter = Trails(), ObjectCounter(lines=[VIDEO_LINE], zones=[VIDEO_ZONE])
    frame = np.zeros((*VIDEO_SIZE, 3), np.uint8)
    for sample in SceneVideo(VIDEO_FRAMES, VIDEO_SEED, size=VIDEO_SIZE):
        result = tracker.update(detector.predict(sample.images["image"]))
        counter.update(result)
        frame = counter.draw(trails.draw(result.draw(), result.boxes, result.track_ids))
    return frame


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
