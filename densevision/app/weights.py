"""The weights that the page offers, and those that are loaded."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from densevision import api
from densevision.app.options import AppOptions
from densevision.errors import UsageError
from densevision.file_info import EXPORT_SUFFIXES
from densevision.inference.predict import check_options
from densevision.inference.predictor import Predictor
from densevision.published_weights import (
    describe_bundled_weights,
    find_builtin_model,
    find_bundled_weights,
    list_builtin_models,
    list_downloaded_weights,
    list_weights,
    resolve_weights,
)
from densevision.tasks import TASKS, check_task_name

__all__ = ["BUNDLED", "WeightsShelf", "describe_card"]

BUNDLED = "bundled demo weights"
"""The name of a task's bundled weights in the page."""
MAX_LOADED = 4
"""Number of models that stay in memory."""


class WeightsShelf:
    """Weights by task and name.

    Args:
        weights: Files, exported models or names.
        options: Engine, device, precision and limits; and whether further weights may be named.

    Raises:
        WeightsError: Weights cannot be read.
    """

    def __init__(self, weights: Sequence[str | os.PathLike[str]], options: AppOptions):
        self.options = options
        self._names = {task: _list_local_weights(task) for task in TASKS}
        self._loaded: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        self._lock = Lock()
        for each in weights:
            names = self._names[_find_task(each)]
            if os.fspath(each) not in names:
                names.append(os.fspath(each))

    def list_tasks(self) -> list[str]:
        """Tasks that there are weights for; all of them where weights may be named."""
        return [task for task in TASKS if self.options.allows_paths or self._names[task]]

    def list_names(self, task: str) -> list[str]:
        """Names of the weights of a task."""
        return list(self._names[task])

    def load(self, task: str, name: str | None) -> Predictor:
        """Loads weights, or takes them from memory.

        Raises:
            UsageError: There is no such task, no name, or the page does not offer these weights and none may be named.
            WeightsError: They cannot be loaded, or are of another task.
        """
        check_task_name(task)
        if not name:
            raise UsageError(
                "no weights are given", field="weights", hint="Start the page with --weights, or type a path."
            )
        if name not in self.list_names(task) and not self.options.allows_paths:
            hint = "Start the page with --weights to offer them."
            raise UsageError("the page does not offer these weights", field="weights", value=name, hint=hint)
        with self._lock:
            key = (task, _identify(name))
            predictor = self._loaded.pop(key, None) or self._open(task, name)
            self._loaded[key] = predictor
            while len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
        return predictor

    def _open(self, task: str, name: str) -> Predictor:
        predictor = api.load(find_bundled_weights(task) if name == BUNDLED else name, task, engine=self.options.engine)
        settings = {name: getattr(self.options, name) for name in ("device", "precision", "max_pixels")}
        predictor.options = check_options(predictor, settings)
        return predictor


def describe_card(predictor: Predictor, name: str) -> str:
    """One line about weights: architecture, training data, metrics and license."""
    card = predictor.card
    if name == BUNDLED:
        return describe_bundled_weights(card).split("; trained on real images", 1)[0]
    metrics = card.metrics.get("metrics", {})
    numbers = [f"{key} {value:.4g}" for key, value in list(metrics.items())[:2] if isinstance(value, (int, float))]
    data = card.data.get("path") or card.data.get("source")
    parts = [
        str(card.config.get("arch", "")),
        f"trained on {data}" if data else "",
        *numbers,
        f"license {card.license}",
    ]
    return "; ".join(part for part in parts if part)


def _list_local_weights(task: str) -> list[str]:
    """What needs no network: bundled weights, models without weights, and weights that were downloaded before."""
    bundled = [BUNDLED] if find_bundled_weights(task) else []
    return [*bundled, *list_builtin_models(task), *list_downloaded_weights(task)]


def _find_task(weights: str | os.PathLike[str]) -> str:
    """The task of a file or a name; nothing is downloaded."""
    builtin, published = find_builtin_model(weights, None), list_weights()
    if builtin is not None:
        return builtin[0]
    if not Path(weights).exists() and os.fspath(weights) in published:
        return published[os.fspath(weights)].task
    path = resolve_weights(weights, None)
    return api.load(path).task.name if path.suffix in EXPORT_SUFFIXES else api.read_card(path).task


def _identify(name: str) -> str:
    """The name, with the time of the last change of a file, so that a file that was written anew is loaded anew."""
    path = Path(name)
    return f"{name}@{path.stat().st_mtime_ns}" if path.exists() else name
