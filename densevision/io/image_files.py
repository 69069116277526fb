"""Image files of a dataset: which are listed, present and readable, and their sizes."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from densevision.errors import DataError
from densevision.io.box_table import StringArray
from densevision.io.decode import CorruptImageError
from densevision.io.image import read_image, read_image_size
from densevision.io.image_index import ImageIndex
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues
from densevision.io.placeholders import get_size, open_binary, recall_image_size, remember_image_size
from densevision.io.progress import track_progress

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_INT32",
    "ImageSelector",
    "compute_relative_names",
    "count_frames",
    "is_complete_file",
    "is_inside",
    "is_system_file",
    "list_files",
    "list_folders",
    "list_images",
    "list_names",
    "measure_images",
    "read_usable_size",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
END_MARKERS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""First two bytes of JPEG and PNG -> the marker that a complete file has near its end."""
FRAME_SUFFIXES = (".gif", ".tif", ".tiff", ".webp")
"""Formats that may hold several frames or pages."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
"""Folders that operating systems add to datasets, besides hidden ones."""
TAIL_BYTES = 4096
MAX_INT32 = 2**31 - 1
MIN_SETTLED_NS = 5 * 10**9
"""A folder changed less than this ago may change again at what file systems call the same time."""
ImageSelector = Callable[[StringArray], np.ndarray]
"""File names -> (n,) bool, the selected images."""


def is_inside(name: str) -> bool:
    """Whether a file name, relative to its folder, stays inside that folder.

    >>> is_inside("val/a.jpg"), is_inside("../../etc/passwd"), is_inside("/etc/passwd"), is_inside("val/..")
    (True, False, False, False)
    """
    path = os.path.normpath(name)
    is_below = path != os.curdir and path.split(os.sep)[0] != os.pardir
    return bool(name) and is_below and not os.path.isabs(name) and "\0" not in name


def is_system_file(name: str) -> bool:
    """Whether a name is that of a hidden file or folder, or of a folder that an operating system adds.

    >>> is_system_file("._photo.jpg"), is_system_file(".ipynb_checkpoints"), is_system_file("photo.jpg")
    (True, True, False)
    """
    return name.startswith(".") or name in SYSTEM_FOLDERS


def list_files(folder: Path, pattern: str) -> list[Path]:
    """Lists the files of a folder that match a glob pattern, sorted, without hidden and system files."""
    if "/" in pattern:
        paths = sorted(path for path in folder.glob(pattern) if path.is_file())
        return [path for path in paths if not any(map(is_system_file, path.relative_to(folder).parts))]
    # Not by glob, which makes a Path of every image where labels are looked for.
    names = fnmatch.filter(list_names(folder), pattern)
    return [path for name in sorted(names) if not is_system_file(name) and (path := folder / name).is_file()]


def list_folders(folder: Path) -> list[Path]:
    """Lists the folders in a folder, sorted."""
    return [folder / name for name in _list_content(folder)[1]]


def list_names(folder: Path) -> tuple[str, ...]:
    """Lists the names of what is in a folder, in no order; none if it cannot be listed."""
    return _list_content(folder)[0]


def _list_content(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lists all names in a folder, and the sorted names of the folders among them.

    Formats are told apart by looking for several kinds of files in the same folders, so that a folder is listed again
    only after it has changed.
    """
    try:
        modified = os.stat(folder).st_mtime_ns
        if time.time_ns() - modified < MIN_SETTLED_NS:
            return _scan_folder(os.fspath(folder))
        return _scan_unchanged_folder(os.path.abspath(folder), modified)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # as `Path.glob`
        return (), ()


@lru_cache(maxsize=16)
def _scan_unchanged_folder(folder: str, modified: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _scan_folder(folder)


def _scan_folder(folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with os.scandir(folder) as entries:
        content = [(entry.name, entry.is_dir()) for entry in entries]
    return tuple(name for name, _ in content), tuple(sorted(name for name, is_folder in content if is_folder))


def list_images(folder: Path, issues: LabelIssues | None = None) -> list[str]:
    """Lists the images below a folder, without hidden and system files: paths relative to it, sorted.

    Args:
        folder: The folder.
        issues: Counts the images that are not listed.
    """
    paths = []
    for path, is_listed in _walk_images(folder, False):
        if is_listed:
            paths.append(os.path.relpath(path, folder))
        elif issues is not None:
            issues.warn(IssueKind.FILE_HIDDEN, path, action=SKIPPED)
    return sorted(paths)


def _walk_images(folder: str | Path, is_hidden: bool) -> Iterator[tuple[str, bool]]:
    """Yields the images below a folder and whether they are regular files."""
    for root, folders, names in os.walk(folder, followlinks=True):
        system_folders = [name for name in folders if is_system_file(name)]
        folders[:] = [name for name in folders if not is_system_file(name)]
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES):
                yield os.path.join(root, name), not (is_hidden or is_system_file(name))
        for name in system_folders:
            yield from _walk_images(os.path.join(root, name), True)


def compute_relative_names(paths: Sequence[Path]) -> list[str]:
    """Returns the paths relative to the innermost folder that contains all of them.

    >>> compute_relative_names([Path("sets/one/1.png"), Path("sets/two/1.png")])
    ['one/1.png', 'two/1.png']
    >>> compute_relative_names([Path("sets/one/1.png")])
    ['1.png']
    """
    absolute = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in absolute])
    return [Path(os.path.relpath(path, root)).as_posix() for path in absolute]


