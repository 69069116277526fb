"""Weights by name: which there are, where they come from, their licenses, and how they become densevision files.

No torch is imported here.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, WeightsError
from densevision.io.cache_folder import get_cache_folder
from densevision.io.download import download
from densevision.io.hub import WEIGHTS_FILE, apply_mirror, download_model, is_hub_address, parse_hub_address
from densevision.io.weights import Card, PublishedWeights, has_card, load_card
from densevision.tasks import TASKS, check_task_name, import_task_module

if TYPE_CHECKING:
    from densevision.nn.model import Model
    from densevision.run_config import TaskConfig

__all__ = [
    "convert_weights",
    "describe_bundled_weights",
    "find_builtin_model",
    "find_bundled_weights",
    "find_opener",
    "list_builtin_models",
    "list_downloaded_weights",
    "list_weights",
    "resolve_weights",
]

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt")
"""Suffixes of other projects' checkpoints."""
MAGIC_BYTES = (b"PK\x03\x04", b"\x80")
"""How PyTorch checkpoints begin: zip archives, and old pickles. In safetensors the ninth byte is a brace."""
MAX_SUGGESTIONS = 3

log = logging.getLogger(__name__)


def list_weights(task: str | None = None) -> dict[str, PublishedWeights]:
    """Weights that others published, by the names that `weights`, `pretrained` and `train.init_from` take.

    Args:
        task: Only those of this task.

    Returns:
        Name -> license, size, number of parameters, metric and address. Nothing is downloaded.

    Raises:
        UsageError: There is no such task.

    Example:
        >>> list_weights("detection")["yolox/s"].metric
        ('COCO AP', 40.5)
    """
    tasks = TASKS if task is None else (check_task_name(task),)
    return {weights.name: weights for each in tasks for weights in getattr(_weights_module(each), "PUBLISHED", ())}


def list_downloaded_weights(task: str) -> list[str]:
    """Names of the published weights of a task that are in the cache folder, converted and ready for use."""
    return [name for name in list_weights(task) if _converted_file(name).exists()]


def find_bundled_weights(task: str) -> Path | None:
    """The demo weights that ship with the package, trained on synthetic scenes; None where a task has none."""
    path = Path(str(files("densevision"))) / "bundled_weights" / f"{check_task_name(task)}.safetensors"
    return path if path.exists() else None


def resolve_weights(weights: str | os.PathLike[str] | None, task: str | None) -> Path:
    """The file that a `weights` argument means: a path, a name, or the bundled weights when it is None.

    A folder means the `model.safetensors` or `best.safetensors` in it: a pushed model, or a run. A name is downloaded
    and converted on first use, because it was asked for, and kept in the cache folder. `hf://owner/name[@revision]` is
    a densevision model on the Hugging Face Hub, in the cache of huggingface_hub.

    Raises:
        UsageError: Neither weights nor a task is given, or an address on the Hub is written wrongly.
        WeightsError: There is no such file or name, or the download fails or is not the published file.
    """
    if weights is None:
        if task is None:
            raise UsageError("no task given", hint=f"Give task= or weights=. Tasks: {', '.join(TASKS)}.")
        path = find_bundled_weights(task)
        if path is None:
            raise WeightsError(f"there are no bundled weights for {task}", hint="Give weights=, a file or a name.")
        return path
    if is_hub_address(weights):
        return download_model(parse_hub_address(os.fspath(weights)))[0]
    if Path(weights).exists():
        return _find_in_folder(Path(weights)) if Path(weights).is_dir() else Path(weights)
    published = list_weights()
    if str(weights) in published:
        return _fetch(published[str(weights)])
    names = [*list_weights(task), *list_builtin_models(task)]
    hint = _suggest(str(weights), names)
    raise WeightsError("there is no such file and no such name", value=str(weights), hint=hint)


def find_builtin_model(name: str | os.PathLike[str] | None, task: str | None) -> tuple[str, dict[str, Any]] | None:
    """Task and config overrides of a model that needs no weights, such as an interpolation; None for other names.

    Args:
        name: The `weights` argument; an existing file of this name comes first.
        task: Only models of this task.
    """
    if name is None or is_hub_address(name) or Path(name).exists():
        return None
    for owner in TASKS if task is None else (check_task_name(task),):
        overrides = getattr(_weights_module(owner), "BUILT_IN", {}).get(str(name))
        if overrides is not None:
            return owner, overrides
    return None


def find_opener(path: Path, task: str | None) -> Callable[[Path], tuple[TaskConfig, Model]] | None:
    """The function that opens another project's checkpoint directly, where the task has one."""
    module = None if task is None else _weights_module(check_task_name(task))
    if module is None or not hasattr(module, "open_file"):
        return None
    suffix = path.suffix.lower()
    is_foreign = suffix in CHECKPOINT_SUFFIXES or (suffix == ".safetensors" and not has_card(path))
    return module.open_file if is_foreign else None


def describe_bundled_weights(card: Card) -> str:
    """One line about bundled weights: training data, what they cannot do, metrics, license, and alternatives."""
    metrics = card.metrics.get("metrics", {})
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in list(metrics.items())[:2] if value is not None)
    data = str(card.data.get("path") or card.data.get("source") or "unknown data").split(": ", 1)[0]
    is_synthetic = data.startswith("scenes")
    scope = " (synthetic shapes only, not photographs)" if is_synthetic else ""
    names = [f"{each.name} ({each.megabytes:.0f} MB, {each.short_license})" for each in _pick_alternatives(card.task)]
    others = f"; trained on real images: --weights {' or '.join(names)}" if is_synthetic and names else ""
    license_ = card.license.split("; ", 1)[0]
    return (
        f"bundled demo weights for {card.task}: trained on {data}{scope}; {numbers or 'no metrics'}; "
        f"license {license_}{others}"
    )


