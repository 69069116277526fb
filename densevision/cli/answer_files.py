"""Files of answers: each where its image lies below the source, none over another; and the video of a video's."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densevision.errors import UsageError

if TYPE_CHECKING:
    from densevision.io.video import VideoWriter
    from densevision.results.base import Result

FILM = "mp4"
"""The form that is one file for all answers."""


class PredictionWriter:
    """Writes answers as they come.

    Args:
        sources: What is answered, as it was typed.
        folder: Where the answers go.
        forms: Suffixes: each a file for every answer, but for `FILM`.

    Attributes:
        film: Writes the video, if one is wanted; its block is the caller's to open, around all answers.

    Raises:
        UsageError: A video is wanted of answers to something else, or would be written over the one that is answered.
    """

    def __init__(self, sources: Sequence[str], folder: Path, forms: Sequence[str]):
        self.folder, self.roots = folder, [_root(source) for source in sources]
        self.forms = [form.lstrip(".") for form in forms]
        self.film = self._film(sources) if FILM in self.forms else None
        self._written: dict[Path, str] = {}

    def write(self, result: Result, name: str) -> list[Path]:
        """Writes one answer in every form; the files.

        Args:
            result: The answer.
            name: Its image's path, or what else it is called by.

        Raises:
            UsageError: Another answer lies there already, or the answer has no such form.
        """
        place = _place(Path(name), self.roots)
        if place in self._written:
            hint = "Predict them one by one, each into an --out of its own."
            problem = f"would be answered where {self._written[place]} was"
            raise UsageError(problem, file=name, field="--out", hint=hint)
        self._written[place] = name
        files = [self.folder / f"{place}.{form}" for form in self.forms if form != FILM]
        writers = [result.writer(file) for file in files]  # all forms are known before any is written
        for file, writer in zip(files, writers):
            writer(file)
        if self.film is not None:
            self.film.write(result.frame())
        return files

    def _film(self, sources: Sequence[str]) -> VideoWriter:
        from densevision.io.video import VideoWriter, is_video, read_video

        if len(sources) > 1 or not is_video(sources[0]):
            hint = "Leave it out, or give one video."
            raise UsageError("only the answers to a video make one", field="--save", value=FILM, hint=hint)
        path = self.folder / f"{Path(sources[0]).stem}.{FILM}"
        if path.exists() and path.samefile(sources[0]):
            hint = "Name another folder."
            raise UsageError("would be written over by its answers", file=path, field="--out", hint=hint)
        return VideoWriter(path, read_video(sources[0]).fps or 25.0)


def _root(source: str) -> Path:
    """The folder below which a source's images lie: itself, or what stands before the first wild card or the name."""
    path = Path(source)
    if path.exists():
        return path if path.is_dir() else path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _place(path: Path, roots: list[Path]) -> Path:
    """Where an image's answer goes below the folder of answers: its path below the widest root, without suffix."""
    below = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    inside = [place for place in below if ".." not in place.parts]
    return max(inside, key=lambda place: len(place.parts), default=Path(path.name)).with_suffix("")
