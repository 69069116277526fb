"""Files of predictions: each at its image's path below the source, none written over another; one video per video."""

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

__all__ = ["PredictionWriter"]

VIDEO = "mp4"
"""The format that is one file for all predictions."""


class PredictionWriter:
    """Writes predictions as they come.

    Args:
        sources: What is predicted, as it was typed.
        folder: Output folder.
        formats: Suffixes: each a file for every prediction, except `VIDEO`.

    Attributes:
        video: Writes the video, if one is requested; the caller enters its context around all predictions.

    Raises:
        UsageError: A video is requested for something else, or would overwrite the one that is predicted; or a format
            is that of a dataset, which `autolabel` writes.
    """

    def __init__(self, sources: Sequence[str], folder: Path, formats: Sequence[str]):
        self.folder, self.roots = folder, [_find_root(source) for source in sources]
        self.formats = [suffix.lstrip(".") for suffix in formats]
        _refuse_datasets(self.formats)
        self.video = self._open_video(sources) if VIDEO in self.formats else None
        self._written: dict[Path, str] = {}

    def write(self, result: Result, name: str) -> list[Path]:
        """Writes one prediction in every format.

        Args:
            result: The prediction.
            name: Path of its image, or another name.

        Returns:
            The files.

        Raises:
            UsageError: Another prediction was written there, or the result has no such format.
        """
        stem = _relative_stem(Path(name), self.roots)
        if stem in self._written:
            problem = f"would overwrite the prediction of {self._written[stem]}"
            hint = "Predict them separately, each into its own --out."
            raise UsageError(problem, file=name, field="--out", hint=hint)
        self._written[stem] = name
        files = [self.folder / f"{stem}.{suffix}" for suffix in self.formats if suffix != VIDEO]
        writers = [result.get_writer(file) for file in files]  # all formats are known before any is written
        for file, write in zip(files, writers):
            write(file)
        if self.video is not None:
            self.video.write(result.draw_frame())
        return files

    def _open_video(self, sources: Sequence[str]) -> VideoWriter:
        from densevision.io.video import VideoWriter, is_video, read_video

        if len(sources) > 1 or not is_video(sources[0]):
            hint = "Leave it out, or give one video."
            raise UsageError("only the predictions for a video make one", field="--save", value=VIDEO, hint=hint)
        path = self.folder / f"{Path(sources[0]).stem}.{VIDEO}"
        if path.exists() and path.samefile(sources[0]):
            raise UsageError("would be overwritten", file=path, field="--out", hint="Name another folder.")
        return VideoWriter(path, read_video(sources[0]).fps or 25.0)


def _refuse_datasets(formats: Sequence[str]) -> None:
    """Refuses formats of annotation programs, which hold many images in a file.

    Raises:
        UsageError: One of the formats is such a one.
    """
    from densevision.datasets.conversion import OBJECT_WRITERS

    for name in formats:
        if name in OBJECT_WRITERS:
            problem = "is a format of datasets, not of single predictions"
            hint = f"Write labels that people correct: densevision TASK autolabel SOURCE OUT --to {name}"
            raise UsageError(problem, field="--save", value=name, hint=hint)


def _find_root(source: str) -> Path:
    """The folder below which a source's images lie: itself, or the part before the first wildcard or the file name."""
    path = Path(source)
    if path.exists():
        return path if path.is_dir() else path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _relative_stem(path: Path, roots: list[Path]) -> Path:
    """An image's path below the outermost root, without suffix: where its prediction goes in the output folder."""
    relative = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    inside = [candidate for candidate in relative if ".." not in candidate.parts]
    return max(inside, key=lambda candidate: len(candidate.parts), default=Path(path.name)).with_suffix("")