def _pick_alternatives(task: str) -> list[PublishedWeights]:
    """The smallest published weights of each publisher or model, those that permit commercial use first."""
    weights = [each for each in list_weights(task).values() if each.address]
    weights.sort(key=lambda each: ("NC" in each.short_license, each.megabytes))
    families = {each.name.split("/")[0]: each for each in reversed(weights)}
    return [each for each in weights if each in families.values()][:MAX_SUGGESTIONS]


def convert_weights(name: str, file: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Converts a downloaded checkpoint of another project into a densevision weights file.

    A file whose hash is not the published one, or of which no hash is known, is converted too; a log message and the
    card say that it is not verified.

    Args:
        name: A name of `list_weights()`, which says what architecture the file holds.
        file: The checkpoint.
        out: The safetensors file to write.

    Raises:
        UsageError: There is no such name.
        WeightsError: The file does not hold what the name says.
    """
    published = list_weights()
    if name not in published:
        raise UsageError("there are no such weights", value=name, hint=_suggest(name, published))
    weights = published[name]
    _check_magic_bytes(Path(file), weights)
    weights = replace(weights, file_sha256=_compute_sha256(Path(file)))
    if not weights.is_verified:
        reason = "is not that of the published file" if weights.sha256 else "is all that is known: no hash is published"
        log.warning("%s is not verified as %s; its SHA-256 %s %s", file, name, weights.file_sha256, reason)
        weights = replace(weights, trained_on=f"unknown: not verified as the published {name}")
    _weights_module(weights.task).convert(weights, Path(file), Path(out))  # type: ignore[union-attr]


def _fetch(weights: PublishedWeights) -> Path:
    """The converted file of a name, from the cache or from its address."""
    converted = _converted_file(weights.name)
    if converted.exists():
        load_card(converted)
        return converted
    hint = (
        f"Download it elsewhere and run: densevision convert-weights {weights.name} FILE OUT; "
        "or leave out the name to use the bundled demo weights."
    )
    if not weights.address:
        raise WeightsError("not offered for PyTorch by its publisher", value=weights.name, hint=hint)
    checkpoint = get_cache_folder() / "downloads" / f"{converted.stem}--{weights.address.rsplit('/', 1)[-1]}"
    if not checkpoint.exists():
        address = apply_mirror(weights.address)
        size = f"{weights.megabytes:.0f} MB" if weights.megabytes >= 10 else f"{weights.megabytes:.1f} MB"
        caveat = "" if weights.sha256 else "; no hash of it is known, so it cannot be verified"
        log.warning("downloading %s: %s, license %s, from %s%s", weights.name, size, weights.license, address, caveat)
        download(address, checkpoint, weights.sha256, hint=hint, max_bytes=int(weights.megabytes * 2e6 + 1e8))
    try:
        convert_weights(weights.name, checkpoint, converted)
    except WeightsError:
        if not weights.sha256:  # not what was asked for, such as the page of a proxy: ask again the next time
            checkpoint.unlink()
        raise
    return converted


def _converted_file(name: str) -> Path:
    return get_cache_folder() / f"{name.replace('/', '--')}.safetensors"


def _find_in_folder(folder: Path) -> Path:
    """The weights in a folder that `push` or `train` wrote."""
    for name in (WEIGHTS_FILE, "best.safetensors"):
        if (folder / name).is_file():
            return folder / name
    hint = "Give a weights file, a run folder, or a folder of `densevision push`."
    raise WeightsError(f"a folder without {WEIGHTS_FILE} or best.safetensors", file=folder, hint=hint)


def _suggest(name: str, names: Iterable[str]) -> str:
    """A hint with the nearest names, or where all of them are listed."""
    near = difflib.get_close_matches(name, list(names), n=MAX_SUGGESTIONS)
    quoted = " or ".join(f"'{each}'" for each in near)
    return f"Did you mean {quoted}?" if near else "`densevision models` lists the names."


def _check_magic_bytes(file: Path, weights: PublishedWeights) -> None:
    """Refuses what is not a checkpoint by its first bytes: torch's own errors do not help."""
    if not file.is_file():
        raise WeightsError("there is no such file", file=file)
    with open(file, "rb") as stream:
        head = stream.read(9)
    if not head.startswith(MAGIC_BYTES) and head[8:] != b"{":
        size = file.stat().st_size
        problem = f"not a PyTorch checkpoint, but {size:,} bytes of something else" if size else "the file is empty"
        raise WeightsError(problem, file=file, value=head, hint=f"Give the file that {weights.address} holds.")


def _compute_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_builtin_models(task: str | None = None) -> list[str]:
    """Names of the models that need no weights, such as interpolations; all tasks' by default."""
    tasks = TASKS if task is None else (check_task_name(task),)
    return [name for each in tasks for name in getattr(_weights_module(each), "BUILT_IN", {})]


def _weights_module(task: str) -> ModuleType | None:
    try:
        return import_task_module(task, "weights")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.endswith(f"{task}.weights"):
            raise
        return None
