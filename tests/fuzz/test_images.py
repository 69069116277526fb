"""Images whose headers overstate what they hold are refused in bounded memory; intact ones are read."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzzing.images import FILES, SIZE
from fuzzing.mutations import fix_checksums
from PIL import Image

from densevision.errors import DataError
from densevision.io.image import read_image, read_image_size

MEGABYTES = 600
"""Growth of the peak: an image of 4 megapixels as 16-bit RGBA, its copies, and the libraries themselves."""


@pytest.mark.parametrize("name", FILES)
def test_decoders__intact_files_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    expected = {"turned.jpg": SIZE[::-1], "plain.ppm": (2, 3)}.get(name, SIZE)
    assert read_image(tmp_path / name).shape[:2] == read_image_size(tmp_path / name) == expected


def _make_bombs() -> dict[str, bytes]:
    """Small files whose headers state far more than they hold."""
    huge = struct.pack("<HH", 19_000, 19_000)
    gif = FILES["palette.gif"]
    png = FILES["rgb.png"]
    stated = struct.pack(">II", 19_000, 19_000)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, np.zeros((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    held = zlib.compress(bytes(1 << 30), 9)
    strip = tiff.getvalue()
    with tifffile.TiffFile(io.BytesIO(strip)) as file:
        tags = file.pages[0].tags
        offset, count = tags["StripOffsets"].valueoffset, tags["StripByteCounts"].valueoffset
    inflating = bytearray(strip + held)
    inflating[offset : offset + 4] = struct.pack("<I", len(strip))
    inflating[count : count + 4] = struct.pack("<I", len(held))
    return {
        "screen.gif": gif[:6] + huge + gif[10:],
        "header.png": fix_checksums(png[:16] + stated + png[24:]),
        "chunk.png": png[:33] + struct.pack(">I", 0xD9000000) + png[37:],
        "strip.tif": bytes(inflating),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory in kilobytes")
def test_decoders__memory_of_overstating_headers(tmp_path: Path, peak_kib: str) -> None:
    bombs = _make_bombs()
    files = [tmp_path / name for name in bombs]
    for file in files:
        file.write_bytes(bombs[file.name])
        assert file.stat().st_size < 2_000_000
    program = (
        "import sys\n"
        "from densevision.io.image import read_image\n"
        "from densevision.errors import DataError\n"
        f"peak = lambda: {peak_kib} / 1024\n"
        "before = peak()\n"
        "for file in sys.argv[1:]:\n"
        "    try: read_image(file)\n"
        "    except DataError: print(peak() - before)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", program, *map(str, files)]
    process = subprocess.run(call, capture_output=True, text=True, env=environment, check=True)
    growth = [float(value) for value in process.stdout.split()]
    assert len(growth) == len(files) and growth[-1] < MEGABYTES


def test_decoders__memory_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jp2").write_bytes(FILES["rgb.jp2"])

    def exhausted(self: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", exhausted)
    monkeypatch.setattr("PIL.Jpeg2KImagePlugin.Jpeg2KImageFile.load", exhausted)
    with pytest.raises(DataError, match=r"a\.jp2"):
        read_image(tmp_path / "a.jp2")
