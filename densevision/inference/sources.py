"""Whatever a person points at, as a stream of samples: one image at a time, never the folder or the video."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import DataError
from densevision.io.image import as_image, to_channels
from densevision.io.natural_sort import natural_key
from densevision.io.video import is_video, read_video
from densevision.sample import InputSpec, Sample

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


@dataclass(frozen=True)
class Source:
    """Samples of a source, and whether it is one image, a finite collection, or a stream.

    Attributes:
        samples: Read one by one as they are asked for.
        kind: What the answer should be: one record, a list, or an iterator.
        count: Number of samples, where it is known beforehand.
    """

    samples: Iterable[Sample]
    kind: str
    count: int | None = None


def open_source(source: Any, specs: dict[str, InputSpec], max_pixels: int) -> Source:
    """Opens a path, glob, folder, video, array, PIL image, tensor, or a list of them.

    Networks that look at several images take a tuple of as many, or consecutive images of a sequence. Files of a
    folder or glob stand in the order of the numbers in their names.

    Raises:
        DataError: Nothing is there, it is no image, or there are fewer than the network looks at; of a sequence whose
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
    """Makes samples of one or several images each."""

    def __init__(self, names: Sequence[str], channels: int, max_pixels: int):
        self.names, self.channels, self.max_pixels = list(names), channels, max_pixels

    def sample(self, sources: Sequence[Any], id: int | str) -> Sample:
        if len(sources) != len(self.names):
            problem = f"a sample of {len(sources)} images, but {len(self.names)} are needed: {', '.join(self.names)}"
            raise DataError(problem, field=f"sample {id}", hint="Give a tuple of as many, or a list of images.")
        images = {}
        for name, source in zip(self.names, sources):
            images[name] = self._read(source)
        file = str(sources[0]) if isinstance(sources[0], (str, Path)) else ""
        sizes = {name: image.shape[:2] for name, image in images.items()}
        if len(set(sizes.values())) > 1:
            hint = "The images of one sample must have the same size."
            raise DataError("images of different sizes", file=file or None, value=sizes, hint=hint)
        return Sample(images, None, Path(file).name if file else id, file)

    def _read(self, source: Any) -> np.ndarray:
        """The image as it is, once it is sure that the network's channels can be made of it."""
        image = as_image(source, self.max_pixels)
        try:
            to_channels(image[:1, :1], self.channels)
        except DataError as failure:
            file = source if isinstance(source, (str, Path)) else None
            raise DataError(failure.problem, file=file, value=image.shape, hint=failure.hint) from None
        return image

    def windows(self, images: Iterable[Any], file: str | None = None) -> Iterator[Sample]:
        """Consecutive images as samples: each alone, or each with its successors."""
        window: deque[Any] = deque(maxlen=len(self.names))
        for position, image in enumerate(images):
            window.append(image)
            if len(window) == len(self.names):
                yield self.sample(tuple(window), position - len(self.names) + 1)
        if window:
            self.count(len(window), file)

    def count(self, images: int, file: str | None) -> int:
        """Samples in a sequence of so many images; DataError where they do not make one."""
        needed = len(self.names)
        if images < needed:
            found = "one image" if images == 1 else f"{images} images"
            problem = f"{found} only, but {needed} are needed: {', '.join(self.names)}"
            raise DataError(problem, file=file, hint="Give a pair, or a longer sequence.")
        return images - needed + 1


def _open_path(path: str, reader: _Reader) -> Source:
    if not path:
        raise DataError(
            "an empty name is no source", field="source", value=path, hint="Name an image or a folder; . is this one."
        )
    files = _files(path)
    if files is not None:
        return Source(reader.windows(files), "list", reader.count(len(files), path))
    if is_video(path):
        video = read_video(path)
        # What the file states is an estimate: only its end tells that there are too few.
        count = None if video.count is None else max(0, video.count - len(reader.names) + 1)
        return Source(reader.windows(video, path), "stream", count)
    reader.count(1, path)
    return Source([reader.sample((path,), 0)], "one", 1)


def _files(path: str) -> list[str] | None:
    """The images of a folder or the files that fit a pattern, by their numbers; None where it is neither."""
    if Path(path).is_dir():
        files = [str(file) for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES]
        problem = "no image in this folder"
        hint = f"Images end in {', '.join(SUFFIXES)}; those in folders below it fit {Path(path) / '**' / '*.png'}."
    elif glob.has_magic(path) and not Path(path).exists():
        files = [file for file in glob.glob(path, recursive=True) if Path(file).is_file()]
        for file in filter(is_video, files):
            raise _not_alone(file)
        problem, hint = "no file fits this pattern", None
    else:
        return None
    if not files:
        raise DataError(problem, file=path, hint=hint)
    return sorted(files, key=natural_key)


def _spread(source: Iterable[Any]) -> Iterator[Any]:
    """What a list holds, with the images of its folders and patterns in their place."""
    for item in source:
        named = isinstance(item, (str, Path))
        if named and is_video(item):
            raise _not_alone(item)
        yield from (_files(str(item)) if named else None) or [item]


def _not_alone(video: str | Path) -> DataError:
    return DataError("a video among other sources", file=video, hint="Give it alone: it is a sequence of its own.")


def _open_sequence(source: Iterable[Any], reader: _Reader) -> Source:
    source = list(_spread(source)) if isinstance(source, Sequence) else _spread(source)
    count = len(source) if isinstance(source, Sequence) else None
    kind = "stream" if count is None else "list"
    if len(reader.names) == 1:
        return Source((reader.sample((item,), position) for position, item in enumerate(source)), kind, count)
    first, source = _peeked(source)
    if isinstance(first, tuple):
        return Source((reader.sample(_tuple(item), position) for position, item in enumerate(source)), kind, count)
    return Source(reader.windows(source), kind, reader.count(count, None) if count else count)


def _peeked(items: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """The first of the items, None where there is none; and all of them."""
    iterator = iter(items)
    head = list(islice(iterator, 1))
    return (head[0] if head else None), chain(head, iterator)


def _tuple(item: Any) -> tuple[Any, ...]:
    """A sample of a sequence of samples; DataError where it is an image."""
    if not isinstance(item, tuple):
        hint = "Give tuples of images throughout, or images that follow one another."
        raise DataError("one image among tuples of images", value=type(item).__name__, hint=hint)
    return item
