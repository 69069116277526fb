"""Finds the images of a dataset of pairs: halves of one image, two folders, or single images, by what is there.

Halves side by side are pix2pix's own datasets; folders trainA and trainB are CycleGAN's; A/train and B/train are what
pytorch-CycleGAN-and-pix2pix combines. Names of the two folders and of the splits can be set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SPLIT_NAMES, hold_out
from densevision.errors import DataError, did_you_mean
from densevision.io.image_files import IMAGE_SUFFIXES, list_images, read_usable_size
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.tasks.translation.config import HELD_OUT, SIDES, TranslationConfig, TranslationData

__all__ = ["Pairs", "find_pairs", "has_no_val_split"]

EXPECTED = (
    "Expected: folders train and val (or test) of images whose halves are A and B; or trainA, trainB, valA, valB; or "
    "train/A, train/B; or A/train, B/train; or A and B. Give folders of other names as data.train and data.val, and "
    "those of A and B as data.sides."
)


@dataclass(frozen=True)
class Pairs:
    """The files of a split.

    Attributes:
        layout: `side-by-side`, `folders` or `images`.
        files: The images of A and B, or of both, (A, B).
        notes: Which layout was detected, and where.
        excluded: Pairs of two folders that are left out, because one is unreadable or their sizes differ.
    """

    layout: str
    files: tuple[tuple[Path, Path], ...]
    notes: tuple[str, ...] = ()
    excluded: tuple[tuple[Path, Path], ...] = ()


def find_pairs(config: TranslationConfig, split: str, issues: LabelIssues) -> Pairs:
    """Finds the images of a split; only their headers are read.

    Args:
        config: Folders and layout.
        split: "train" or "val".
        issues: Reports unsuitable images.

    Raises:
        DataError: There are no images, or none is left; the message lists what is there.
    """
    is_held_out = config.data.val == HELD_OUT
    pairs = _list_pairs(config, "train" if is_held_out else split, issues)
    files = pairs.files
    if is_held_out:
        mask = hold_out(str(path) for path, _ in files) if files else ()
        files = tuple(pair for pair, is_val in zip(files, mask) if bool(is_val) == (split == "val"))
    if not files:
        value = list(issues.notes) or None
        raise DataError(f"no image for {split}", file=config.data.path, value=value, hint=EXPECTED)
    return replace(pairs, files=files, notes=tuple(f"{split}: {note}" for note in pairs.notes))


def has_no_val_split(config: TranslationConfig) -> bool:
    """Whether no folder has the name of a validation split, so that the same images would train and validate."""
    root = Path(locate_dataset(config.data))
    if not root.is_dir():
        return False
    sides = config.data.sides
    has_val_folder = any(name.lower() in SPLIT_NAMES["val"] for name in _list_subfolders(root))
    folders = _find_two_folders(root, "val", None, sides) if config.data.layout in ("auto", "folders") else None
    return not has_val_folder and (folders is None or folders == _match_sides(root, "", sides))


def _list_pairs(config: TranslationConfig, split: str, issues: LabelIssues) -> Pairs:
    """All pairs of a split, in the layout that the config names or that is detected."""
    root, data = Path(locate_dataset(config.data)), config.data
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, hint=EXPECTED)
    named = getattr(data, split)
    folders = _find_two_folders(root, split, named, data.sides) if data.layout in ("auto", "folders") else None
    if folders is not None:
        return _list_folder_pairs(root, folders, data, issues)
    if data.layout == "folders" or data.sides != SIDES:
        contents = ", ".join(_list_subfolders(root)) or "nothing"
        problem = f"no folders {' and '.join(data.sides)} for {split}"
        raise DataError(problem, file=root, value=contents, hint=EXPECTED)
    folder = _find_folder(root, split, named)
    if data.layout == "images" or (data.layout == "auto" and data.derive != "none"):
        layout, note, is_suitable = "images", f"A is derived from B, the images of {folder.name}", _is_usable
    else:
        layout, note = "side-by-side", f"A and B are the halves of each image of {folder.name}"
        is_suitable = _has_halves
        if data.layout == "auto":
            _check_no_nested_folders(folder)
    images = [folder / name for name in list_images(folder, issues)]
    return Pairs(layout, tuple((path, path) for path in images if is_suitable(path, data, issues)), (note,))


def _list_folder_pairs(root: Path, folders: tuple[Path, Path], data: TranslationData, issues: LabelIssues) -> Pairs:
    """The images of the same name and size of two folders."""
    pairs: list[tuple[Path, Path]] = []
    excluded: list[tuple[Path, Path]] = []
    for pair in _match_files(*folders, data.sides, issues):
        (pairs if _have_same_size(*pair, data, issues) else excluded).append(pair)
    a, b = (os.path.relpath(folder, root) for folder in folders)
    return Pairs("folders", tuple(pairs), (f"A is read from {a}, B from {b}",), tuple(excluded))


def _find_two_folders(root: Path, split: str, named: str | None, sides: tuple[str, str]) -> tuple[Path, Path] | None:
    """The folders of A and of B, if there are any."""
    words = SPLIT_NAMES[split] if named is None else (named,)
    for word in words:
        for pattern in ("{word}{side}", "{side}/{word}", "{word}/{side}"):
            folders = _match_sides(root, word, sides, pattern)
            if folders is not None:
                return folders
    split_words = [word for names in SPLIT_NAMES.values() for word in names]
    has_splits = any(_match_sides(root, word, sides, "{side}/{word}") for word in split_words)
    return None if named is not None or has_splits else _match_sides(root, "", sides)


def _match_sides(root: Path, word: str, sides: tuple[str, str], pattern: str = "{side}") -> tuple[Path, Path] | None:
    a, b = (_find_case_insensitive(root, pattern.format(word=word, side=side)) for side in sides)
    return None if a is None or b is None else (a, b)


def _find_case_insensitive(root: Path, name: str) -> Path | None:
    """The folder of this path below the root, or of the path in another case."""
    if (root / name).is_dir():
        return root / name
    for part in Path(name).parts:
        match = next((folder for folder in _list_subfolders(root) if folder.lower() == part.lower()), None)
        if match is None:
            return None
        root = root / match
    return root


def _find_folder(root: Path, split: str, named: str | None) -> Path:
    """The folder of a split's images; the root itself, if no folder has the name of a split."""
    subfolders = _list_subfolders(root)
    if named is not None:
        folder = root / named
        if not folder.is_dir():
            hint = did_you_mean(named, subfolders or ["(no folders)"])
            raise DataError("there is no such folder", file=folder, field=f"data.{split}", hint=hint)
    else:
        by_name = {name.lower(): name for name in subfolders}
        matching = [by_name[word] for word in SPLIT_NAMES[split] if word in by_name]
        of_any_split = [by_name[word] for words in SPLIT_NAMES.values() for word in words if word in by_name]
        if of_any_split and not matching:
            hint = f"Give a folder as data.{split}."
            raise DataError(f"there is no {split} split", file=root, value=", ".join(of_any_split), hint=hint)
        folder = root / matching[0] if matching else root
    if folder == root and not _contains_images(root):
        contents = ", ".join(subfolders) or "nothing"
        raise DataError("there is no image in this folder itself", file=folder, value=contents, hint=EXPECTED)
    return folder


