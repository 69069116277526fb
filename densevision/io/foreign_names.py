"""File names that were written on another computer: other separators, absolute paths, URLs, other spellings."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from densevision.io.box_table import StringArray
from densevision.io.image_files import is_inside, list_names

__all__ = ["localize_name", "localize_names"]


def localize_names(files: StringArray, folder: Path) -> StringArray:
    """Converts file names as `localize_name` does, looking up those that lie in the folder itself in one listing."""
    present = set(list_names(folder))
    names = list(files)
    if all(name in present for name in names):
        return files
    return StringArray.of(name if name in present else localize_name(name, folder) for name in names)


def localize_name(name: str, folder: Path) -> str:
    """Converts a file name written on another computer to one below a folder.

    Backslashes become separators, and of an absolute path or a URL the longest end that exists in the folder is taken.
    A file is also found if its name is spelled with other Unicode code points (macOS stores accents apart), in another
    case (Windows ignores it), or with `%20` for a blank, unless several files match. The name is unchanged if there is
    a file of this name, or none of these.

    Args:
        name: A file name relative to `folder`, an absolute path, or a URL.
        folder: The folder to search.
    """
    if "\0" in name or os.path.isfile(os.path.join(folder, name)):  # no Path: this runs for every image of a dataset
        return name
    ends = _list_ends(name)
    forms = [*ends, *(unquote(end) for end in ends if "%" in end)]
    for form in forms:
        if is_inside(form) and os.path.isfile(folder / form):
            return form
    for form in forms:
        if is_inside(form) and (found := _find_spelling(form, folder)) is not None:
            return found
    is_relative = "\\" in name and not PureWindowsPath(name).anchor
    return ends[0] if is_relative and ends[0] else name


def _list_ends(name: str) -> list[str]:
    """Lists the relative paths that a name of another system may mean, the longest first."""
    if (address := re.fullmatch(r"[a-z][a-z0-9+]+://[^/]*/([^?#]+).*", name)) is not None:
        parts = PurePosixPath(address[1]).parts
        return ["/".join(parts[start:]) for start in range(len(parts))]
    windows = PureWindowsPath(name)
    if name.startswith("/") or windows.anchor:
        parts = PurePosixPath(name).parts if name.startswith("/") else windows.parts
        return ["/".join(parts[start:]) for start in range(1, len(parts))]
    return ["/".join(windows.parts) if "\\" in name else name]


def _find_spelling(name: str, folder: Path) -> str | None:
    """Finds the only file whose name differs in case or Unicode form alone."""
    found = ""
    for part in name.split("/"):
        current = os.path.join(folder, found)
        try:
            spellings = _list_spellings(current, os.stat(current).st_mtime_ns)
        except OSError:
            return None
        matches = spellings.get(_fold(part), [])
        if len(matches) != 1:
            return None
        found = os.path.join(found, matches[0])
    return found if os.path.isfile(os.path.join(folder, found)) else None


@lru_cache(maxsize=64)
def _list_spellings(folder: str, changed: int) -> dict[str, list[str]]:
    """Maps folded names to the entries of a folder, as it was when it `changed`."""
    entries: dict[str, list[str]] = {}
    for entry in os.listdir(folder):
        entries.setdefault(_fold(entry), []).append(entry)
    return entries


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
