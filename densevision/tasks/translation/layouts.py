"""Which images a dataset of pairs holds: halves of one image, two folders, or single ones, by what lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from densevision.errors import DataError, did_you_mean
from densevision.io.image_files import SUFFIXES, held_out, list_images, usable_size
from densevision.io.label_issues import Findings, Kind
from densevision.tasks.translation.config import HELD_OUT, SIDES, TranslationConfig, TranslationData

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
"""Names of folders by split; of several the first counts."""
EXPECTED = (
    "Expected: folders train and val (or test) of images whose halves are A and B; or trainA, trainB, valA, valB; or "
    "train/A, train/B; or A/train, B/train; or A and B. Folders of other names are said as data.train and data.val, "
    "those of A and B as data.sides."
)


@dataclass(frozen=True)
class Pairs:
    """The files of a split.

    Attributes:
        layout: `side-by-side`, `folders` or `images`.
        files: The image of A and B, or of both, (A, B).
        notes: Which layout was taken, and whence.
        dropped: Pairs of two folders that are left out, as one cannot be read or their sizes differ.
    """

    layout: str
    files: tuple[tuple[Path, Path], ...]
    notes: tuple[str, ...] = ()
    dropped: tuple[tuple[Path, Path], ...] = ()


def find_pairs(config: TranslationConfig, split: str, findings: Findings) -> Pairs:
    """The images of a split, each looked at by its header.

    Args:
        config: Where they are, and how they lie there.
        split: "train" or "val".
        findings: Decides about those that do not fit.

    Raises:
        DataError: Nothing is found, or nothing is left; the message says what is there.
    """
    held = config.data.val == HELD_OUT
    found = _listed(config, "train" if held else split, findings)
    files = found.files
    if held:
        mask = held_out(str(path) for path, _ in files) if files else ()
        files = tuple(pair for pair, validates in zip(files, mask) if bool(validates) == (split == "val"))
    if not files:
        value = list(findings.notes) or None
        raise DataError(f"no image for {split}", file=config.data.path, value=value, hint=EXPECTED)
    return replace(found, files=files, notes=tuple(f"{split}: {note}" for note in found.notes))


def is_undivided(config: TranslationConfig) -> bool:
    """Whether the folder's names tell no validation split, so that the same images would train and validate."""
    root = Path(config.data.path or "")
    if not root.is_dir():
        return False
    plain, sides = any(name.lower() in SPLITS["val"] for name in _subfolders(root)), config.data.sides
    folders = _two_folders(root, "val", None, sides) if config.data.layout in ("auto", "folders") else None
    return not plain and (folders is None or folders == _places(root, "", sides))


def _listed(config: TranslationConfig, split: str, findings: Findings) -> Pairs:
    """All that lies there for a split."""
    root, data = Path(config.data.path or ""), config.data
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, hint=EXPECTED)
    named = getattr(data, split)
    folders = _two_folders(root, split, named, data.sides) if data.layout in ("auto", "folders") else None
    if folders is not None:
        kept, dropped = [], []
        for pair in _partners(*folders, data.sides, findings):
            (kept if _same_size(*pair, data, findings) else dropped).append(pair)
        a, b = (os.path.relpath(folder, root) for folder in folders)
        return Pairs("folders", tuple(kept), (f"A is read from {a}, B from {b}",), tuple(dropped))
    if data.layout == "folders" or data.sides != SIDES:
        there = ", ".join(_subfolders(root)) or "nothing"
        problem = f"no folders {' and '.join(data.sides)} for {split}"
        raise DataError(problem, file=root, value=there, hint=EXPECTED)
    folder = _folder(root, split, named)
    if data.layout == "images" or (data.layout == "auto" and data.derive != "none"):
        layout, note, fits = "images", f"A is made of B, the images of {folder.name}", _is_usable
    else:
        layout, note, fits = "side-by-side", f"A and B are the halves of each image of {folder.name}", _has_halves
        if data.layout == "auto":
            _refuse_folders_below(folder)
    images = [folder / name for name in list_images(folder)]
    return Pairs(layout, tuple((path, path) for path in images if fits(path, data, findings)), (note,))


def _two_folders(root: Path, split: str, named: str | None, sides: tuple[str, str]) -> tuple[Path, Path] | None:
    """The folders of A and of B, where there are any."""
    words = SPLITS[split] if named is None else (named,)
    for word in words:
        for form in ("{word}{side}", "{side}/{word}", "{word}/{side}"):
            found = _places(root, word, sides, form)
            if found is not None:
                return found
    divided = any(_places(root, word, sides, "{side}/{word}") for words in SPLITS.values() for word in words)
    return None if named is not None or divided else _places(root, "", sides)


