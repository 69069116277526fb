"""The models that a server offers, by task and name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from densevision.api import load
from densevision.errors import UsageError
from densevision.inference.predict import check_options
from densevision.inference.predictor import Predictor
from densevision.results import Result
from densevision.serving.batching import Batcher, Job
from densevision.serving.options import ServerOptions
from densevision.serving.uploads import image_fields
from densevision.tasks import check_task_name

__all__ = ["ServedModel", "load_model"]

EXAMPLE_SIZE = (2, 3)
"""(height, width) of the image of the first prediction, whose result is small enough for the documentation."""


class ServedModel:
    """A model under a name.

    Attributes:
        name: The name that requests select it by.
        predictor: The model; its options are the defaults of requests.
        example: The result for a tiny black image, which shows that the model works before requests come.
    """

    def __init__(self, name: str, predictor: Predictor, options: ServerOptions | None = None):
        options = options or ServerOptions()
        self.name, self.predictor = name, predictor
        settings = {"device": options.device, "precision": options.precision, "max_pixels": options.max_pixels}
        predictor.options = check_options(predictor, settings)
        channels = next(iter(predictor.task.input_spec.values())).channels
        blank = np.zeros((*EXAMPLE_SIZE, channels), np.uint8)
        count = len(image_fields(predictor.task.input_spec))
        self.example: Mapping[str, Any] = predictor.predict((blank,) * count if count > 1 else blank).to_dict()
        self._batcher: Batcher | None = None

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.predictor.task.name

    @property
    def result_type(self) -> type[Result]:
        """Type of the results."""
        return self.predictor.task.Result

    def describe(self) -> dict[str, Any]:
        """What clients may know about the model."""
        card = self.predictor.card
        return {"task": self.task, "name": self.name, "classes": card.classes, "license": card.license}

    def start(self, options: ServerOptions, on_batch: Callable[[int], None]) -> None:
        """Starts to predict."""
        self._batcher = Batcher(self.predictor, options.batch, options.batch_window_ms / 1000, on_batch)
        self._batcher.start()

    def submit(self, job: Job) -> Future[list[Result]]:
        """Adds a job to the queue of the model, which must be started."""
        assert self._batcher is not None
        return self._batcher.submit(job)

    def stop(self) -> None:
        """Predicts what was submitted, and ends."""
        if self._batcher is not None:
            self._batcher.stop()


def load_model(text: str, options: ServerOptions | None = None) -> ServedModel:
    """Loads a model from `TASK=WEIGHTS`, or from `TASK` for the bundled demo weights.

    Args:
        text: The weights are a file, an exported model or a published name; a file's name without suffix, or the
            published name, is the name of the model.
        options: Device, precision and limits.

    Raises:
        UsageError: There is no such task.
        WeightsError: The weights cannot be loaded, or are of another task.
    """
    task, equals, weights = text.partition("=")
    if equals and not weights:
        raise UsageError("names no weights", field="model", value=text, hint="For example detection=best.safetensors.")
    predictor = load(weights or None, check_task_name(task), engine="torch" if options is None else options.engine)
    name = (Path(weights).stem if Path(weights).is_file() else weights) if weights else "bundled"
    return ServedModel(name, predictor, options)
