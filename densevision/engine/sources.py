"""Whatever a person points at, as a stream of samples: one picture at a time, never the folder or the video."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.image import as_image, to_channels
from densevision.io.order import by_number
from densevision.io.video import is_video, read_video
from densevision.sample import InputSpec, Sample

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True)
class Source:
    """Samples of a source, and whether it is one picture, a finite collection, or a stream.

    Attributes:
        samples: Read one by one as they are asked for.
        kind: What the answer should be: one record, a list, or an iterator.
        count: Number of samples, where it is known beforehand.
    """

    samples: Iterable[Sample]
    kind: str
    count: int | None = None


def open_source(source: Any, specs: dict[str, InputSpec], max_pixels: int) -> Source:
    """Opens a path, glob, folder, video, array, PIL picture, tensor, or a list of them.

    Networks that look at several pictures take a tuple of as many, or consecutive pictures of a sequence. Files of a
    folder or glob stand in the order of the numbers in their names.

    Raises:
        DataError: Nothing is there, it is no picture, or there are fewer than the network looks at; of a sequence whose
            length is not known beforehand, at its end.
    """
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    channels = next(iter(specs.values())).channels
    reader = _Reader(names, channels, max_pixels)
    if isinstance(source, (str, Path)):
        return _open_path(str(source), reader)
    if isinstance(source, tuple) and len(names) > 1 and len(source) == len(names):
        return Source([reader.sample(source, 0)], "one", 1)
    if isinstance(source, (list, tuple)) or (isinstance(source, Iterator) and not hasattr(source, "shape")):
        return _open_sequence(source, reader)
    reader.count(1, None)
    return Source([reader.sample((source,), 0)], "one", 1)


class _Reader:
    """Makes samples of one or several pictures each."""

    def __init__(self, names: Sequence[str], channels: int, max_pixels: int):
        self.names, self.channels, self.max_pixels = list(names), channels, max_pixels

    def sample(self, pictures: Sequence[Any], id: int | str) -> Sample:
        images = {}
        for name, picture in zip(self.names, pictures):
            images[name] = self._read(picture)
        file = str(pictures[0]) if isinstance(pictures[0], (str, Path)) else ""
        sizes = {name: image.shape[:2] for name, image in images.items()}
        if len(set(sizes.values())) > 1:
            mend = "The pictures of one sample must have the same size."
            raise DataError("pictures of different sizes", file=file or None, value=sizes, mend=mend)
        return Sample(images, None, Path(file).name if file else id, file)

    def _read(self, picture: Any) -> np.ndarray:
        """The picture as it is, once it is sure that the network's channels can be made of it."""
        image = as_image(picture, self.max_pixels)
        try:
            to_channels(image[:1, :1], self.channels)
        except DataError as failure:
            file = picture if isinstance(picture, (str, Path)) else None
            raise DataError(failure.problem, file=file, value=image.shape, mend=failure.mend) from None
        return image

    def windows(self, pictures: Iterable[Any], file: str | None = None) -> Iterator[Sample]:
        """Consecutive pictures as samples: each alone, or each with its successors."""
        window: deque[Any] = deque(maxlen=len(self.names))
        for position, picture in enumerate(pictures):
            window.append(picture)
            if len(window) == len(self.names):
                yield self.sample(tuple(window), position - len(self.names) + 1)
        if window:
            self.count(len(window), file)

    def count(self, pictures: int, file: str | None) -> int:
        """Samples in a sequence of so many pictures; DataError where they do not make one."""
        needed = len(self.names)
        if pictures < needed:
            found = "one picture" if pictures == 1 else f"{pictures} pictures"
            problem = f"{found} only, but {needed} are needed: {', '.join(self.names)}"
            raise DataError(problem, file=file, mend="Give a pair, or a longer sequence.")
        return pictures - needed + 1


def _open_path(path: str, reader: _Reader) -> Source:
    if Path(path).is_dir():
        files = [str(file) for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES]
        if not files:
            raise DataError("no picture in this folder", file=path, mend=f"Pictures end in {', '.join(SUFFIXES)}.")
        return _open_files(files, reader, path)
    if not Path(path).exists() and glob.has_magic(path):
        files = [file for file in glob.glob(path, recursive=True) if Path(file).is_file()]
        if not files:
            raise DataError("no file fits this pattern", file=path)
        return _open_files(files, reader, path)
    if is_video(path):
        video = read_video(path)
        # What the file states is an estimate: only its end tells that there are too few.
        count = None if video.count is None else max(0, video.count - len(reader.names) + 1)
        return Source(reader.windows(video, path), "stream", count)
    reader.count(1, path)
    return Source([reader.sample((path,), 0)], "one", 1)


def _open_files(files: list[str], reader: _Reader, path: str) -> Source:
    count = reader.count(len(files), path)
    return Source(reader.windows(sorted(files, key=by_number)), "list", count)


def _open_sequence(source: Iterable[Any], reader: _Reader) -> Source:
    count = len(source) if isinstance(source, Sequence) else None
    kind = "stream" if count is None else "list"
    if len(reader.names) == 1:
        return Source((reader.sample((item,), position) for position, item in enumerate(source)), kind, count)
    if isinstance(source, Sequence) and source and all(isinstance(item, tuple) for item in source):
        return Source((reader.sample(item, position) for position, item in enumerate(source)), kind, count)
    return Source(reader.windows(source), kind, reader.count(count, None) if count else count)