def _places(root: Path, word: str, sides: tuple[str, str], form: str = "{side}") -> tuple[Path, Path] | None:
    a, b = (_in_any_case(root, form.format(word=word, side=side)) for side in sides)
    return None if a is None or b is None else (a, b)


def _in_any_case(root: Path, name: str) -> Path | None:
    """The folder of this path below the root; where there is none, of the path in other upper and lower case."""
    if (root / name).is_dir():
        return root / name
    for part in Path(name).parts:
        found = next((sub for sub in _subfolders(root) if sub.lower() == part.lower()), None)
        if found is None:
            return None
        root = root / found
    return root


def _folder(root: Path, split: str, named: str | None) -> Path:
    """The folder of a split's images; the root itself, where no folder has a split's name."""
    subfolders = _subfolders(root)
    if named is not None:
        folder = root / named
        if not folder.is_dir():
            hint = did_you_mean(named, subfolders or ["(no folders)"])
            raise DataError("there is no such folder", file=folder, field=f"data.{split}", hint=hint)
    else:
        byname = {name.lower(): name for name in subfolders}
        usual = [byname[word] for word in SPLITS[split] if word in byname]
        others = [byname[word] for words in SPLITS.values() for word in words if word in byname]
        if others and not usual:
            hint = f"Name a folder as data.{split}."
            raise DataError(f"there is no {split} split", file=root, value=", ".join(others), hint=hint)
        folder = root / usual[0] if usual else root
    if folder == root and not any(name.lower().endswith(SUFFIXES) for name in os.listdir(root)):
        there = ", ".join(subfolders) or "nothing"
        raise DataError("no image lies in this folder itself", file=folder, value=there, hint=EXPECTED)
    return folder


def _refuse_folders_below(folder: Path) -> None:
    """Refuses to take for halves what lies in folders of its own, which are more likely the two kinds of image."""
    subfolders = _subfolders(folder)
    if subfolders and not any(name.lower().endswith(SUFFIXES) for name in os.listdir(folder)):
        two = ", ".join(subfolders[:2]) if len(subfolders) > 1 else "A, B"
        hint = (
            f"If two of them hold A and B, say which: data.sides=[{two}]. "
            "If A and B are the halves of each image, say data.layout=side-by-side."
        )
        problem = "the images of this folder lie in folders below it"
        raise DataError(problem, file=folder, value=", ".join(subfolders), hint=hint)


def _partners(a: Path, b: Path, names: tuple[str, str], findings: Findings) -> list[tuple[Path, Path]]:
    """Images of one name, whatever their suffixes and the name of their side at its end."""
    sides = [_by_key(folder, name) for folder, name in zip((a, b), names)]
    for mine, other in (sides, sides[::-1]):
        for key, path in mine.items():
            if key not in other:
                findings.add(Kind.PARTNER_MISSING, path, None, path.name)
    return [(path, sides[1][key]) for key, path in sides[0].items() if key in sides[1]]


def _by_key(folder: Path, side: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in list_images(folder):
        key = re.sub(rf"[_-]{re.escape(side)}$", "", os.path.splitext(name)[0], flags=re.IGNORECASE)
        if key in found:
            problem = f"two images share one name, {found[key].name} and {Path(name).name}"
            raise DataError(problem, file=folder, hint="Rename one.")
        found[key] = folder / name
    return found


def _same_size(a: Path, b: Path, data: TranslationData, findings: Findings) -> bool:
    first, second = (usable_size(path, data.max_pixels, findings) for path in (a, b))
    if first is None or second is None:
        return False
    if first != second:
        told = " and ".join(f"{width} x {height}" for height, width in (first, second))
        findings.add(Kind.PARTNER_SIZE, a, None, told)
    return first == second


def _has_halves(path: Path, data: TranslationData, findings: Findings) -> bool:
    size = usable_size(path, data.max_pixels, findings)
    if size is not None and size[1] % 2:
        findings.add(Kind.HALVES_ODD, path, None, f"{size[1]} x {size[0]}")
    return size is not None and size[1] % 2 == 0


def _is_usable(path: Path, data: TranslationData, findings: Findings) -> bool:
    return usable_size(path, data.max_pixels, findings) is not None


def _subfolders(root: Path) -> Sequence[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
