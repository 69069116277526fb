"""What surrounds the pixels of an image file: its color profile and its resolution."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densevision.errors import DataError
from densevision.io import decode, tiff
from densevision.io.file_cache import cache_by_file

__all__ = ["ImageMetadata", "read_image_metadata"]

MAX_PROFILE_BYTES = 1 << 24
_COLOR_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"RGB "}
"""Channels -> color space of the profiles that describe them."""
_CENTIMETERS_PER_INCH = 2.54


@dataclass(frozen=True)
class ImageMetadata:
    """Metadata that a processed image inherits.

    Attributes:
        icc_profile: ICC color profile, or None.
        dpi: Resolution in pixels per inch, (x, y), or None.
    """

    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None

    def profile_for(self, channels: int) -> bytes | None:
        """The profile, where it describes images of this many channels: that of a CMYK image does not describe RGB."""
        profile = self.icc_profile
        return profile if profile is not None and profile[16:20] == _COLOR_SPACES.get(channels) else None


def read_image_metadata(path: str | os.PathLike[str]) -> ImageMetadata:
    """Reads the metadata of an image file; empty where there is no such file or it states none."""
    if not path or not Path(path).is_file():
        return ImageMetadata()
    return _read(os.fspath(path))


@cache_by_file(maxsize=16)  # a large image is processed in many rectangles
def _read(path: str) -> ImageMetadata:
    try:
        if decode.read_magic_bytes(path) in tiff.TIFF_MAGIC:
            profile, dpi = _read_tiff(path)
        else:
            with decode.open_pillow(path) as image, decode.wrap_decoder_errors(path):
                profile, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    except DataError:  # the pixels were readable; damaged metadata counts as none
        return ImageMetadata()
    is_profile = isinstance(profile, bytes) and 128 < len(profile) <= MAX_PROFILE_BYTES
    return ImageMetadata(profile if is_profile else None, _check_dpi(dpi))


def _read_tiff(path: str) -> tuple[Any, Any]:
    with decode.wrap_decoder_errors(path), decode.silence_decoders, tiff.open_tiff(path) as file:
        page = file.pages[0]
        profile = page.tags.get("InterColorProfile")
        unit, x, y = (page.tags.get(name) for name in ("ResolutionUnit", "XResolution", "YResolution"))
        factor = {2: 1.0, 3: _CENTIMETERS_PER_INCH}.get(int(unit.value) if unit is not None else 2)
        if factor is None or x is None or y is None:
            return profile and profile.value, None
        return profile and profile.value, tuple(tag.value[0] / tag.value[1] * factor for tag in (x, y))


def _check_dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None
