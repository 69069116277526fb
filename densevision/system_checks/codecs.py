"""Codecs: image formats are written and read back, and the video backend is looked up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_codecs"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WebP", ".tif": "TIFF"}
MAX_LOSS = 24
"""Levels out of 255 by which a smooth image may change in a lossy format."""


def check_codecs() -> Iterator[SystemFinding]:
    """Checks image formats, and whether OpenCV can decode video."""
    import cv2

    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, name in FORMATS.items():
            fault = _check_format(Path(folder) / f"image{suffix}")
            if fault:
                faults.append(
                    SystemFinding(name, "error", fault, "Reinstall Pillow: pip install --force-reinstall pillow")
                )
    yield from faults
    if not faults:
        yield SystemFinding("images", "ok", f"{', '.join(FORMATS.values())} are written and read")
    if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends():
        yield SystemFinding("video", "ok", f"OpenCV {cv2.__version__} with FFmpeg")
    else:
        hint = "Reinstall it: pip install --force-reinstall opencv-python-headless"
        yield SystemFinding("video", "warning", f"OpenCV {cv2.__version__} has no FFmpeg: it reads no videos", hint)


def _check_format(file: Path) -> str | None:
    """Writes and reads an image; returns what is wrong."""
    import numpy as np
    import PIL.Image

    from densevision.io.image import read_image

    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    try:
        PIL.Image.fromarray(ramp).save(file)
        pixels = np.asarray(read_image(file), dtype=np.int16)
    except (OSError, KeyError, ValueError) as error:
        return f"cannot be written or read: {error}"
    if pixels.shape != ramp.shape or int(np.abs(pixels - ramp).max()) > MAX_LOSS:
        return "changes its pixels"
    return None
