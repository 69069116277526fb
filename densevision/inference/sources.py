"""Sources of images as a stream of samples: one image at a time, never a whole folder or video."""

from __future__ import annotations

import glob
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from densevision.errors import DataError, UsageError
from densevision.io.image import convert_channels, load_image
from densevision.io.image_files import IMAGE_SUFFIXES, list_images
from densevision.io.label_issues import LabelIssues
from densevision.io.natural_sort import natural_sort_key
from densevision.io.stream import LiveReader, is_stream, open_stream
from densevision.io.stream_failures import hide_credentials
from densevision.io.video import is_video, read_video
from densevision.sample import InputSpec, Sample
from densevision.sequence_options import DEFAULT_TIMEOUT, SequenceOptions

__all__ = ["Source", "open_source"]

log = logging.getLogger(__name__)

UNREADABLE = {".pdf": "a PDF", ".zip": "an archive", ".tar": "an archive", ".gz": "an archive", ".7z": "an archive"}


@dataclass(frozen=True)
class Source:
    """The samples of a source.

    Attributes:
        samples: The samples, read on demand.
        kind: What a prediction returns: one result, a list, or an iterator.
        count: Number of samples, where it is known in advance.
        fps: Frames per second of a video or stream, where it states them.
        is_live: Whether the samples are the newest frames of a live stream.
    """

    samples: Iterable[Sample]
    kind: Literal["single", "list", "stream"]
    count: int | None = None
    fps: float | None = None
    is_live: bool = False


def open_source(
    source: Any,
    specs: Mapping[str, InputSpec],
    max_pixels: int,
    skip_unreadable: bool = False,
    sequence: SequenceOptions | None = None,
) -> Source:
    """Opens a path, glob, folder, video, stream, array, PIL image, tensor, or a list of these.

    Models with several image inputs take a tuple of images, or consecutive images of a sequence. Images of a folder
    and the folders below it, or of a glob, are sorted by the numbers in their names; sequences end with their folder.

    Args:
        source: The source.
        specs: Inputs of the model.
        max_pixels: Maximum size of an image in pixels.
        skip_unreadable: Leave out the samples of images that cannot be read, with a warning each.
        sequence: `timeout` and `reconnect` of streams.

    Raises:
        UsageError: An option of streams, and the source is none.
        DataError: The source does not exist, is no image, or has fewer images than the model needs; for a sequence of
            unknown length, at its end.
    """
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    channels = next(iter(specs.values())).channels
    reader = _Reader(names, channels, max_pixels, skip_unreadable)
    if isinstance(source, str) and is_stream(source) and not _is_image_address(source) and not Path(source).exists():
        return _open_stream(source, reader, sequence or SequenceOptions())
    _check_stream_options(sequence or SequenceOptions())
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

    def __init__(self, names: Sequence[str], channels: int, max_pixels: int, skip_unreadable: bool):
        self.names, self.channels, self.max_pixels = list(names), channels, max_pixels
        self.skip_unreadable = skip_unreadable

    def read_samples(self, items: Iterable[Sequence[Any]]) -> Iterator[Sample]:
        """Reads samples of images; those that cannot be read are left out if that was asked for.

        Raises:
            DataError: An image cannot be read, or none can.
        """
        is_empty, last_failure = True, None
        for number, item in enumerate(items):
            try:
                sample = self.read_sample(item, number)
            except DataError as failure:
                if not self.skip_unreadable:
                    raise
                last_failure = failure
                log.warning("skipped: %s", failure)
                continue
            is_empty = False
            yield sample
        if is_empty and last_failure is not None:
            raise last_failure

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
        yield from self.read_samples(self._list_windows(images, file))

    def _list_windows(self, images: Iterable[Any], file: str | None) -> Iterator[tuple[Any, ...]]:
        window: deque[Any] = deque(maxlen=len(self.names))
        for image in images:
            window.append(image)
            if len(window) == len(self.names):
                yield tuple(window)
        if window:
            self.count_samples(len(window), file)

    def read_live(self, stream: LiveReader) -> Iterator[Sample]:
        """Yields the newest frames with their times; the stream is closed at the end."""
        try:
            for sample in self.read_windows(stream, stream.name):
                yield replace(sample, time=stream.seconds)
        finally:
            stream.close()

    def read_folders(self, files: Sequence[str]) -> Iterator[Sample]:
        """Yields samples of the images of folders; a sequence ends with its folder."""
        if len(self.names) == 1:
            return self.read_windows(files)
        folders = groupby(files, key=os.path.dirname)
        return self.read_samples(chain.from_iterable(self._list_windows(group, name) for name, group in folders))

    def count_folder_samples(self, files: Sequence[str], path: str) -> int:
        """Number of samples of `read_folders`."""
        if len(self.names) == 1:
            return self.count_samples(len(files), path)
        return sum(self.count_samples(len(list(group)), name) for name, group in groupby(files, key=os.path.dirname))

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
        return Source(reader.read_folders(files), "list", reader.count_folder_samples(files, path))
    _check_file_type(path)
    if is_video(path):
        video = read_video(path)
        # The header only estimates the length: whether there are too few frames is known at the end.
        count = None if video.count is None else max(0, video.count - len(reader.names) + 1)
        return Source(reader.read_windows(video, path), "stream", count, video.fps)
    reader.count_samples(1, path)
    return Source([reader.read_sample((path,), 0)], "single", 1)


