"""Named weights: where they come from, under what terms, and how they become a file of ours. No torch here."""

from __future__ import annotations

import difflib
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, WeightsError
from densevision.io.atomic_write import whole
from densevision.io.weights import Card, PublishedWeights, load_card
from densevision.tasks import TASKS, known

if TYPE_CHECKING:
    from densevision.run_config import TaskConfig
    from densevision.tasks.base import DenseModel

FOREIGN = (".pth", ".pt", ".ckpt")
"""Suffixes of files that other tools wrote."""
HEADS = (b"PK\x03\x04", b"\x80")
"""What PyTorch's checkpoints begin with: archives, and pickles of old; safetensors have a brace as their ninth byte."""
NEAREST = 3
"""Names that are offered for one that is not known."""


def published_weights() -> dict[str, PublishedWeights]:
    """Every name that some task can convert."""
    found = {}
    for task in TASKS:
        for weights in _foreign(task):
            found[weights.name] = weights
    return found


def bundled_weights(task: str) -> Path | None:
    """The starter weights that ship with the package, or None where the task has none yet."""
    path = Path(str(files("densevision"))) / "bundled_weights" / f"{known(task)}.safetensors"
    return path if path.exists() else None


def resolve(weights: str | os.PathLike[str] | None, task: str | None) -> Path:
    """The file that a `weights` argument means: a path, a name, or the starter weights when it is None.

    A name is downloaded and converted only now, because it was asked for, and kept in the cache folder.

    Raises:
        UsageError: Neither weights nor a task are given.
        WeightsError: No such file or name, or the download failed or is not what its publisher made.
    """
    if weights is None:
        if task is None:
            raise UsageError("which task?", hint=f"Give task= or weights=. Tasks: {', '.join(TASKS)}.")
        path = bundled_weights(task)
        if path is None:
            raise WeightsError(f"{task} has no starter weights", hint="Give weights=, a file or a name.")
        return path
    path = Path(weights)
    if path.exists():
        return path
    names = published_weights()
    if str(weights) in names:
        return _downloaded(names[str(weights)])
    of_task = [name for name, named in names.items() if task in (None, named.task)]
    needless = (getattr(_foreign_module(owner), "BUILT_IN", {}) for owner in TASKS if task in (None, owner))
    hint = _nearest(str(weights), [*of_task, *(name for built in needless for name in built)])
    raise WeightsError("no such file and no such name", value=str(weights), hint=hint)


def built_in(name: str | os.PathLike[str] | None, task: str | None) -> tuple[str, dict[str, Any]] | None:
    """The task and the settings of a model that needs no file, by its name; None where the name means no such model.

    Args:
        name: What a person gave as weights; a file of this name comes first.
        task: Look for models of this task alone.
    """
    if name is None or Path(name).exists():
        return None
    for owner in TASKS if task is None else (known(task),):
        settings = getattr(_foreign_module(owner), "BUILT_IN", {}).get(str(name))
        if settings is not None:
            return owner, settings
    return None


def opener(path: Path, task: str | None) -> Callable[[Path], tuple[TaskConfig, DenseModel]] | None:
    """What opens a file of other tools as it is, where the task offers that and the file is not one of ours."""
    module = None if task is None else _foreign_module(known(task))
    if module is None or not hasattr(module, "open_file") or path.suffix not in FOREIGN:
        return None
    return module.open_file


def announcement(card: Card) -> str:
    """One line about weights: what they were trained on, how well they did there, under what terms."""
    numbers = card.metrics.get("metrics", {})
    shown = ", ".join(f"{name} {value:.3f}" for name, value in list(numbers.items())[:2] if value is not None)
    trained = card.data.get("path") or card.data.get("source") or "unknown data"
    return f"starter weights for {card.task}: trained on {trained}; {shown or 'no numbers'}; license {card.license}"


def convert(name: str, file: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Converts a downloaded foreign file into weights of ours.

    Raises:
        UsageError: No such name.
        WeightsError: The file does not hold what the name says.
    """
    names = published_weights()
    if name not in names:
        raise UsageError("no such weights", value=name, hint=_nearest(name, names))
    _refuse_strangers(Path(file), names[name])
    _converter(names[name].task)(names[name], Path(file), Path(out))


def _nearest(name: str, known_names: Iterable[str]) -> str:
    """A sentence with the few names that are nearest, or where all of them stand."""
    near = difflib.get_close_matches(name, list(known_names), n=NEAREST)
    shown = " or ".join(f"'{one}'" for one in near)
    return f"Did you mean {shown}?" if near else "`densevision models` lists the names."


def _refuse_strangers(file: Path, weights: PublishedWeights) -> None:
    """Refuses what is no checkpoint by its first bytes: torch's readers fail on such in ways that tell nothing."""
    if not file.is_file():
        raise WeightsError("there is no such file", file=file)
    with open(file, "rb") as stream:
        head = stream.read(9)
    if not head.startswith(HEADS) and head[8:] != b"{":
        size = file.stat().st_size
        problem = (
            f"no PyTorch checkpoint: {size:,} bytes of something else" if size else "no PyTorch checkpoint: it is empty"
        )
        raise WeightsError(problem, file=file, value=head, hint=f"Give the file that {weights.address} holds.")


def cache_folder() -> Path:
    """Where downloads are kept: $DENSEVISION_CACHE, or ~/.cache/densevision."""
    return Path(os.environ.get("DENSEVISION_CACHE", Path.home() / ".cache" / "densevision"))


def _foreign(task: str) -> tuple[PublishedWeights, ...]:
    return getattr(_foreign_module(task), "PUBLISHED", ())


def _foreign_module(task: str) -> ModuleType | None:
    try:
        return import_module(f"densevision.tasks.{task}.weights")
    except ModuleNotFoundError as failure:
        if failure.name != f"densevision.tasks.{task}.weights":
            raise
        return None


def _converter(task: str) -> Callable[[PublishedWeights, Path, Path], None]:
    return import_module(f"densevision.tasks.{task}.weights").convert


def _downloaded(weights: PublishedWeights) -> Path:
    kept = cache_folder() / f"{weights.name.replace('/', '--')}.safetensors"
    if kept.exists():
        load_card(kept)
        return kept
    raw = cache_folder() / "downloads" / weights.address.rsplit("/", 1)[-1]
    if not raw.exists():
        _fetch(weights, raw)
    convert(weights.name, raw, kept)
    return kept


def _fetch(weights: PublishedWeights, raw: Path) -> None:
    digest = hashlib.sha256()
    hint = f"Download it elsewhere and convert it: python tools/convert.py {weights.name} FILE OUT."
    with whole(raw) as temporary:
        try:
            with urllib.request.urlopen(weights.address, timeout=60) as answer, open(temporary, "wb") as stream:
                while block := answer.read(1 << 20):
                    digest.update(block)
                    stream.write(block)
        except (urllib.error.URLError, TimeoutError) as failure:
            raise WeightsError(f"cannot download {weights.address}: {failure}", value=weights.name, hint=hint) from None
        if not digest.hexdigest().startswith(weights.sha256):
            problem = f"{weights.address} is not the file that its publisher made: its SHA-256 differs"
            raise WeightsError(problem, value=digest.hexdigest()[:16], hint=f"Expected {weights.sha256}.")
