"""Sources of images as a stream of samples: one image at a time, never a whole folder or video."""

from __future__ import annotations

import glob
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from densevision.errors import DataError
from densevision.io.image import convert_channels, load_image
from densevision.io.natural_sort import natural_sort_key
from densevision.io.video import is_video, read_video
from densevision.sample import InputSpec, Sample

__all__ = ["Source", "open_source"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
UNREADABLE = {".pdf": "a PDF", ".zip": "an archive", ".tar": "an archive", ".gz": "an archive", ".7z": "an archive"}


@dataclass(frozen=True)
class Source:
    """The samples of a source.

    Attributes:
        samples: The samples, read on demand.
        kind: What a prediction returns: one result, a list, or an iterator.
        count: Number of samples, where it is known in advance.
    """

    samples: Iterable[Sample]
    kind: Literal["single", "list", "stream"]
    count: int | None = None


def open_source(source: Any, specs: Mapping[str, InputSpec], max_pixels: int) -> Source:
    """Opens a path, glob, folder, video, array, PIL image, tensor, or a list of these.

    Models with several image inputs take a tuple of images, or consecutive images of a sequence. Files of a folder or
    glob are sorted by the numbers in their names.

    Args:
        source: The source.
        specs: Inputs of the model.
        max_pixels: Maximum size of an image in pixels.

    Raises:
        DataError: The source does not exist, is no image, or has fewer images than the model needs; for a sequence of
            unknown length, at its end.
    """
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    channels = next(iter(specs.values())).channels
    reader = _Reader(names, channels, max_pixels)
    if isinstance(source, (str, Path)):
        return _open_path(str(source), reader)
    if isinstance(source, tuple) and len(names) > 1 and len(source) == len(names):
        return Source([reader.read_sample(source, 0)], "single", 1)
    if isinstance(source, (list, tuple)) or (isinstance(source, Iterator) and not hasattr(source, "shape")):
        return _open_sequence(source, reader)
    reader.count_samples(1, None)
    return Source([reader.read_sample((source,), 0)], "single", 1)


class _Reader:
    """Reads samples of one or several images each."""

    def __init__(self, names: Sequence[str], channels: int, max_pixels: int):
        self.names, self.channels, self.max_pixels = list(names), channels, max_pixels

    def read_sample(self, sources: Sequence[Any], sample_id: int | str) -> Sample:
        if len(sources) != len(self.names):
            problem = f"a sample of {len(sources)} images, but {len(self.names)} are needed: {', '.join(self.names)}"
            hint = f"Pass tuples of {len(self.names)} images, or a list of consecutive images."
            raise DataError(problem, field=f"sample {sample_id}", hint=hint)
        images = {name: self._read_image(source) for name, source in zip(self.names, sources)}
        file = str(sources[0]) if isinstance(sources[0], (str, Path)) else ""
        sizes = {name: image.shape[:2] for name, image in images.items()}
        if len(set(sizes.values())) > 1:
            hint = "The images of one sample must have the same size."
            raise DataError("images of different sizes", file=file or None, value=sizes, hint=hint)
        return Sample(images, None, Path(file).name if file else sample_id, file)

    def _read_image(self, source: Any) -> np.ndarray:
        """Reads an image as it is stored, and checks that it can be converted to the model's channels."""
        image = load_image(source, self.max_pixels)
        try:
            convert_channels(image[:1, :1], self.channels)
        except DataError as error:
            file = source if isinstance(source, (str, Path)) else None
            raise DataError(error.problem, file=file, value=image.shape, hint=error.hint) from None
        return image

    def read_windows(self, images: Iterable[Any], file: str | None = None) -> Iterator[Sample]:
        """Yields consecutive images as samples: each image by itself, or together with its successors."""
        window: deque[Any] = deque(maxlen=len(self.names))
        for position, image in enumerate(images):
            window.append(image)
            if len(window) == len(self.names):
                yield self.read_sample(tuple(window), position - len(self.names) + 1)
        if window:
            self.count_samples(len(window), file)

    def count_samples(self, image_count: int, file: str | None) -> int:
        """Number of samples in a sequence of images; DataError where there are too few images for one."""
        needed = len(self.names)
        if image_count < needed:
            images = "1 image" if image_count == 1 else f"{image_count} images"
            problem = f"the source has {images}, but {needed} are needed: {', '.join(self.names)}"
            raise DataError(problem, file=file, hint="Pass a pair, or a longer sequence.")
        return image_count - needed + 1


def _open_path(path: str, reader: _Reader) -> Source:
    if not path:
        hint = "Pass an image or a folder; . is the working folder."
        raise DataError("the source is an empty string", field="source", value=path, hint=hint)
    files = _list_files(path)
    if files is not None:
        return Source(reader.read_windows(files), "list", reader.count_samples(len(files), path))
    _check_file_type(path)
    if is_video(path):
        video = read_video(path)
        # The header only estimates the length: whether there are too few frames is known at the end.
        count = None if video.count is None else max(0, video.count - len(reader.names) + 1)
        return Source(reader.read_windows(video, path), "stream", count)
    reader.count_samples(1, path)
    return Source([reader.read_sample((path,), 0)], "single", 1)


def _check_file_type(path: str) -> None:
    """Refuses what is neither an image nor a video with a specific message."""
    if "://" in path and not Path(path).exists():
        raise DataError("addresses are not supported", file=path, hint="Download the file and pass its path.")
    kind = UNREADABLE.get(Path(path).suffix.lower())
    if kind is not None:
        raise DataError(f"is {kind}, not an image", file=path, hint="Extract its images into a folder and pass that.")


def _list_files(path: str) -> list[str] | None:
    """Lists the images of a folder or of a pattern, sorted by their numbers; None where the path is neither."""
    if Path(path).is_dir():
        files = [str(file) for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES]
        problem = "no image in this folder"
        pattern = Path(path) / "**" / "*.png"
        hint: str | None = f"Supported: {', '.join(SUFFIXES)}. For images in subfolders, pass a pattern: {pattern}"
    elif glob.has_magic(path) and not Path(path).exists():
        files = [file for file in glob.glob(path, recursive=True) if Path(file).is_file()]
        for file in filter(is_video, files):
            raise _make_video_error(file)
        problem, hint = "no file matches this pattern", None
    else:
        return None
    if not files:
        raise DataError(problem, file=path, hint=hint)
    return sorted(files, key=natural_sort_key)


def _expand_items(source: Iterable[Any]) -> Iterator[Any]:
    """Yields the items of a list, with the images of its folders and patterns in their place."""
    for item in source:
        is_path = isinstance(item, (str, Path))
        if is_path and is_video(item):
            raise _make_video_error(item)
        yield from (_list_files(str(item)) if is_path else None) or [item]


def _make_video_error(video: str | Path) -> DataError:
    hint = "Pass the video by itself: it is a sequence of its own."
    return DataError("a video among other sources", file=video, hint=hint)


def _open_sequence(source: Iterable[Any], reader: _Reader) -> Source:
    items: Iterable[Any] = list(_expand_items(source)) if isinstance(source, Sequence) else _expand_items(source)
    count = len(items) if isinstance(items, list) else None
    kind: Literal["list", "stream"] = "stream" if count is None else "list"
    if len(reader.names) == 1:
        return Source((reader.read_sample((item,), i) for i, item in enumerate(items)), kind, count)
    iterator = iter(items)
    head = list(islice(iterator, 1))
    items = chain(head, iterator)
    if head and isinstance(head[0], tuple):
        return Source((reader.read_sample(_check_tuple(item), i) for i, item in enumerate(items)), kind, count)
    return Source(reader.read_windows(items), kind, reader.count_samples(count, None) if count else count)


def _check_tuple(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, tuple):
        hint = "Pass only tuples of images, or only consecutive images."
        raise DataError("one image among tuples of images", value=type(item).__name__, hint=hint)
    return item