def _check_no_nested_folders(folder: Path) -> None:
    """Refuses to split images of nested folders into halves: these are probably the two kinds of image."""
    subfolders = _list_subfolders(folder)
    if subfolders and not _contains_images(folder):
        examples = ", ".join(subfolders[:2]) if len(subfolders) > 1 else "A, B"
        hint = (
            f"If two of them contain A and B, set data.sides=[{examples}]. "
            "If A and B are the halves of each image, set data.layout=side-by-side."
        )
        problem = "the images are in nested folders"
        raise DataError(problem, file=folder, value=", ".join(subfolders), hint=hint)


def _contains_images(folder: Path) -> bool:
    return any(name.lower().endswith(IMAGE_SUFFIXES) for name in os.listdir(folder))


def _match_files(a: Path, b: Path, sides: tuple[str, str], issues: LabelIssues) -> list[tuple[Path, Path]]:
    """Images of the same name, without their suffixes and the name of their side at its end."""
    first, second = (_group_by_key(folder, side, issues) for folder, side in zip((a, b), sides))
    for paths, others in ((first, second), (second, first)):
        for key, path in paths.items():
            if key not in others:
                issues.add(IssueKind.PARTNER_MISSING, path, None, path.name)
    return [(path, second[key]) for key, path in first.items() if key in second]


def _group_by_key(folder: Path, side: str, issues: LabelIssues) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in list_images(folder, issues):
        key = re.sub(rf"[_-]{re.escape(side)}$", "", os.path.splitext(name)[0], flags=re.IGNORECASE)
        if key in paths:
            problem = f"two images have the same name, {paths[key].name} and {Path(name).name}"
            raise DataError(problem, file=folder, hint="Rename one.")
        paths[key] = folder / name
    return paths


def _have_same_size(a: Path, b: Path, data: TranslationData, issues: LabelIssues) -> bool:
    first, second = (read_usable_size(path, data.max_pixels, issues) for path in (a, b))
    if first is None or second is None:
        return False
    if first != second:
        sizes = " and ".join(f"{width} x {height}" for height, width in (first, second))
        issues.add(IssueKind.PARTNER_SIZE, a, None, sizes)
    return first == second


def _has_halves(path: Path, data: TranslationData, issues: LabelIssues) -> bool:
    size = read_usable_size(path, data.max_pixels, issues)
    if size is not None and size[1] % 2:
        issues.add(IssueKind.HALVES_ODD, path, None, f"{size[1]} x {size[0]}")
    return size is not None and size[1] % 2 == 0


def _is_usable(path: Path, data: TranslationData, issues: LabelIssues) -> bool:
    return read_usable_size(path, data.max_pixels, issues) is not None


def _list_subfolders(root: Path) -> Sequence[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
