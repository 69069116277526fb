"""The images of a request as temporary files, whose headers are checked before anything is decoded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densevision.errors import DataError, DenseVisionError, UsageError, convert_error
from densevision.io.image import read_image_size
from densevision.sample import InputSpec
from densevision.serving.options import ServerOptions
from densevision.serving.remote_images import download_image

__all__ = ["ContentTooLargeError", "Upload", "count_pixels", "image_fields", "rename_file", "store_images"]

RESERVED_FIELDS = ("format", "model")
"""Fields of a request that are neither images nor prediction options."""


class ContentTooLargeError(DataError):
    """A request with more bytes, pixels or images than the server accepts."""


@dataclass
class Upload:
    """The images of a request.

    Attributes:
        files: One tuple of files per sample, in the order of the model's inputs.
        names: Temporary file -> the name that the client gave it.
        pixels: Number of pixels of all images, from their headers.
    """

    files: list[tuple[Path, ...]] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)
    pixels: int = 0


def image_fields(specs: Mapping[str, InputSpec]) -> list[str]:
    """Names of the form fields that hold images: `image`, or those of the model's several inputs."""
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    return names if len(names) > 1 else ["image"]


def store_images(sources: Mapping[str, Sequence[Any]], folder: Path, options: ServerOptions, timeout: float) -> Upload:
    """Writes images to files, and checks their formats and sizes.

    Args:
        sources: Form field -> uploaded files (with `filename` and `file`) or URLs.
        folder: Folder for the files.
        options: The limits.
        timeout: Seconds for all downloads together.

    Raises:
        UsageError: Images are missing, or URLs are not allowed.
        ContentTooLargeError: There are too many images, bytes or pixels.
        DataError: A file is not an image, or a URL cannot be read.
    """
    counts = {name: len(items) for name, items in sources.items()}
    for name, count in counts.items():
        if not count:
            raise UsageError("an image is missing", field=name, hint=f"Upload files as {', '.join(sources)}.")
        if count != next(iter(counts.values())):
            raise UsageError("needs as many images as the other fields", field=name, value=count)
        if count > options.max_images:
            problem = f"has more images than the limit of {options.max_images}"
            raise ContentTooLargeError(problem, field=name, value=count, hint="Send several requests.")
    upload, rest = Upload(), options.max_upload_bytes
    for row in zip(*sources.values()):
        files = []
        for name, item in zip(sources, row):
            path = folder / str(len(upload.names))
            rest -= _store(item, path, name, options, rest, timeout)
            upload.names[path] = _get_name(item, name)
            try:
                upload.pixels += count_pixels(path, options.max_pixels - upload.pixels, options.max_pixels)
            except DenseVisionError as error:
                raise rename_file(error, upload.names) from None
            files.append(path)
        upload.files.append(tuple(files))
    return upload


def count_pixels(path: Path, rest: int, limit: int) -> int:
    """Reads the number of pixels of an image from its header.

    Args:
        path: The file.
        rest: Pixels that it may have.
        limit: Pixels that all images of the request may have, for the message.

    Raises:
        DataError: The file is not an image.
        ContentTooLargeError: It has more pixels.
    """
    height, width = read_image_size(path)
    if height * width > rest:
        problem = f"{limit - rest + height * width:,} pixels are more than the limit of {limit:,} per request"
        raise ContentTooLargeError(problem, file=path, hint="Reduce the image.")
    return height * width


def rename_file(error: DenseVisionError, names: Mapping[Path, str]) -> DenseVisionError:
    """The same error with the client's name in place of that of a temporary file."""
    file = None if error.file is None else Path(error.file)
    if file is None or file not in names:
        return error
    return convert_error(error, type(error), names[file])


def _store(item: Any, path: Path, name: str, options: ServerOptions, max_bytes: int, timeout: float) -> int:
    """Writes one image to a file; returns the number of bytes that were downloaded."""
    if not isinstance(item, str):
        with open(path, "wb") as stream:
            shutil.copyfileobj(item.file, stream)
        return 0  # the body of the request has a limit of its own
    if not options.allow_urls:
        hint = "Upload the file; the server reads URLs if it was started with --allow-urls."
        raise UsageError("is text, not an uploaded file", field=name, value=item, hint=hint)
    return download_image(item, path, max_bytes, timeout)


def _get_name(item: Any, name: str) -> str:
    if isinstance(item, str):
        return item
    return (item.filename or name).replace("\\", "/").rpartition("/")[2] or name
