"""Predictions for a video as a video: one frame is in memory at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from densevision.app.options import AppOptions
from densevision.app.predictions import filter_objects
from densevision.errors import UsageError
from densevision.inference.predictor import Predictor
from densevision.io.video import VideoReader, VideoWriter, read_video
from densevision.serving.uploads import ContentTooLargeError, image_fields

__all__ = ["VideoPrediction", "predict_video"]

DEFAULT_RATE = 25.0
"""Frames per second where the file states none."""


@dataclass(frozen=True)
class VideoPrediction:
    """The predictions for a video.

    Attributes:
        files: The same frames as WebM, which browsers show, and as MP4.
        frames: Number of predicted frames.
        total: Number of frames that the video states, if it does.
        seconds: Time that they took.
    """

    files: tuple[Path, Path]
    frames: int
    total: int | None
    seconds: float


def predict_video(
    predictor: Predictor,
    file: Path,
    folder: Path,
    options: AppOptions,
    threshold: float | None = None,
    report_progress: Callable[[float, str], object] = lambda fraction, text: None,
) -> VideoPrediction:
    """Predicts the first frames of a video, and draws the results as a video.

    Args:
        predictor: The model.
        file: The video.
        folder: Where the drawn videos go.
        options: The limits.
        threshold: Score from which objects are drawn, for tasks that have some.
        report_progress: Called with the fraction that is done, and with what comes next.

    Raises:
        ContentTooLargeError: The frames are too large.
        UsageError: The video has too few frames.
        DataError: The video cannot be read.
    """
    video = read_video(file)
    _check_size(video, options)
    started = time.perf_counter()
    inputs = len(image_fields(predictor.task.input_spec))
    limit = options.max_frames + inputs - 1
    expected = min(limit, video.count or limit) - inputs + 1
    rate = video.fps or DEFAULT_RATE
    paths = folder / f"{file.stem}.predicted.webm", folder / f"{file.stem}.predicted.mp4"
    settings = {} if threshold is None else {"score_threshold": threshold}
    count = 0
    with VideoWriter(paths[0], rate) as browser_video, VideoWriter(paths[1], rate) as player_video:
        try:
            for result in predictor.predict(_take_frames(video, limit), stream=True, **settings):
                frame = (result if threshold is None else filter_objects(result, threshold)).draw_frame()
                browser_video.write(frame)
                player_video.write(frame)
                count += 1
                report_progress(min(1.0, count / max(1, expected)), f"frame {count}")
            if not count:
                raise UsageError("the video has too few frames", file=file.name, value=video.position)
        finally:
            video.close()
    return VideoPrediction(paths, count, video.count, time.perf_counter() - started)


def _check_size(video: VideoReader, options: AppOptions) -> None:
    height, width = video.size
    if height * width > options.max_pixels:
        problem = f"frames of {height * width:,} pixels are more than the limit of {options.max_pixels:,}"
        raise ContentTooLargeError(problem, file=Path(video.path).name, hint="Reduce the video.")


def _take_frames(video: VideoReader, limit: int) -> Iterator[np.ndarray]:
    """The first frames, as an iterator of arrays, which `predict` takes for a sequence."""
    yield from islice(video, limit)
