"""The config of a weights card, without everything that must not be followed: a card is untrusted data.

Options that shape the network and its predictions are kept, within the limits of `densevision.limits`. Options that
name a file, a folder, a download, a logger or a process are reset: only the caller may name those.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densevision.errors import UsageError, WeightsError, convert_error
from densevision.io.image_files import is_inside
from densevision.io.weights import Card
from densevision.limits import MAX_LIST_LENGTH, check_limits
from densevision.run_config import DataConfig, TaskConfig
from densevision.tasks import load_config

__all__ = ["list_ignored_settings", "read_card_config", "strip_references"]

_REFERENCES: dict[str, dict[str, Any]] = {
    "data": {"path": None, "train": None, "val": None, "workers": 0, "columns": None},
    "train": {"init_from": None, "loggers": (), "mirror": None},
    "quality": {"lpips": None},
}
"""Section -> options that name files, addresses or processes, with their neutral values."""
_SCENES = re.compile(r"scenes(:\d{1,6})?(:\d{1,9})?")
"""Procedural data, which reads no file."""
_MAX_PIXELS = DataConfig.model_fields["max_pixels"].default
_CACHE_SIZE = DataConfig.model_fields["cache_size"].default


def read_card_config(card: Card, file: str | Path) -> TaskConfig:
    """Validates the config of a card, without references to files, addresses or processes.

    Args:
        card: The card of a weights file or an export.
        file: Where the card was read, for error messages.

    Raises:
        WeightsError: The task does not exist, or an option is unknown, of a wrong type, or above its limit.
    """
    try:
        check_limits(card.config)
        if card.classes is not None:
            check_limits({"classes": card.classes})
        return load_config(card.task).from_dict(strip_references(card.config), file)
    except UsageError as error:
        raise convert_error(error, WeightsError, file) from None
    except RecursionError:
        raise WeightsError("the config of the card is nested too deeply", file=file, field="config") from None


def strip_references(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copies a card's config and resets every option that names a file, an address or a process.

    Raises:
        UsageError: A folder name points outside of the dataset.
    """
    values = copy.deepcopy(dict(config))
    for mapping in _iterate_mappings(values):
        if "pretrained" in mapping:  # the tensors of the file replace whatever it names
            mapping["pretrained"] = False
    # Those of joint models have a section with the same options for each task.
    for part in (values, *(section for section in values.values() if isinstance(section, dict))):
        _strip_part(part)
    return values


def _strip_part(values: dict[str, Any]) -> None:
    for section, fields in _REFERENCES.items():
        options = values.get(section)
        if not isinstance(options, dict):
            continue
        for name, neutral in fields.items():
            is_scenes = name == "path" and isinstance(options.get(name), str) and _SCENES.fullmatch(options[name])
            if options.get(name) is not None and not is_scenes:
                options[name] = neutral
    _restrict_data(values.get("data"))
    _disable_frechet(values.get("quality"))


def list_ignored_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lists the evaluation options of a card that are not followed: dotted name -> value."""
    quality = config.get("quality")
    if not isinstance(quality, Mapping):
        return {}
    values = {f"quality.{name}": quality.get(name) for name in ("lpips", "frechet")}
    return {name: value for name, value in values.items() if value}


def _iterate_mappings(values: Any) -> Iterator[dict[str, Any]]:
    if isinstance(values, dict):
        yield values
        for value in list(values.values()):
            yield from _iterate_mappings(value)


def _restrict_data(data: Any) -> None:
    """Refuses folder names that point outside of the dataset, and caps the guards against large input."""
    if not isinstance(data, dict):
        return
    sides = data.get("sides")
    for side in sides if isinstance(sides, (list, tuple)) else ():
        if not isinstance(side, str) or not is_inside(side):
            raise UsageError("points outside of the dataset", field="data.sides", value=side)
    if isinstance(data.get("cache"), str):  # files of the run that trained the weights
        data["cache"] = None
        data.pop("cache_gigabytes", None)
    for name, limit in (("max_pixels", _MAX_PIXELS), ("cache", MAX_LIST_LENGTH), ("cache_size", _CACHE_SIZE)):
        if isinstance(data.get(name), (int, float)):
            data[name] = min(data[name], limit)


def _disable_frechet(quality: Any) -> None:
    """Turns the Frechet distance off: the weights of its feature network would have to be read."""
    if isinstance(quality, dict) and quality.get("frechet"):
        quality["frechet"] = False
        quality.pop("features", None)
        if quality.get("monitor") == "FD":
            quality.pop("monitor")
