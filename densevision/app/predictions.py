"""Predictions for uploaded images: computed once for a low threshold, and then filtered without computing again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densevision.app.options import AppOptions
from densevision.errors import UsageError
from densevision.inference.predictor import Predictor
from densevision.io.video import is_video
from densevision.results import Detections, JointResult, Result
from densevision.serving.uploads import ContentTooLargeError, count_pixels, image_fields
from densevision.tasks.base import Task

__all__ = [
    "LOWEST_THRESHOLD",
    "Prediction",
    "check_files",
    "filter_objects",
    "find_threshold",
    "list_samples",
    "predict_files",
]

LOWEST_THRESHOLD = 0.05
"""Score from which objects are predicted; the page shows those above its slider."""


@dataclass(frozen=True)
class Prediction:
    """The result for one image, or for a pair.

    Attributes:
        name: File name of the image.
        files: The images, in the order of the model's inputs: files, or anything else that `load_image` takes.
        result: The result, with all objects from `LOWEST_THRESHOLD` on.
        seconds: Time that it took to compute.
    """

    name: str
    files: tuple[Any, ...]
    result: Result
    seconds: float


def find_threshold(task: Task) -> float | None:
    """The score from which objects are shown at first, which is that of `predict`; None for tasks without objects."""
    for part in task.parts.values() or [task]:
        if "score_threshold" in part.supported_options:
            decode = getattr(part.config, "decode", None)
            configured = getattr(decode, "score_threshold", None)
            threshold = getattr(part.meta_model, "score_threshold", None) if configured is None else configured
            return max(LOWEST_THRESHOLD, float(0.25 if threshold is None else threshold))
    return None


def filter_objects(result: Result, threshold: float) -> Result:
    """The result without the objects below a score; others stay as they are."""
    if isinstance(result, Detections):
        return result[result.scores >= threshold]
    if isinstance(result, JointResult):
        return replace(result, results={name: filter_objects(each, threshold) for name, each in result.results.items()})
    return result


def check_files(files: Sequence[Path], options: AppOptions) -> None:
    """Refuses more images or pixels than the page accepts, before anything is decoded.

    Raises:
        UsageError: There is no file, or a video is among images.
        ContentTooLargeError: There are too many images or pixels.
        DataError: A file is not an image.
    """
    if not files:
        raise UsageError("no image is given", hint="Drop a file into the field above, or take synthetic scenes.")
    videos = [file for file in files if is_video(file)]
    if videos and len(files) > 1:
        raise UsageError("a video among other files", file=videos[0].name, hint="Upload the video by itself.")
    if len(files) > options.max_images:
        problem = f"{len(files)} images are more than the limit of {options.max_images}"
        raise ContentTooLargeError(problem, hint="Upload fewer at a time.")
    pixels = 0
    for file in files:
        if not is_video(file):
            pixels += count_pixels(file, options.max_pixels - pixels, options.max_pixels)


def list_samples(task: Task, files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each prediction: single images, or, for models of several, each image with its successors.

    Raises:
        UsageError: There are too few images for one prediction.
    """
    inputs = image_fields(task.input_spec)
    count = len(inputs)
    if len(files) < count:
        hint = f"Upload {count} consecutive images: {', '.join(inputs)}; or a video."
        raise UsageError(f"{task.name} needs {count} images", field="images", value=len(files), hint=hint)
    return [tuple(files[start : start + count]) for start in range(len(files) - count + 1)]


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    options: AppOptions,
    report_progress: Callable[[float, str], object] = lambda fraction, text: None,
) -> list[Prediction]:
    """Predicts images.

    Args:
        predictor: The model.
        files: Images, in the order of the sequence for models that take several.
        options: The limits.
        report_progress: Called with the fraction that is done, and with what comes next.

    Raises:
        UsageError: There are too few images.
        ContentTooLargeError: There are too many images or pixels.
        DataError: A file cannot be read.
    """
    check_files(files, options)
    samples = list_samples(predictor.task, files)
    settings = {} if find_threshold(predictor.task) is None else {"score_threshold": LOWEST_THRESHOLD}
    predictions = []
    for number, sample in enumerate(samples):
        report_progress(number / len(samples), sample[0].name)
        started = time.perf_counter()
        source = sample if len(sample) > 1 else sample[0]
        result = predictor.predict(source, **settings)
        predictions.append(Prediction(sample[0].name, sample, result, time.perf_counter() - started))
    return predictions