def _open_stream(address: str, reader: _Reader, options: SequenceOptions) -> Source:
    stream = open_stream(address, options.timeout or DEFAULT_TIMEOUT, options.reconnect)
    if isinstance(stream, LiveReader):
        return Source(reader.read_live(stream), "stream", None, stream.fps, is_live=True)
    return Source(reader.read_windows(stream, hide_credentials(address)), "stream", stream.count, stream.fps)


def _check_stream_options(options: SequenceOptions) -> None:
    """Refuses options of streams on other sources.

    Raises:
        UsageError: An option has no effect.
    """
    for name in ("timeout", "reconnect"):
        value = getattr(options, name)
        if value:
            raise UsageError("has no effect: the source is not a stream", field=name, value=value)


def _is_image_address(address: str) -> bool:
    return Path(urlsplit(address).path).suffix.lower() in IMAGE_SUFFIXES


def _check_file_type(path: str) -> None:
    """Refuses what is neither an image nor a video with a specific message."""
    if "://" in path and not Path(path).exists():
        hint = "Download the file and pass its path; http, https, rtsp and rtsps are supported for videos and streams."
        raise DataError("addresses of this kind are not supported", file=path, hint=hint)
    kind = UNREADABLE.get(Path(path).suffix.lower())
    if kind is not None:
        raise DataError(f"is {kind}, not an image", file=path, hint="Extract its images into a folder and pass that.")


def _list_files(path: str) -> list[str] | None:
    """Lists the images below a folder or of a pattern, sorted by their numbers; None where the path is neither.

    Hidden and system files are left out, as in datasets.
    """
    if Path(path).is_dir():
        issues = LabelIssues()
        files = [os.path.join(path, name) for name in list_images(Path(path), issues)]
        for note in issues.notes:
            log.warning("%s", note)
        problem = "no image in this folder or below"
        hint: str | None = f"Supported: {', '.join(IMAGE_SUFFIXES)}."
    elif glob.has_magic(path) and not Path(path).exists():
        files = [file for file in glob.glob(path, recursive=True) if Path(file).is_file()]
        for file in filter(is_video, files):
            raise _make_video_error(file)
        problem, hint = "no file matches this pattern", None
    else:
        return None
    if not files:
        raise DataError(problem, file=path, hint=hint)
    return sorted(files, key=lambda file: (natural_sort_key(os.path.dirname(file)), natural_sort_key(file)))


def _expand_items(source: Iterable[Any]) -> Iterator[Any]:
    """Yields the items of a list, with the images of its folders and patterns in their place."""
    for item in source:
        is_path = isinstance(item, (str, Path))
        if is_path and (is_video(item) or (is_stream(str(item)) and not _is_image_address(str(item)))):
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
        return Source(reader.read_samples((item,) for item in items), kind, count)
    iterator = iter(items)
    head = list(islice(iterator, 1))
    items = chain(head, iterator)
    if head and isinstance(head[0], tuple):
        return Source(reader.read_samples(map(_check_tuple, items)), kind, count)
    return Source(reader.read_windows(items), kind, reader.count_samples(count, None) if count else count)


def _check_tuple(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, tuple):
        hint = "Pass only tuples of images, or only consecutive images."
        raise DataError("one image among tuples of images", value=type(item).__name__, hint=hint)
    return item
