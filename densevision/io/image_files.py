"""The images that a dataset lists: inside their folder, there, readable, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import md5
from pathlib import Path

import numpy as np

from densevision.errors import DataError
from densevision.io.box_table import Strings
from densevision.io.decode import Damaged
from densevision.io.image import image_size, read_image
from densevision.io.label_issues import Findings, Kind
from densevision.io.progress import monitored

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""First two bytes of JPEG and PNG -> what a whole file has near its end."""
TAIL = 4096
LARGEST = 2**31 - 1
Choose = Callable[[Strings], np.ndarray]
"""File names -> (n,) bool, the images that are taken."""
HELD_OUT = 10
"""Where a dataset has no validation split, one image in this many is held out."""


def is_inside(name: str) -> bool:
    """Whether a file name, relative to its folder, stays in it.

    >>> is_inside("val/a.jpg"), is_inside("../../etc/passwd"), is_inside("/etc/passwd")
    (True, False, False)
    """
    parts = os.path.normpath(name).split(os.sep)
    return bool(name) and not os.path.isabs(name) and parts[0] != os.pardir and "\0" not in name


def list_images(folder: Path) -> list[str]:
    """Paths of the images below a folder, relative to it, sorted."""
    found = (
        os.path.join(root, name)
        for root, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    return sorted(os.path.relpath(path, folder) for path in found)


def names_below(paths: Sequence[Path]) -> list[str]:
    """What tells files apart: their paths below the innermost folder that holds them all.

    >>> names_below([Path("sets/one/1.png"), Path("sets/two/1.png")]), names_below([Path("sets/one/1.png")])
    (['one/1.png', 'two/1.png'], ['1.png'])
    """
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [Path(os.path.relpath(path, root)).as_posix() for path in whole]


def held_out(names: Iterable[str]) -> np.ndarray:
    """(n,) bool: the tenth of the images that validates, at least one, chosen by a hash of each file's name.

    The choice does not depend on the order, and hardly changes when images are added.
    """
    bases = (os.path.basename(name).encode("utf-8", "surrogateescape") for name in names)
    keys = [md5(base, usedforsecurity=False).digest() for base in bases]
    chosen = sorted(range(len(keys)), key=lambda row: keys[row])[: -(-len(keys) // HELD_OUT)]
    mask = np.zeros(len(keys), bool)
    mask[chosen] = True
    return mask


def measure_images(
    files: Strings,
    folder: Path,
    chosen: np.ndarray,
    findings: Findings,
    max_pixels: int,
    listed: Callable[[int], tuple[str, str]],
) -> np.ndarray:
    """Looks at each image's header, and at its end, where a truncated file shows: about 0.1 ms per image.

    Args:
        files: Images relative to `folder`.
        folder: Where they are.
        chosen: (n,) bool; the others are not looked at.
        findings: Decides about those that are missing or broken.
        max_pixels: Larger images count as broken.
        listed: Row of an image -> the file and the field that list it.

    Returns:
        (n, 2) int32 (height, width) as decoded, EXIF orientation applied; 0 for images that are left out.
    """
    sizes = np.zeros((len(files), 2), np.int32)
    for row in monitored(np.flatnonzero(chosen).tolist(), "looking at images"):
        path = folder / files[row]
        if path.is_file():
            sizes[row] = usable_size(path, max_pixels, findings, files[row]) or 0
        else:
            findings.add(Kind.IMAGE_MISSING, *listed(row), str(path), files[row])
    return sizes


def usable_size(path: Path, max_pixels: int, findings: Findings, about: str | None = None) -> tuple[int, int] | None:
    """(height, width) of an image that seems whole by its header and its end; None where it is left out.

    Args:
        path: The image.
        max_pixels: Larger images count as broken.
        findings: Decides about those that are.
        about: The name under which a note mentions it; the file's own when not given.

    Raises:
        DataError: It is broken, unless such are left out.
    """
    try:
        return _inspect(path, max_pixels)
    except DataError as failure:
        if findings.on_error == "fail":
            raise
        kind = Kind.IMAGE_TRUNCATED if isinstance(failure, Damaged) else Kind.IMAGE_BROKEN
        findings.add(kind, path, failure.field, failure.problem, about or path.name)
        return None


def _inspect(path: Path, max_pixels: int) -> tuple[int, int]:
    height, width = image_size(path)
    if height * width > max_pixels:
        problem = f"{height * width:,} pixels ({width} x {height}) are more than the limit of {max_pixels:,}"
        hint = "Raise data.max_pixels if the image is meant to be so large."
        raise DataError(problem, file=path, field="data.max_pixels", value=max_pixels, hint=hint)
    if not is_whole(path):
        read_image(path, max_pixels)
    return height, width


def is_whole(path: str | os.PathLike[str]) -> bool:
    """Whether the end of a JPEG or PNG is where it should be; other formats have none to look for."""
    with open(path, "rb") as stream:
        end = ENDS.get(stream.read(2))
        stream.seek(max(0, os.path.getsize(path) - TAIL))
        return end is None or end in stream.read()
