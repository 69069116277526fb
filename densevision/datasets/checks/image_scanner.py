"""Checks of image files: whether each one can be read, and how the images of the splits relate to each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.near_duplicates import (
    NO_FINGERPRINT,
    Fingerprint,
    compute_fingerprint,
    find_leaks,
    find_near_duplicates,
)
from densevision.errors import DataError
from densevision.io import decode, tiff
from densevision.io.image import read_image, read_image_size, to_display
from densevision.io.image_files import is_complete_file
from densevision.io.placeholders import open_binary

__all__ = ["FAULT_CHECKS", "ImageInfo", "ImageScanner", "scan_image"]

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
"""Format -> its suffixes."""
COMMON_MODE_SHARE = 0.9
"""Share of the images that must have one mode before images of other modes are reported."""
JPEG_REDUCTIONS = (
    (256, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (128, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (0, cv2.IMREAD_GRAYSCALE),
)
"""Minimum shorter side -> flag that decodes a JPEG at reduced size, which is enough for its fingerprint."""


@dataclass(frozen=True)
class ImageInfo:
    """Properties of an image file.

    Attributes:
        file: The file.
        fault: "missing", "broken" or "truncated"; None if it can be read.
        detail: What is wrong with it.
        file_format: Pillow's name of the format.
        mode: Pillow's name of the pixel layout, and the bits per channel if they are more than 8.
        size: (height, width), upright.
        orientation: EXIF orientation, 1 to 8.
        fingerprint: For comparison with other images.
    """

    file: str
    fault: str | None = None
    detail: str = ""
    file_format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    fingerprint: Fingerprint = NO_FINGERPRINT


FAULT_CHECKS = {
    "missing": catalog.IMAGE_MISSING,
    "broken": catalog.IMAGE_BROKEN,
    "truncated": catalog.IMAGE_TRUNCATED,
}
"""Fault -> its check."""


def scan_image(path: str | os.PathLike[str]) -> ImageInfo:
    """Reads the properties of an image file; a file that cannot be read gives a fault instead of an error."""
    name = os.fspath(path)
    if not os.path.isfile(name):
        return ImageInfo(name, "missing", "no such file")
    try:
        is_tiff = decode.read_magic_bytes(name) in tiff.TIFF_MAGIC
        header = tiff.read_tiff_header(name) if is_tiff else decode.read_header(name)
        if not is_complete_file(name):
            read_image(name)
        with open_binary(name) as stream:
            data = stream.read()
        gray, bits = _decode_gray(name, data, header)
    except (DataError, OSError) as error:
        is_truncated = isinstance(error, decode.CorruptImageError) and not is_complete_file(name)
        return ImageInfo(name, "truncated" if is_truncated else "broken", getattr(error, "problem", str(error)))
    return ImageInfo(
        name,
        file_format=header.file_format,
        mode=header.mode if bits == 8 else f"{header.mode} of {bits} bits".strip(),
        size=read_image_size(name),
        orientation=header.orientation,
        fingerprint=compute_fingerprint(data, gray),
    )


class ImageScanner:
    """Checks the images of a dataset, split by split.

    Args:
        context: Collects the findings.
        sequences: The images are frames of sequences: neighbors are similar, and identical if nothing moves.
    """

    def __init__(self, context: CheckContext, sequences: bool = False):
        self.context, self.sequences = context, sequences
        self.splits: dict[str, list[ImageInfo]] = {}

    def scan(self, split: str, files: Sequence[str | os.PathLike[str]]) -> list[ImageInfo]:
        """Reads the properties of the images of a split, and reports those that cannot be read."""
        infos = list(self.context.map_parallel(scan_image, list(files), f"{split}: images"))
        for info in infos:
            if info.fault is not None:
                self.context.add(FAULT_CHECKS[info.fault], info.file, None, info.detail)
                self.context.fix_plan.exclude(info.file, FAULT_CHECKS[info.fault].name)
        self.splits.setdefault(split, []).extend(info for info in infos if info.fault is None)
        self.context.set_counts(split, images=len(infos))
        return infos

    def check_images(self) -> None:
        """Reports wrong suffixes, orientations, unusual modes, duplicates and leaks of the scanned images."""
        infos = [info for split in self.splits.values() for info in split]
        for info in infos:
            suffixes = SUFFIXES.get(info.file_format)
            if suffixes and not info.file.lower().endswith(suffixes):
                self.context.add(catalog.IMAGE_SUFFIX, info.file, None, info.file_format)
            if info.orientation != 1:
                self.context.add(catalog.IMAGE_ORIENTATION, info.file, "Orientation", info.orientation)
        self._check_modes(infos)
        self._check_names(infos)
        for split in self.splits.values():
            self._check_duplicates(split)
        self._check_leaks(self.splits.get("train", []), self.splits.get("val", []))

    def _check_modes(self, infos: list[ImageInfo]) -> None:
        modes = Counter(info.mode for info in infos)
        common_mode, count = modes.most_common(1)[0] if modes else ("", 0)
        if len(modes) > 1 and count >= COMMON_MODE_SHARE * len(infos):
            for info in infos:
                if info.mode != common_mode:
                    self.context.add(catalog.IMAGE_MODE, info.file, None, f"{info.mode}, the others {common_mode}")

    def _check_names(self, infos: list[ImageInfo]) -> None:
        by_name: dict[str, str] = {}
        for info in infos:
            other = by_name.setdefault(info.file.lower(), info.file)
            if other != info.file:
                self.context.add(catalog.NAME_CASE, info.file, None, f"and {os.path.basename(other)}")

    def _check_duplicates(self, infos: list[ImageInfo]) -> None:
        by_digest: dict[bytes, ImageInfo] = {}
        for info in infos:
            other = by_digest.setdefault(info.fingerprint.digest, info)
            if other.file != info.file:
                self.context.add(catalog.DUPLICATE, info.file, None, f"same as {os.path.basename(other.file)}")
                if not self.sequences:
                    self.context.fix_plan.exclude(info.file, catalog.DUPLICATE.name)
        if self.sequences:
            return
        unique = list(by_digest.values())
        for first, second in find_near_duplicates([info.fingerprint for info in unique]):
            value = f"similar to {os.path.basename(unique[first].file)}"
            self.context.add(catalog.NEAR_DUPLICATE, unique[second].file, None, value)

    def _check_leaks(self, train: list[ImageInfo], val: list[ImageInfo]) -> None:
        copies: dict[bytes, list[ImageInfo]] = {}
        for info in train:
            copies.setdefault(info.fingerprint.digest, []).append(info)
        shared_files: set[str] = set()
        fingerprints = ([info.fingerprint for info in split] for split in (train, val))
        for train_index, val_index, is_identical in find_leaks(*fingerprints):
            info = val[val_index]
            check = catalog.LEAK if is_identical else catalog.NEAR_LEAK
            name = os.path.basename(train[train_index].file)
            relation = "same as" if is_identical else "similar to"
            self.context.add(check, info.file, None, f"{relation} {name} in training")
            # A file that both splits list stays: a copy without it would lack it in both.
            for copy in copies[info.fingerprint.digest] if is_identical else ():
                if copy.file == info.file:
                    shared_files.add(copy.file)
                else:
                    self.context.fix_plan.exclude(copy.file, catalog.LEAK.name)
        if shared_files:
            noun = "image is" if len(shared_files) == 1 else "images are"
            note = f"{len(shared_files)} {noun} listed in both splits, which --fix does not change: list each in one"
            self.context.notes.append(note)


def _decode_gray(name: str, data: bytes, header: decode.ImageHeader) -> tuple[np.ndarray, int]:
    """Decodes an image to gray, possibly at reduced size; returns it and its bits per channel."""
    if header.file_format in ("JPEG", "MPO") and header.mode in ("L", "RGB"):
        flag = next(flag for side, flag in JPEG_REDUCTIONS if min(header.size) >= side)
        with decode.wrap_decoder_errors(name), decode.silence_decoders:
            gray = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        if gray is None:
            raise decode.make_corrupt_error(name)
        return gray, 8
    image = read_image(name)
    return cv2.cvtColor(to_display(image), cv2.COLOR_RGB2GRAY), 8 * image.dtype.itemsize
