"""What a fuzz trial needs to know about a reader, and the verdict on one mutation."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densevision.errors import DenseVisionError
from fuzzing.mutations import Mutate, mutate_bytes

MAX_SECONDS = 5.0
REFUSED, READ = "refused", "read"
"""Outcomes that are allowed: an error of this package, or content (with notes, where something was skipped)."""
WRONG_ERROR, ACCEPTED, SLOW = "wrong error", "accepted", "slow"
"""Outcomes that are not: another exception, content of a file that the reference decoder refuses, too much time."""


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        name: What is read, in one word.
        seeds: File name -> valid content. One is mutated at a time.
        read: Reads the mutated file in its folder; returns the notes about what was skipped. May draw options.
        prepare: Writes the files beside it, once per folder.
        refuses: Whether an independent decoder cannot read a file that was accepted.
        mutate: Changes the content.
    """

    name: str
    seeds: dict[str, bytes]
    read: Callable[[Path, random.Random], Sequence[str]]
    prepare: Callable[[Path], object] = lambda folder: None
    refuses: Callable[[Path], bool] | None = None
    mutate: Mutate = mutate_bytes


@dataclass(frozen=True)
class Verdict:
    """The outcome of one mutation, with the exception or the duration if it is a fault."""

    outcome: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.outcome not in (REFUSED, READ)


def write(folder: Path, files: dict[str, bytes | str]) -> None:
    """Writes files and their folders."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def prepare(reader: Reader, folder: Path) -> None:
    """Writes the valid files and their neighbors."""
    write(folder, dict(reader.seeds))
    reader.prepare(folder)


def mutate(reader: Reader, index: int, seed: int) -> tuple[str, bytes, random.Random]:
    """Mutation number `index`: the file name, the content, and the generator that its reading continues."""
    rng = random.Random(f"{seed} {reader.name} {index}")
    name = sorted(reader.seeds)[index % len(reader.seeds)]
    return name, reader.mutate(reader.seeds[name], rng), rng


def run_trial(reader: Reader, folder: Path, index: int, seed: int) -> Verdict:
    """Reads mutation number `index` in a prepared folder, and restores the valid file."""
    name, content, rng = mutate(reader, index, seed)
    path = folder / name
    path.write_bytes(content)
    try:
        return _assess(reader, path, rng)
    finally:
        path.write_bytes(reader.seeds[name])


def _assess(reader: Reader, path: Path, rng: random.Random) -> Verdict:
    start = time.process_time()
    try:
        notes: Sequence[str] | None = reader.read(path, rng)
    except DenseVisionError:
        notes = None
    except Exception as error:
        return Verdict(WRONG_ERROR, _describe(error))
    seconds = time.process_time() - start
    if seconds > MAX_SECONDS:
        return Verdict(SLOW, f"{seconds:.1f} s")
    if notes is None:
        return Verdict(REFUSED)
    return Verdict(ACCEPTED) if not notes and _is_refused(reader, path) else Verdict(READ)


def _is_refused(reader: Reader, path: Path) -> bool:
    if reader.refuses is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader.refuses(path)


def _describe(error: BaseException) -> str:
    """The exception, and the last place in this package that it passed."""
    places, frame = [], error.__traceback__
    while frame is not None:
        file = Path(frame.tb_frame.f_code.co_filename)
        if "densevision" in file.parts:
            places.append(f"{file.name}:{frame.tb_lineno}")
        frame = frame.tb_next
    text: Any = str(error)
    return f"{type(error).__name__}: {text[:160]} ({places[-1] if places else 'reference'})"
