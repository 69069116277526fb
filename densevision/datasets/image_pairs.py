"""Finds the images of a restoration dataset: targets only, or inputs with their targets, by folder and file names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from densevision.datasets.splits import SPLIT_NAMES, hold_out
from densevision.errors import DataError, did_you_mean
from densevision.io.image_files import IMAGE_SUFFIXES, list_images
from densevision.io.label_issues import IssueKind, LabelIssues

__all__ = ["INPUT_WORDS", "TARGET_WORDS", "ImagePairs", "find_image_pairs", "has_no_split_folders"]

TARGET_WORDS = frozenset({"hr", "gt", "target", "targets", "sharp", "clean", "high"})
INPUT_WORDS = frozenset({"lr", "lq", "input", "inputs", "blur", "blurred", "blurry", "noisy", "low"})
"""Words in the names of folders and files that tell their role: DIV2K_train_LR_bicubic holds inputs of `train`."""
SPLIT_WORDS = {split: frozenset(names) for split, names in SPLIT_NAMES.items()}
PREFERRED_INPUT = "bicubic"
"""Word of the input folder that is taken if there are several."""
EXPECTED = (
    "Expected: a folder of images; folders train and val of images; folders HR and LR; or DIV2K's names. "
    "Give folders of other names as data.train and data.val."
)


@dataclass(frozen=True)
class ImagePairs:
    """The files of a split.

    Attributes:
        targets: The target images.
        inputs: The input images, one per target; None if they are generated from the targets.
        notes: Choices made during detection.
    """

    targets: tuple[Path, ...]
    inputs: tuple[Path, ...] | None = None
    notes: tuple[str, ...] = ()


def find_image_pairs(
    root: Path, split: str, folders: Sequence[str], scale: int, issues: LabelIssues, part: str | None = None
) -> ImagePairs:
    """Finds the images of a split.

    Args:
        root: The dataset.
        split: "train" or "val".
        folders: Folders in the dataset to use instead of the standard ones.
        scale: Pixels of a target per pixel of its input.
        issues: Reports images without partners.
        part: "train" or "val" to select only that part of the images, of which a tenth is "val"; None selects all.

    Raises:
        DataError: There are no images, or the folders are ambiguous; the message lists them.
    """
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, hint=EXPECTED)
    roles = [_assign_roles(root / name) for name in folders] if folders else [_find_split(root, split)]
    matches = [_match_folders(*pair, scale, issues) for pair in roles]
    has_inputs = {inputs is not None for _, inputs in matches}
    if len(has_inputs) > 1:
        problem = "some folders have inputs and some do not"
        hint = "Use them in separate runs."
        raise DataError(problem, file=root, field=f"data.{split}", value=", ".join(folders), hint=hint)
    targets = [path for paths, _ in matches for path in paths]
    inputs = [path for _, paths in matches for path in paths or ()] if has_inputs == {True} else None
    if part is not None:
        is_validation = hold_out(str(path) for path in targets)
        rows = [row for row, is_held_out in enumerate(is_validation.tolist()) if is_held_out == (part == "val")]
        targets = [targets[row] for row in rows]
        inputs = None if inputs is None else [inputs[row] for row in rows]
    if not targets:
        raise DataError(f"no image for {split}", file=root, value=list(folders) or None, hint=EXPECTED)
    notes = () if inputs is None else (f"{split}: inputs are read from {_format_folders(inputs, root)}, not generated",)
    return ImagePairs(tuple(targets), None if inputs is None else tuple(inputs), notes)


def has_no_split_folders(root: Path) -> bool:
    """Whether no folder name means a validation split, so that training and validation would use the same images."""
    return not any(_split_words(folder) & SPLIT_WORDS["val"] for folder in _list_subfolders(root))


def _find_split(root: Path, split: str) -> tuple[Path, Path | None]:
    """Finds the folders of targets and inputs of a split by their names."""
    subfolders = _list_subfolders(root)
    split_folders = [folder for folder in subfolders if _split_words(folder) & SPLIT_WORDS[split]]
    any_split_folders = [
        folder for folder in subfolders if _split_words(folder) & frozenset().union(*SPLIT_WORDS.values())
    ]
    if not any_split_folders:
        return _assign_roles(root)
    if not split_folders:
        names = ", ".join(folder.name for folder in any_split_folders)
        raise DataError(f"there is no {split} split", file=root, value=names, hint=f"Name a folder as data.{split}.")
    without_role = [folder for folder in split_folders if not _split_words(folder) & (TARGET_WORDS | INPUT_WORDS)]
    if len(without_role) == 1:
        return _assign_roles(without_role[0])
    return _assign_roles_by_name(root, split_folders)


def _assign_roles(folder: Path) -> tuple[Path, Path | None]:
    """Finds the folders of targets and inputs inside a folder; the folder itself if it holds images."""
    if not folder.is_dir():
        siblings = [sibling.name for sibling in _list_subfolders(folder.parent)] or ["(no folders)"]
        raise DataError("there is no such folder", file=folder, hint=did_you_mean(folder.name, siblings))
    if any(_split_words(subfolder) & TARGET_WORDS for subfolder in _list_subfolders(folder)):
        return _assign_roles_by_name(folder, _list_subfolders(folder))
    if not any(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in os.scandir(folder)):
        names = ", ".join(subfolder.name for subfolder in _list_subfolders(folder)) or "nothing"
        raise DataError("this folder itself contains no image", file=folder, value=names, hint=EXPECTED)
    return folder, None


def _assign_roles_by_name(root: Path, folders: Sequence[Path]) -> tuple[Path, Path | None]:
    targets = [folder for folder in folders if _split_words(folder) & TARGET_WORDS]
    inputs = [folder for folder in folders if _split_words(folder) & INPUT_WORDS and folder not in targets]
    if len(inputs) > 1:
        inputs = [folder for folder in inputs if PREFERRED_INPUT in _split_words(folder)] or inputs
    for role, candidates in (("targets", targets), ("inputs", inputs)):
        if len(candidates) > 1 or (role == "targets" and not candidates):
            names = ", ".join(folder.name for folder in candidates or folders)
            problem = f"several folders could hold the {role}" if candidates else f"no folder holds the {role}"
            raise DataError(problem, file=root, value=names, hint=EXPECTED)
    return targets[0], inputs[0] if inputs else None


def _match_folders(
    targets: Path, inputs: Path | None, scale: int, issues: LabelIssues
) -> tuple[list[Path], list[Path] | None]:
    """Returns the targets of a folder, each with its input if there is an input folder."""
    target_files = [targets / name for name in list_images(targets, issues)]
    if inputs is None:
        return target_files, None
    folder = _find_scale_folder(inputs, scale)
    input_files = [folder / name for name in list_images(folder, issues)]
    partners = _match_files((targets, target_files), (folder, input_files))
    matched_inputs = set(partners.values())
    for path in (*target_files, *input_files):
        if path not in partners and path not in matched_inputs:
            issues.add(IssueKind.PARTNER_MISSING, path, None, path.name)
    matched_targets = [path for path in target_files if path in partners]
    return matched_targets, [partners[path] for path in matched_targets]


def _match_files(targets: tuple[Path, list[Path]], inputs: tuple[Path, list[Path]]) -> dict[Path, Path]:
    """Maps targets to inputs: first equal names, then names that differ in the words of role and scale only."""
    partners: dict[Path, Path] = {}
    for target_key, input_key in ((str, str), (str, _remove_role_and_scale), (_remove_role_and_scale,) * 2):
        matched_inputs = set(partners.values())
        target_groups = _group_by_key(targets[0], [path for path in targets[1] if path not in partners], target_key)
        input_groups = _group_by_key(inputs[0], [path for path in inputs[1] if path not in matched_inputs], input_key)
        for key in target_groups.keys() & input_groups.keys():
            for folder, paths in ((targets[0], target_groups[key]), (inputs[0], input_groups[key])):
                if len(paths) > 1:
                    problem = f"two images have the same name, {paths[0].name} and {paths[1].name}"
                    raise DataError(problem, file=folder, hint="Rename one.")
            partners[target_groups[key][0]] = input_groups[key][0]
    return partners


def _find_scale_folder(folder: Path, scale: int) -> Path:
    """Returns the input folder, or its subfolder for the scale: X2, x2, 2."""
    subfolders = [sub for sub in _list_subfolders(folder) if re.fullmatch(r"[xX]?\d+", sub.name)]
    by_scale = {sub.name.lower().lstrip("x"): sub for sub in subfolders}
    if not by_scale:
        return folder
    if str(scale) not in by_scale:
        hint = f"There are: {', '.join(sub.name for sub in by_scale.values())}."
        raise DataError("there are no inputs of this scale", file=folder, field="scale", value=scale, hint=hint)
    return by_scale[str(scale)]


def _group_by_key(folder: Path, paths: Iterable[Path], get_key: Callable[[str], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(get_key(path.relative_to(folder).with_suffix("").as_posix().lower()), []).append(path)
    return groups


def _remove_role_and_scale(name: str) -> str:
    """Removes the words of scale and role from a name: 0801x2 matches 0801, a_lr matches a_hr."""
    stem = re.sub(r"[_-]?x\d+$", "", name)
    return "_".join(word for word in re.split(r"[^a-z0-9/]+", stem) if word not in TARGET_WORDS | INPUT_WORDS)


def _split_words(folder: Path) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", folder.name.lower()))


def _list_subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())


def _format_folders(paths: Iterable[Path], root: Path) -> str:
    return ", ".join(sorted({os.path.relpath(path.parent, root) for path in paths}))