def measure_images(
    files: StringArray,
    folder: Path,
    selected: np.ndarray,
    issues: LabelIssues,
    max_pixels: int,
    locate: Callable[[int], tuple[str, str]],
) -> np.ndarray:
    """Reads the size of each image from its header, and checks its end for truncation: about 20 µs per usual image.

    Sizes of a large dataset are kept in an index, from which those of unchanged files are taken.

    Args:
        files: n images relative to `folder`.
        folder: The folder of the images.
        selected: (n,) bool; the others are not opened.
        issues: Reports missing and broken images.
        max_pixels: Larger images count as broken.
        locate: Row of an image -> the file and the field that list it.

    Returns:
        (n, 2) int32 (height, width) as decoded, with EXIF orientation applied; 0 for images that are skipped.
    """
    sizes, index = np.zeros((len(files), 2), np.int32), ImageIndex(files, folder)
    names = list(files)
    for row in track_progress(np.flatnonzero(selected).tolist(), "scanning images"):
        name = names[row]
        size = index.measure(row, name)
        if size is not None and size[0] * size[1] <= max_pixels:
            sizes[row] = size
            continue
        path = folder / name
        if os.path.isfile(path):  # unlike Path.is_file, it returns False for names that no system allows
            sizes[row] = read_usable_size(path, max_pixels, issues, name) or 0
            if sizes[row, 0] and path.suffix.lower() in FRAME_SUFFIXES and (count := count_frames(path)) > 1:
                issues.warn(IssueKind.IMAGE_FRAMES, path, None, f"{count} frames", name)
        else:
            issues.add(IssueKind.IMAGE_MISSING, *locate(row), str(path), name)
    index.save()
    return sizes


def read_usable_size(
    path: Path, max_pixels: int, issues: LabelIssues, subject: str | None = None
) -> tuple[int, int] | None:
    """Reads the (height, width) of an image whose header and end are valid; None if it is skipped.

    Args:
        path: The image.
        max_pixels: Larger images count as broken.
        issues: Reports a broken image.
        subject: Name that notes list; the file's name by default.

    Raises:
        DataError: The image is broken and the policy is `fail`.
    """
    try:
        return _check_image(path, max_pixels)
    except DataError as failure:
        if issues.on_error == "fail":
            raise
        kind = IssueKind.IMAGE_TRUNCATED if isinstance(failure, CorruptImageError) else IssueKind.IMAGE_BROKEN
        issues.add(kind, path, failure.field, failure.problem, subject or path.name)
        return None


def _check_image(path: Path, max_pixels: int) -> tuple[int, int]:
    known = recall_image_size(path)
    height, width = known or read_image_size(path)
    if height * width > max_pixels:
        problem = f"{height * width:,} pixels ({width} x {height}) exceed the limit of {max_pixels:,}"
        hint = "Raise data.max_pixels if the image is supposed to be that large."
        raise DataError(problem, file=path, field="data.max_pixels", value=max_pixels, hint=hint)
    if known is None:
        if not is_complete_file(path):
            read_image(path, max_pixels)
        remember_image_size(path, (height, width))
    return height, width


def count_frames(path: str | os.PathLike[str]) -> int:
    """Counts the frames of an animation or the pages of a TIFF; 1 for files that Pillow cannot open."""
    try:
        with open_binary(path) as stream, Image.open(stream) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, ValueError, SyntaxError):
        return 1


def is_complete_file(path: str | os.PathLike[str]) -> bool:
    """Whether a JPEG or PNG has its end marker; True for other formats, which have none."""
    with open_binary(path) as stream:
        marker = END_MARKERS.get(stream.read(2))
        stream.seek(max(0, get_size(path) - TAIL_BYTES))
        return marker is None or marker in stream.read()
