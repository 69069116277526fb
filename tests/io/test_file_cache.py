"""Cached readers see the file as it is."""

from __future__ import annotations

import os
from pathlib import Path

from densevision.io.file_cache import cache_by_file


def test_cache__by_arguments_and_state_of_the_file(tmp_path: Path) -> None:
    calls = []

    @cache_by_file(maxsize=4)
    def read(file: Path, suffix: str) -> str | None:
        calls.append(suffix)
        return file.read_text() + suffix if file.exists() else None

    file = tmp_path / "a.txt"
    assert read(file, "!") is None and read(file, "!") is None and len(calls) == 2
    file.write_text("one")
    assert read(file, "!") == read(file, "!") == "one!" and len(calls) == 3
    assert read(file, "?") == "one?" and len(calls) == 4
    file.write_text("three")
    assert read(file, "!") == "three!"
    file.write_text("seven")
    os.utime(file, ns=(1, 1))
    assert read(file, "!") == "seven!"
