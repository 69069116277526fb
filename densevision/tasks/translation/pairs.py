"""Which pictures a dataset of pairs holds: halves of one picture, two folders, or single ones, by what lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from densevision.errors import DataError, did_you_mean
from densevision.io.findings import Findings, Kind
from densevision.io.image import image_size
from densevision.io.pictures import SUFFIXES, held_out, list_pictures
from densevision.ops.view import Size
from densevision.tasks.translation.config import HELD_OUT, TranslationConfig

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""Names of folders by split; of several the first counts."""
EXPECTED = (
    "Expected: folders train and val (or test) of pictures whose halves are A and B; or trainA, trainB, valA, valB; or "
    "train/A, train/B; or A/train, B/train; or A and B. Folders of other names are said as data.train and data.val."
)


@dataclass(frozen=True)
class Pairs:
    """The files of a split.

    Attributes:
        layout: `side-by-side`, `folders` or `pictures`.
        files: The picture of A and B, or of both, (A, B).
    """

    layout: str
    files: tuple[tuple[Path, Path], ...]


def find_pairs(config: TranslationConfig, split: str, findings: Findings) -> Pairs:
    """The pictures of a split, each looked at by its header.

    Args:
        config: Where they are, and how they lie there.
        split: "train" or "val".
        findings: Decides about those that do not fit.

    Raises:
        DataError: Nothing is found, or nothing is left; the message says what is there.
    """
    root, data = Path(config.data.path or ""), config.data
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, mend=EXPECTED)
    held = data.val == HELD_OUT
    source = "train" if held else split
    named = getattr(data, source)
    folders = _two_folders(root, source, named) if data.layout in ("auto", "folders") else None
    if folders is not None:
        layout, files = "folders", _partners(*folders, findings)
        files = [pair for pair in files if _same_size(*pair, findings)]
    elif data.layout == "folders":
        there = ", ".join(_subfolders(root)) or "nothing"
        raise DataError(f"no folders A and B for {source}", file=root, value=there, mend=EXPECTED)
    else:
        single = data.layout == "pictures" or (data.layout == "auto" and data.derive != "none")
        layout = "pictures" if single else "side-by-side"
        fits = _size if single else _has_halves
        files = [(path, path) for path in _pictures(root, source, named) if fits(path, findings)]
    if held:
        mask = held_out(str(path) for path, _ in files) if files else ()
        files = [pair for pair, validates in zip(files, mask) if bool(validates) == (split == "val")]
    if not files:
        raise DataError(f"no picture for {split}", file=root, value=list(findings.notes) or None, mend=EXPECTED)
    return Pairs(layout, tuple(files))


def is_undivided(config: TranslationConfig) -> bool:
    """Whether the folder's names tell no validation split, so that the same pictures would train and validate."""
    root = Path(config.data.path or "")
    if not root.is_dir():
        return False
    plain = any(name.lower() in SPLITS["val"] for name in _subfolders(root))
    folders = _two_folders(root, "val", None) if config.data.layout in ("auto", "folders") else None
    return not plain and (folders is None or folders == _places(root, ""))


def _two_folders(root: Path, split: str, named: str | None) -> tuple[Path, Path] | None:
    """The folders of A and of B, where there are any."""
    words = SPLITS[split] if named is None else (named,)
    for word in words:
        for form in ("{word}{side}", "{side}/{word}", "{word}/{side}"):
            found = _places(root, word, form)
            if found is not None:
                return found
    divided = any(_places(root, word, "{side}/{word}") for words in SPLITS.values() for word in words)
    return None if named is not None or divided else _places(root, "")


def _places(root: Path, word: str, form: str = "{side}") -> tuple[Path, Path] | None:
    a, b = (root / form.format(word=word, side=side) for side in ("A", "B"))
    return (a, b) if a.is_dir() and b.is_dir() else None


def _pictures(root: Path, split: str, named: str | None) -> list[Path]:
    """The pictures of a split's folder; of the root itself, where no folder has a split's name."""
    subfolders = _subfolders(root)
    if named is not None:
        folder = root / named
        if not folder.is_dir():
            mend = did_you_mean(named, subfolders or ["(no folders)"])
            raise DataError("there is no such folder", file=folder, field=f"data.{split}", mend=mend)
    else:
        byname = {name.lower(): name for name in subfolders}
        usual = [byname[word] for word in SPLITS[split] if word in byname]
        others = [byname[word] for words in SPLITS.values() for word in words if word in byname]
        if others and not usual:
            mend = f"Name a folder as data.{split}."
            raise DataError(f"there is no {split} split", file=root, value=", ".join(others), mend=mend)
        folder = root / usual[0] if usual else root
    if folder == root and not any(name.lower().endswith(SUFFIXES) for name in os.listdir(root)):
        there = ", ".join(subfolders) or "nothing"
        raise DataError("no picture lies in this folder itself", file=folder, value=there, mend=EXPECTED)
    return [folder / name for name in list_pictures(folder)]


def _partners(a: Path, b: Path, findings: Findings) -> list[tuple[Path, Path]]:
    """Pictures of one name, whatever their suffixes and an A or B at its end."""
    sides = [_by_key(a, "A"), _by_key(b, "B")]
    for mine, other in (sides, sides[::-1]):
        for key, path in mine.items():
            if key not in other:
                findings.add(Kind.PARTNER_MISSING, path, None, path.name)
    return [(path, sides[1][key]) for key, path in sides[0].items() if key in sides[1]]


def _by_key(folder: Path, side: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in list_pictures(folder):
        key = re.sub(rf"[_-]{side}$", "", os.path.splitext(name)[0], flags=re.IGNORECASE)
        if key in found:
            problem = f"two pictures share one name, {found[key].name} and {Path(name).name}"
            raise DataError(problem, file=folder, mend="Rename one.")
        found[key] = folder / name
    return found


def _same_size(a: Path, b: Path, findings: Findings) -> bool:
    first, second = (_size(path, findings) for path in (a, b))
    if first is None or second is None:
        return False
    if first != second:
        told = " and ".join(f"{width} x {height}" for height, width in (first, second))
        findings.add(Kind.PARTNER_SIZE, a, None, told)
    return first == second


def _has_halves(path: Path, findings: Findings) -> bool:
    size = _size(path, findings)
    if size is not None and size[1] % 2:
        findings.add(Kind.HALVES_ODD, path, None, f"{size[1]} x {size[0]}")
    return size is not None and size[1] % 2 == 0


def _size(path: Path, findings: Findings) -> Size | None:
    """(height, width) by the header; None where there is none to be read."""
    try:
        return image_size(path)
    except DataError as failure:
        findings.add(Kind.PICTURE_BROKEN, path, failure.field, failure.problem)
        return None


def _subfolders(root: Path) -> Sequence[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
