"""Weights of joint models: split into those of single tasks, combined from them, and loaded part by part."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densevision.errors import UsageError, WeightsError, convert_error, did_you_mean
from densevision.inference.card_config import read_card_config
from densevision.inference.predictor import load_matching_tensors
from densevision.io.weights import Card, check_task, load_weights, save_weights
from densevision.nn.joint_model import JointModel
from densevision.tasks import load_config, load_task
from densevision.tasks.base import Task

__all__ = ["combine", "load_matching_parts", "split", "split_tensors"]

log = logging.getLogger("densevision")

NAME = "joint"


def split(weights: str | Path, out: str | Path) -> list[Path]:
    """Writes the weights of each part of a joint model as complete weights of its own task.

    Args:
        weights: Weights of a joint model.
        out: The folder; files are named after the parts.

    Returns:
        The files.

    Raises:
        WeightsError: The file cannot be read, or is of another task.
    """
    tensors, card = load_weights(weights, NAME)
    files = []
    for name, (own_tensors, own_card) in split_tensors(tensors, card, weights).items():
        files.append(Path(out) / f"{name}.safetensors")
        save_weights(files[-1], own_tensors, own_card)
    return files


def split_tensors(
    tensors: Mapping[str, Tensor], card: Card, file: str | Path
) -> dict[str, tuple[dict[str, Tensor], Card]]:
    """The state dict and the card of each part.

    Args:
        tensors: State dict of a joint model.
        card: Its card.
        file: Where they come from, for messages.

    Raises:
        WeightsError: The tensors are not those that the card describes.
    """
    config: Any = read_card_config(card, file)
    parts = {}
    for name, part in config.heads.items():
        model = load_task(part.task)(part).meta_model
        encoder = f"{model.backbone_name}."
        sources = {
            key: f"encoder.{key.removeprefix(encoder)}" if key.startswith(encoder) else f"heads.{name}.{key}"
            for key in model.state_dict()
        }
        if missing := [source for source in sources.values() if source not in tensors]:
            problem = "the tensors do not fit the model that the card describes"
            raise WeightsError(problem, file=file, field=missing[0], value="nothing")
        classes = getattr(part, "classes", None)
        own_card = card.replace(
            task=part.task, config=part.to_dict(), classes=classes, metrics=_select_metrics(card.metrics, name)
        )
        parts[name] = ({key: tensors[source] for key, source in sources.items()}, own_card)
    return parts


def combine(files: Mapping[str, str | Path], out: str | Path, encoder: str | None = None) -> Path:
    """Writes weights of single tasks as those of a joint model, to be trained on.

    Heads whose encoder had other weights than the shared one predict nothing useful before that.

    Args:
        files: Name of each part -> weights of its task, all on the same timm model.
        out: The file.
        encoder: The part whose encoder is shared; the first one by default.

    Raises:
        WeightsError: A file cannot be read, or is of another task than its part.
        UsageError: The encoders differ, or there is no such part.
    """
    if not files or (encoder is not None and encoder not in files):
        hint = did_you_mean(encoder or "", files) if files else "Give PART=FILE for each part."
        raise UsageError("there is no such part", field="encoder", value=encoder, hint=hint)
    config_class: Any = load_config(NAME)
    loaded = {name: load_weights(file) for name, file in files.items()}
    configs = {name: read_card_config(card, files[name]) for name, (_, card) in loaded.items()}
    try:
        config = config_class.join(configs)
    except UsageError as error:
        raise convert_error(error, UsageError, out) from None
    for name, (_, card) in loaded.items():
        check_task(card, files[name], config.heads[name].task)
    first = encoder or next(iter(files))
    models = {}
    for name, (tensors, _) in loaded.items():
        models[name] = load_task(configs[name].task)(configs[name]).build_model()
        models[name].load_state_dict(tensors)
    model = JointModel(models, config.balance.weights, config.balance.method == "uncertainty")
    shared = {key.partition(".")[2]: value for key, value in _select_encoder(loaded[first][0], models[first]).items()}
    model.encoder.load_state_dict(shared, strict=False)
    changed = [name for name, (tensors, _) in loaded.items() if _differs(tensors, loaded[first][0], models[name])]
    if changed:
        log.warning("%s: train it; these heads come from other encoders: %s", out, ", ".join(changed))
    licenses = sorted({card.license for _, card in loaded.values() if card.license})
    source = ", ".join(f"{name}: {file}" for name, file in files.items())
    card = Card(task=NAME, config=config.to_dict(), license="; ".join(licenses), source=source)
    save_weights(out, model.state_dict(), card)
    return Path(out)


def load_matching_parts(model: JointModel, task: Task, path: str | Path) -> list[str]:
    """Loads the tensors of a weights file that fit a joint model.

    Of joint weights it takes the encoder and the heads of the same names, of weights of one of the tasks the encoder
    and that head, and of others the encoder. Classes are matched by name.

    Args:
        model: The model.
        task: Its task.
        path: A densevision weights file.

    Returns:
        Names of the model's tensors that were not loaded.

    Raises:
        WeightsError: The file cannot be read, or no tensor fits.
    """
    tensors, card = load_weights(path)
    if card.task == NAME:
        sources = split_tensors(tensors, card, path)
    else:
        sources = {name: (tensors, card) for name, part in task.parts.items() if part.name == card.task}
    common = [name for name in task.parts if name in sources]
    if not common:
        return load_matching_tensors(model, tensors, card, path, NAME)
    skipped = {f"heads.{name}" for name in task.parts if name not in sources}
    for name in common:
        part = task.parts[name]
        with model.expose(name) as head:
            classes = getattr(part.config, "classes", None)
            names = load_matching_tensors(head, *sources[name], path, part.name, classes)
        skipped |= {f"{name}/{key}" for key in names}
    return sorted(skipped)


def _select_encoder(tensors: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith(f"{model.backbone_name}.")}


def _differs(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], model: Any) -> bool:
    """Whether two state dicts have other weights of the encoder."""
    return any(
        key in others and not torch.equal(value, others[key]) for key, value in _select_encoder(tensors, model).items()
    )


def _select_metrics(metrics: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The metrics of a part, and their protocol."""
    values, protocol = metrics.get("metrics"), metrics.get("protocol")
    if not isinstance(values, Mapping) or not isinstance(protocol, Mapping):
        return {}
    own = {key.removeprefix(f"{name}/"): value for key, value in values.items() if key.startswith(f"{name}/")}
    return {"metrics": own, "protocol": protocol.get(name, {})}
