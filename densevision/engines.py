"""Other runtimes for predictions of the same weights: `engine="onnxruntime"` or `"openvino"`.

The network is exported once into the cache folder and verified there, as every export is; the postprocessing stays in
PyTorch, so that thresholds can be chosen at each prediction.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import torch

from densevision.errors import UsageError, WeightsError, did_you_mean
from densevision.exporting.export import REQUIRED_MODULES, SUFFIXES, export
from densevision.exporting.exported_predictor import ExportedPredictor, import_runtime, load_exported
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.io.cache_folder import get_cache_folder
from densevision.run_config import Engine

__all__ = ["hash_weights", "open_engine"]

log = logging.getLogger("densevision")

_FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
_VERSIONED = ("densevision", "torch", "timm")
_OTHER_SECTIONS = ("data", "train", "augment")
"""Sections of a config that change no network, but for the size of its input, which is hashed by itself."""


def open_engine(predictor: Predictor, engine: str) -> Predictor:
    """The predictor of the same weights under another engine.

    The file in the cache is found by a hash of the weights, of the config and of the versions of all packages that
    take part; a file that is damaged is written again.

    Args:
        predictor: Weights of PyTorch.
        engine: An `Engine`; "torch" returns the predictor itself.

    Raises:
        UsageError: There is no such engine, or the predictor is an exported file.
        ExportError: The model cannot be exported, its outputs differ, or the packages of the engine are missing.
    """
    if engine == "torch":
        return predictor
    if engine not in _FORMATS:
        raise UsageError("no such engine", field="engine", value=engine, hint=did_you_mean(engine, get_args(Engine)))
    if not isinstance(predictor, TorchPredictor):
        hint = "Leave it out, or give the weights from which it was exported."
        raise UsageError("has no effect on an exported file", field="engine", value=engine, hint=hint)
    file_format = _FORMATS[engine]
    file = _find_place(predictor, engine) / f"model{SUFFIXES[file_format]}"
    try:
        opened = load_exported(file, predictor.task.name) if file.is_file() else None
    except WeightsError as error:
        log.warning("%s; it is exported again", error)
        opened = None
    if opened is None:
        opened = _export(predictor, file_format, file)
    opened.task, opened.card, opened.options, opened.file = (
        predictor.task,
        predictor.card,
        predictor.options,
        predictor.file,
    )
    return opened


def _export(predictor: TorchPredictor, file_format: str, file: Path) -> ExportedPredictor:
    log.info("exporting for the cache, once: %s", file)
    file.parent.mkdir(parents=True, exist_ok=True)
    source = copy.copy(predictor)  # exporting hands the network out; the given predictor keeps its inference form
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        written = export(source, Path(folder) / file.name, file_format, decode=not predictor.task.has_postprocess)
        for part in sorted(written.parent.iterdir(), reverse=True):  # an .xml comes after its .bin
            part.replace(file.parent / part.name)
    return load_exported(file, predictor.task.name)


def hash_weights(predictor: Predictor) -> str:
    """SHA-256 in hexadecimal of the tensors with their names, or of an exported file."""
    digest = hashlib.sha256()
    if isinstance(predictor, TorchPredictor):
        for name, tensor in copy.copy(predictor).model.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif predictor.file is not None:
        for file in (predictor.file, predictor.file.with_suffix(".bin")):
            digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


def _find_place(predictor: TorchPredictor, engine: str) -> Path:
    modules = [module for module in REQUIRED_MODULES[_FORMATS[engine]] if import_runtime(module, WeightsError)]
    versions = {name: version(name) for name in (*_VERSIONED, *modules)}
    config = {name: value for name, value in predictor.task.config.to_dict().items() if name not in _OTHER_SECTIONS}
    sizes = {name: asdict(spec) for name, spec in predictor.task.input_spec.items()}
    values = [engine, versions, config, sizes, hash_weights(predictor)]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    return get_cache_folder() / "engines" / digest.hexdigest()[:32]
