"""Each image file on its own: whether it can be read, what it is, and a print of what it shows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.near_duplicates import leaks, nearly_twice, prints
from densevision.errors import DataError
from densevision.io import decode, tiff
from densevision.io.image import image_size, read_image, to_display
from densevision.io.image_files import is_whole

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".mpo"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "DIB": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Format -> the suffixes that name it."""
USUAL = 0.9
"""Share of the images that must have one mode before the others are odd."""
REDUCTIONS = ((256, cv2.IMREAD_REDUCED_GRAYSCALE_8), (128, cv2.IMREAD_REDUCED_GRAYSCALE_4), (0, cv2.IMREAD_GRAYSCALE))
"""Shorter side from which a JPEG is decoded at a part of its size, which is all that its print needs."""


@dataclass(frozen=True)
class ImageInfo:
    """What one look at an image file tells.

    Attributes:
        file: The file.
        fault: "missing", "broken" or "truncated"; None where it can be read.
        words: What is wrong with it.
        format: Pillow's name of the format.
        mode: Pillow's name of the pixels' layout, and bits beyond 8.
        size: (height, width), upright.
        orientation: EXIF orientation, 1 to 8.
        digest: Of the bytes.
        dhash: 64 bits that tell where the small image gets brighter to the right.
        thumbnail: (256,) uint8, the image in 16 x 16 gray pixels.
    """

    file: str
    fault: str | None = None
    words: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: bytes = b""
    dhash: int = 0
    thumbnail: np.ndarray | None = None


FAULTS = {"missing": table.MISSING, "broken": table.BROKEN, "truncated": table.TRUNCATED}


def look(path: str | os.PathLike[str]) -> ImageInfo:
    """Reads an image file once; never raises for what is wrong with it."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        return ImageInfo(name, "missing", "no such file")
    try:
        is_tiff = decode.first_bytes(name) in tiff.MAGIC
        header = tiff.read_tiff_header(name) if is_tiff else decode.read_header(name)
        if not is_whole(name):
            read_image(name)
        data = Path(name).read_bytes()
        gray, bits = _gray(name, data, header)
    except (DataError, OSError) as failure:
        cut = isinstance(failure, decode.Damaged) and not is_whole(name)
        return ImageInfo(name, "truncated" if cut else "broken", getattr(failure, "problem", str(failure)))
    dhash, thumbnail = prints(gray)
    mode = header.mode if bits == 8 else f"{header.mode} of {bits} bits".strip()
    digest = blake2b(data, digest_size=16).digest()
    size = image_size(name)
    return ImageInfo(name, None, "", header.format, mode, size, header.orientation, digest, dhash, thumbnail)


class ImageScanner:
    """The images of a dataset, split by split.

    Args:
        survey: Where findings go.
        sequences: The images are frames: neighbors look alike by nature, and are the same where nothing moves.
    """

    def __init__(self, context: CheckContext, sequences: bool = False):
        self.context, self.sequences = context, sequences
        self.splits: dict[str, list[ImageInfo]] = {}

    def look(self, split: str, files: Sequence[str | os.PathLike[str]]) -> list[ImageInfo]:
        """Looks at the images of a split, and reports those that cannot be read."""
        found = list(self.context.spread(look, list(files), f"{split}: images"))
        for facts in found:
            if facts.fault is not None:
                self.context.add(FAULTS[facts.fault], facts.file, None, facts.words)
                self.context.repair.leave_out(facts.file, FAULTS[facts.fault].name)
        self.splits.setdefault(split, []).extend(facts for facts in found if facts.fault is None)
        self.context.counted(split, images=len(found))
        return found

    def judge(self) -> None:
        """Reports what the images tell when they are laid beside each other."""
        everything = [facts for split in self.splits.values() for facts in split]
        for facts in everything:
            known = SUFFIXES.get(facts.format)
            if known and not facts.file.lower().endswith(known):
                self.context.add(table.WRONG_SUFFIX, facts.file, None, facts.format)
            if facts.orientation != 1:
                self.context.add(table.ORIENTATION, facts.file, "Orientation", facts.orientation)
        self._judge_modes(everything)
        self._judge_names(everything)
        for facts in self.splits.values():
            self._judge_copies(facts)
        train, val = (self.splits.get(split, []) for split in ("train", "val"))
        copies: dict[bytes, list[ImageInfo]] = {}
        shared: set[str] = set()
        for facts in train:
            copies.setdefault(facts.digest, []).append(facts)
        for ours, theirs, same in leaks(train, val):
            check = table.LEAK if same else table.NEAR_LEAK
            self.context.add(check, theirs.file, None, f"as {os.path.basename(ours.file)} in training")
            # A file that both splits list is left to the person: a copy without it would lack it in both.
            for copy in copies[theirs.digest] if same else ():
                if copy.file == theirs.file:
                    shared.add(copy.file)
                else:
                    self.context.repair.leave_out(copy.file, table.LEAK.name)
        if shared:
            what = "image is" if len(shared) == 1 else "images are"
            note = f"{len(shared)} {what} listed in both splits, which --fix leaves as it is: list each in one"
            self.context.notes.append(note)

    def _judge_modes(self, everything: list[ImageInfo]) -> None:
        modes = Counter(facts.mode for facts in everything)
        usual, count = modes.most_common(1)[0] if modes else ("", 0)
        if len(modes) > 1 and count >= USUAL * len(everything):
            for facts in everything:
                if facts.mode != usual:
                    self.context.add(table.ODD_MODE, facts.file, None, f"{facts.mode}, the others {usual}")

    def _judge_names(self, everything: list[ImageInfo]) -> None:
        seen: dict[str, str] = {}
        for facts in everything:
            other = seen.setdefault(facts.file.lower(), facts.file)
            if other != facts.file:
                self.context.add(table.CASE, facts.file, None, f"beside {os.path.basename(other)}")

    def _judge_copies(self, split: list[ImageInfo]) -> None:
        first: dict[bytes, ImageInfo] = {}
        single = []
        for facts in split:
            other = first.setdefault(facts.digest, facts)
            if other is facts:
                single.append(facts)
            elif other.file != facts.file:
                self.context.add(table.TWICE, facts.file, None, f"as {os.path.basename(other.file)}")
                if not self.sequences:
                    self.context.repair.leave_out(facts.file, table.TWICE.name)
        for other, facts in () if self.sequences else nearly_twice(single):
            self.context.add(table.NEAR, facts.file, None, f"like {os.path.basename(other.file)}")


def _gray(name: str, data: bytes, header: decode.Header) -> tuple[np.ndarray, int]:
    """The image in gray, perhaps smaller, and its bits per channel."""
    if header.format in ("JPEG", "MPO") and header.mode in ("L", "RGB"):
        flag = next(flag for side, flag in REDUCTIONS if min(header.size) >= side)
        with decode.quiet:
            gray = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        if gray is None:
            raise decode.damaged(name)
        return gray, 8
    image = read_image(name)
    shown = to_display(image)
    return cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), 8 * image.dtype.itemsize
