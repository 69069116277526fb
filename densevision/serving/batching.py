"""Dynamic batching: requests that arrive within a time window are predicted together, on the path of `predict`."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from densevision.errors import DataError, DenseVisionError, convert_error
from densevision.inference.predict import predict_samples
from densevision.inference.predictor import Predictor
from densevision.inference.sources import open_source
from densevision.io.image import load_image
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample

__all__ = ["Batcher", "Job", "read_sample"]

log = logging.getLogger("densevision")

MAX_BATCH_PIXELS = 4_194_304
"""Pixels that a batch of several images has at most: larger images gain nothing from a batch, and cost memory."""


@dataclass(eq=False)
class Job:
    """The images of one request.

    Attributes:
        files: One tuple of image files per sample, in the order of the model's inputs.
        options: The options of the prediction.
        pixels: Number of pixels of all images, from their headers.
        submitted: Time of `time.monotonic` at which it was submitted.
        future: The results, one per sample.
    """

    files: Sequence[tuple[Path, ...]]
    options: PredictOptions
    pixels: int
    submitted: float = field(default_factory=time.monotonic)
    future: Future[list[Result]] = field(default_factory=Future)


class Batcher:
    """A thread that predicts the jobs of one model.

    Args:
        predictor: The model.
        batch: Maximum number of images per forward pass.
        window: Seconds that a job waits for others with the same options.
        on_batch: Called with the number of images of each batch.
    """

    def __init__(
        self, predictor: Predictor, batch: int, window: float, on_batch: Callable[[int], None] = lambda count: None
    ):
        self.predictor, self.batch, self.window, self.on_batch = predictor, batch, window, on_batch
        self._jobs: deque[Job] = deque()
        self._condition = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="densevision-batcher", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Predicts what was submitted, and ends the thread."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify_all()
        self._thread.join()

    def submit(self, job: Job) -> Future[list[Result]]:
        """Adds a job; its future holds the results, or the error of its images. Canceled jobs are left out."""
        with self._condition:
            self._jobs = deque(other for other in self._jobs if not other.future.cancelled())
            self._jobs.append(job)
            self._condition.notify_all()
        return job.future

    def _run(self) -> None:
        while jobs := self._take():
            started = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if started:
                self._process(started)
            del jobs, started  # while the thread waits, nothing keeps the last images

    def _take(self) -> list[Job]:
        """Waits for the jobs of the next batch: those with the options of the oldest; empty at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._jobs or self._is_stopping)
            if not self._jobs:
                return []
            deadline = self._jobs[0].submitted + self.window
            while not self._is_stopping and not self._is_full():
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._condition.wait(remaining):
                    break
            selected = self._select()
            for job in selected:
                self._jobs.remove(job)
            return selected

    def _is_full(self) -> bool:
        return sum(len(job.files) for job in self._select()) >= self.batch

    def _select(self) -> list[Job]:
        """The oldest job, and those that fit into a batch with it."""
        first = self._jobs[0]
        selected, count, pixels = [first], len(first.files), first.pixels
        for job in list(self._jobs)[1:]:
            count, pixels = count + len(job.files), pixels + job.pixels
            if count > self.batch or pixels > MAX_BATCH_PIXELS:
                break
            if job.options == first.options:
                selected.append(job)
            else:
                count, pixels = count - len(job.files), pixels - job.pixels
        return selected

    def _process(self, jobs: list[Job]) -> None:
        """Predicts jobs; one that fails is predicted by itself, so that it fails no other."""
        readable, samples = [], []
        for job in jobs:
            try:
                read = [read_sample(files, self.predictor.task.input_spec, job.options) for files in job.files]
            except Exception as error:
                job.future.set_exception(error)
                continue
            readable.append(job)
            samples.append(read)
        if not readable:
            return
        try:
            results = self._predict(readable, [sample for read in samples for sample in read])
        except Exception as error:
            if len(readable) == 1:
                readable[0].future.set_exception(error)
                return
            log.warning("a batch failed, its images are predicted one by one: %s", error)
            for job in readable:
                self._process([job])
            return
        start = 0
        for job in readable:
            job.future.set_result(results[start : start + len(job.files)])
            start += len(job.files)

    def _predict(self, jobs: list[Job], samples: list[Sample]) -> list[Result]:
        batch = self.batch if sum(job.pixels for job in jobs) <= MAX_BATCH_PIXELS else 1
        options = jobs[0].options.replace(batch=batch)
        for start in range(0, len(samples), batch):
            self.on_batch(len(samples[start : start + batch]))
        return [result for _, result in predict_samples(self.predictor, samples, options)]


def read_sample(files: tuple[Path, ...], specs: Mapping[str, InputSpec], options: PredictOptions) -> Sample:
    """Reads the images of one sample, whatever the suffixes of their files.

    Raises:
        DataError: An image cannot be read, or does not fit the model or the other images.
    """
    images = tuple(load_image(file, options.max_pixels) for file in files)
    try:
        (sample,) = open_source(images if len(images) > 1 else images[0], specs, options.max_pixels).samples
    except DenseVisionError as error:
        raise convert_error(error, DataError, files[0]) from None
    return replace(sample, id=files[0].name, file=str(files[0]))
