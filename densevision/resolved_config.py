"""The config of a run: from defaults, a file, overrides, the data, and the weights that it starts from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densevision.errors import DataError, UsageError
from densevision.io.hub import is_hub_address
from densevision.published_weights import resolve_weights
from densevision.run_config import TaskConfig
from densevision.tasks import check_task_name, load_config
from densevision.yaml_files import read_yaml

__all__ = ["check_dataset_path", "find_config", "resolve_config", "start_from_weights"]

PathLike = str | os.PathLike[str]
Overrides = Mapping[str, Any] | None

ARCHIVE_SUFFIXES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def resolve_config(
    task: str | None, data: PathLike | None, config: PathLike | None, overrides: Overrides
) -> TaskConfig:
    """The config of a run: defaults < YAML < overrides < data.

    Args:
        task: A name in `TASKS`; the YAML may name it instead.
        data: A dataset, or `scenes[:COUNT[:SEED]]`.
        config: A YAML file, or the name of a shipped one such as "detection/coco".
        overrides: Dotted names to values.

    Raises:
        UsageError: No task is named, two different ones are, or an option is wrong.
    """
    values = dict(overrides or {})
    if data is not None:
        values["data.path"] = check_dataset_path(data)
    file = None if config is None else find_config(config)
    stated = read_yaml(file).get("task") if file is not None else None
    task = task or stated
    if task is None:
        raise UsageError("no task given", hint="Give task=, or a config that names it.")
    if stated is not None and stated != task:
        raise UsageError(f"is a config for {stated}, not for {task}", file=file, field="task")
    return load_config(check_task_name(task)).resolve(file, values)


def start_from_weights(
    run_config: TaskConfig, data: PathLike | None, config: PathLike | None, overrides: Overrides
) -> TaskConfig:
    """The config with the file that `train.init_from` names, and the architecture of these weights."""
    from densevision.training.inherited_options import list_inherited_options

    weights = str(run_config.train.init_from)
    if is_hub_address(weights) or not Path(weights).is_file():  # a name, or a folder
        weights = str(resolve_weights(weights, run_config.task))
    values = {} if config is None else read_yaml(find_config(config))
    given = {*_list_names(values), *(overrides or {})}
    inherited = list_inherited_options(weights, run_config, given)
    settings = {**inherited, **(overrides or {}), "train.init_from": weights}
    return resolve_config(run_config.task, data, config, settings)


def _list_names(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of nested options."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _list_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def find_config(config: PathLike) -> Path:
    """The file of a config: a path, or the name of a shipped one such as "detection/coco".

    Raises:
        UsageError: There is neither.
    """
    path = Path(config)
    if path.is_file():
        return path
    package = Path(__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        shipped = folder / f"{os.fspath(config).removesuffix('.yaml')}.yaml"
        if folder.is_dir() and shipped.is_file() and shipped.resolve().is_relative_to(folder.resolve()):
            return shipped
    names = sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))
    hint = f"Shipped configs: {', '.join(names)}." if names else None
    raise UsageError("there is no such config", file=config, hint=hint)


def check_dataset_path(data: PathLike) -> str:
    """The path as text; refuses archives that are not read member by member, with specific words."""
    path = os.fspath(data)
    if path.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError("is an archive, not a dataset", file=path, hint="Unpack it, and pass its folder.")
    return path
