"""Datasets for the page: pages of samples with their labels, single samples, and the findings of `check`."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Literal, cast

import numpy as np

from densevision import api
from densevision.app.options import AppOptions
from densevision.app.predictions import Prediction
from densevision.app.views import draw_thumbnail, resize_to_view
from densevision.datasets.checks.report import CheckReport
from densevision.datasets.splits import parse_scene_splits
from densevision.errors import UsageError
from densevision.io.image import to_display
from densevision.opened_dataset import Dataset, open_dataset
from densevision.sample import Sample

__all__ = ["PAGE_SIZE", "SCENES", "DatasetShelf", "draw_page", "list_findings", "make_prediction"]

SCENES = "scenes:100"
"""The dataset that is always there."""
PAGE_SIZE = 24
MAX_OPEN = 4
"""Number of datasets whose lists of labels stay in memory."""
MAX_PLACES = 3
"""Places of a finding that are named."""

Split = Literal["train", "val"]


class DatasetShelf:
    """The datasets that the page offers.

    Args:
        data: Datasets, as `train` takes them.
        options: Whether further datasets may be named.
    """

    def __init__(self, data: Sequence[str | os.PathLike[str]], options: AppOptions):
        self.options = options
        self.names = list(dict.fromkeys([*(os.fspath(each) for each in data), SCENES]))
        self._open: OrderedDict[tuple[str, str, str], Dataset] = OrderedDict()
        self._lock = Lock()

    def open(self, task: str, data: str, split: str) -> Dataset:
        """Opens a split of a dataset.

        Raises:
            UsageError: The page does not offer the dataset and none may be named.
            DataError: It cannot be read.
        """
        self._check_name(data)
        key = (task, data, split)
        with self._lock:
            dataset = self._open.pop(key, None) or _open_split(task, data, split)
            self._open[key] = dataset
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return dataset

    def check(self, task: str, data: str) -> CheckReport:
        """Checks all splits of a dataset.

        Raises:
            UsageError: The page does not offer the dataset and none may be named.
            DataError: It cannot be read.
        """
        self._check_name(data)
        return api.check(task, data, quiet=True)

    def _check_name(self, data: str) -> None:
        is_offered = data in self.names or parse_scene_splits(data) is not None
        if not is_offered and not self.options.allows_paths:
            hint = "Start the page with --data to offer it."
            raise UsageError("the page does not offer this dataset", field="data", value=data, hint=hint)


def draw_page(dataset: Dataset, page: int) -> list[tuple[np.ndarray, str]]:
    """Draws the samples of a page, counted from 1, with their labels: thumbnails with captions."""
    start = (page - 1) * PAGE_SIZE
    indices = range(start, min(start + PAGE_SIZE, len(dataset)))
    return [(_draw_thumbnail(dataset[index]), str(dataset[index].id)) for index in indices]


def make_prediction(sample: Sample) -> Prediction | None:
    """The labels of a sample in the form in which the page shows predictions; None without labels."""
    if sample.truth is None:
        return None
    return Prediction(str(sample.id), tuple(sample.images.values()), sample.truth, 0.0)


def list_findings(report: CheckReport) -> list[list[str]]:
    """Rows of a table: severity, name, count, meaning with the first places, and what to do."""
    rows = []
    for finding in report.findings:
        values = finding.to_dict()
        places = [": ".join(str(part) for part in place.values() if part is not None) for place in values["examples"]]
        shown = "; ".join(places[:MAX_PLACES]) + ("; ..." if len(places) > MAX_PLACES else "")
        rows.append(
            [values["severity"], values["name"], str(values["count"]), values["meaning"], shown, values["hint"]]
        )
    return rows


def _open_split(task: str, data: str, split: str) -> Dataset:
    """Opens a split; labels that cannot be used are fixed or skipped, and counted in its notes."""
    return open_dataset(task, data, split=cast(Split, split), overrides={"data.on_error": "fix"})


def _draw_thumbnail(sample: Sample) -> np.ndarray:
    prediction = make_prediction(sample)
    if prediction is None:
        return resize_to_view(to_display(next(iter(sample.images.values()))))
    return draw_thumbnail(prediction, prediction.result)
