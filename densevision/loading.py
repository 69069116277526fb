"""Predictors from weights: files, names, exports, under any engine; each file is loaded once per process."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densevision.errors import UsageError, WeightsError
from densevision.inference.predictor import Predictor, TorchPredictor, build_without_weights, load_torch
from densevision.inference.sharing import ForkSafeLock
from densevision.io.hub import find_hub_address
from densevision.io.weights import Card
from densevision.published_weights import (
    describe_bundled_weights,
    find_builtin_model,
    find_opener,
    resolve_weights,
)
from densevision.run_config import Engine
from densevision.tasks import check_task_name, load_task

__all__ = ["configure_predictor", "copy_predictor", "load", "load_cached", "use_engine"]

PathLike = str | os.PathLike[str]
Overrides = Mapping[str, Any] | None

TRAINING_SECTIONS = ("loss.", "degrade.", "quality.", "evaluation.")
"""Sections of configs that matter for training and evaluation and change no prediction."""

log = logging.getLogger(__name__)

_cache: dict[tuple[str, float, str | None], Predictor] = {}
_cache_lock = ForkSafeLock()


def load(
    weights: PathLike | None = None, task: str | None = None, overrides: Overrides = None, engine: Engine = "torch"
) -> Predictor:
    """Loads weights, an exported model, or a name.

    Args:
        weights: A `.safetensors`, `.onnx`, `.xml` (OpenVINO) or `.pt2` (torch.export) file, or a name that
            `densevision models` lists; the bundled demo weights of the task by default.
        task: Refuse weights of any other task.
        overrides: Dotted names to values of the weights' own config, such as `{"scale": 3}`.
        engine: What computes the network: "torch", or "onnxruntime" or "openvino", for which it is exported once into
            the cache folder. They need the extra export.

    Returns:
        A predictor; its `model` is the `torch.nn.Module`, its `card` says what the weights are.

    Raises:
        WeightsError: There is no such file or name, or it is damaged, foreign, newer, or of another task; or it does
            not fit the overrides.
    """
    predictor = _open(weights, task)
    if overrides:
        predictor.configure(overrides)
    return use_engine(predictor, engine)


def _open(weights: PathLike | None, task: str | None) -> Predictor:
    builtin = find_builtin_model(weights, task)
    if builtin is not None:
        return build_without_weights(*builtin)
    path = resolve_weights(weights, task)
    predictor = _read(path, task)
    predictor.file = path
    address = find_hub_address(path)
    if address is not None:  # what is recorded names the commit
        predictor.card = predictor.card.replace(source=str(address))
    if weights is None and logging.getLogger("densevision").level <= logging.INFO:  # --quiet keeps other warnings
        log.warning("%s", describe_bundled_weights(predictor.card))
    return predictor


def _read(path: Path, task: str | None) -> Predictor:
    open_file = find_opener(path, task)
    if open_file is not None and task is not None:
        config, model = open_file(path)
        card = Card(task=task, config=config.to_dict(), source=str(path), license="as its publisher says")
        return TorchPredictor(load_task(task)(config), model.eval(), card, is_owner=True)
    if path.suffix in (".onnx", ".xml", ".pt2"):
        from densevision.exporting.exported_predictor import load_exported

        return load_exported(path, task)
    return load_torch(path, task)


def copy_predictor(weights: Any, task: str | None) -> Predictor:
    """A predictor that can be configured: freshly loaded, or a copy that leaves the given one as it is."""
    if not isinstance(weights, Predictor):
        return load(weights, task)
    _check_task(weights, task)
    return copy.copy(weights)


def configure_predictor(predictor: Predictor, overrides: Mapping[str, Any]) -> Predictor:
    """Applies overrides for prediction.

    Raises:
        UsageError: One of them changes no prediction: those of losses, and those of data that leave the input size.
    """
    config, input_spec = predictor.task.config, predictor.task.input_spec
    predictor.configure(overrides)
    is_same_input = predictor.task.input_spec == input_spec and predictor.task.config != config
    without_effect = (*TRAINING_SECTIONS, "data.") if is_same_input else TRAINING_SECTIONS
    for name, value in overrides.items():
        if name.startswith(without_effect):
            problem = f"has no effect on predictions of {predictor.task.name}"
            raise UsageError(problem, field=name, value=value, hint="Leave it out.")
    return predictor


def _check_task(predictor: Predictor, task: str | None) -> None:
    if task is not None and predictor.task.name != check_task_name(task):
        problem = f"these weights are for {predictor.task.name}, not for {task}"
        raise WeightsError(problem, file=predictor.file, field="task")


def use_engine(predictor: Predictor, engine: Engine | None) -> Predictor:
    """The predictor of the same weights under an engine; see `densevision.engines.open_engine`."""
    if engine in (None, "torch"):
        return predictor
    from densevision.engines import open_engine

    return open_engine(predictor, engine)


def load_cached(weights: Any, task: str | None, engine: Engine | None) -> Predictor:
    """Loads each file once per process, so that a loop over `predict` costs only predictions."""
    path = resolve_weights(weights, task)
    key = (str(path.resolve()), path.stat().st_mtime, engine)
    with _cache_lock:
        predictor = _cache.get(key)
        if predictor is None:
            predictor = load(weights, task, engine=engine or "torch")
            _cache.clear()
            _cache[key] = predictor
    _check_task(predictor, task)
    return predictor
