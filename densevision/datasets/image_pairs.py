"""Which images a restoration dataset holds: targets alone, or inputs beside their targets, by what lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from densevision.errors import DataError, did_you_mean
from densevision.io.image_files import SUFFIXES, held_out, list_images
from densevision.io.label_issues import Findings, Kind

TARGETS = frozenset({"hr", "gt", "target", "targets", "sharp", "clean", "high"})
INPUTS = frozenset({"lr", "lq", "input", "inputs", "blur", "blurred", "blurry", "noisy", "low"})
SPLITS = {"train": frozenset({"train", "training"}), "val": frozenset({"val", "valid", "validation", "test"})}
"""Words in the names of folders and files, whatever surrounds them: DIV2K_train_LR_bicubic is of `train` and `lr`."""
USUAL = "bicubic"
"""Of several kinds of inputs the one that is taken."""
EXPECTED = (
    "Expected: a folder of images; folders train and val of them; HR and LR beside each other; or DIV2K's names. "
    "Folders of other names are said as data.train and data.val."
)


@dataclass(frozen=True)
class ImagePairs:
    """The files of a split.

    Attributes:
        targets: What the images should become.
        inputs: What they are, one per target; None where they are made of the targets.
        notes: Choices that were made on the way.
    """

    targets: tuple[Path, ...]
    inputs: tuple[Path, ...] | None = None
    notes: tuple[str, ...] = ()


def find_pairs(
    root: Path, split: str, named: Sequence[str], scale: int, findings: Findings, hold_out: str | None = None
) -> ImagePairs:
    """The images of a split.

    Args:
        root: The dataset.
        split: "train" or "val".
        named: Folders below it, instead of the usual ones.
        scale: Pixels of a target per pixel of its input.
        findings: Decides about images without partners.
        hold_out: "train" or "val": only that part of what is found, of which "val" is a tenth.

    Raises:
        DataError: Nothing is found, or several things could be meant; the message says what is there.
    """
    if not root.is_dir():
        raise DataError("there is no such folder", file=root, hint=EXPECTED)
    places = [_place(root / name) for name in named] if named else [_usual_place(root, split)]
    found = [_paired(*place, scale, findings) for place in places]
    made = {inputs is None for _, inputs in found}
    if len(made) > 1:
        problem = "some folders bring inputs and some do not"
        raise DataError(problem, file=root, field=f"data.{split}", value=", ".join(named), hint="Keep them apart.")
    targets = [path for paths, _ in found for path in paths]
    inputs = None if made == {True} else [path for _, paths in found for path in paths or ()]
    if hold_out is not None:
        keep = held_out(str(path) for path in targets)
        rows = [row for row, held in enumerate(keep.tolist()) if held == (hold_out == "val")]
        targets = [targets[row] for row in rows]
        inputs = None if inputs is None else [inputs[row] for row in rows]
    if not targets:
        raise DataError(f"no image for {split}", file=root, value=list(named) or None, hint=EXPECTED)
    notes = () if inputs is None else (f"{split}: inputs are read from {_folders(inputs, root)}, not made",)
    return ImagePairs(tuple(targets), None if inputs is None else tuple(inputs), notes)


def is_undivided(root: Path) -> bool:
    """Whether a folder's names tell no split, so that the same images would train and validate."""
    return not any(_words(folder) & SPLITS["val"] for folder in _subfolders(root))


def _usual_place(root: Path, split: str) -> tuple[Path, Path | None]:
    """The folders of targets and inputs of a split, by their names."""
    folders = _subfolders(root)
    ours = [folder for folder in folders if _words(folder) & SPLITS[split]]
    others = [folder for folder in folders if _words(folder) & frozenset().union(*SPLITS.values())]
    if not others:
        return _place(root)
    if not ours:
        names = ", ".join(folder.name for folder in others)
        raise DataError(f"there is no {split} split", file=root, value=names, hint=f"Name a folder as data.{split}.")
    plain = [folder for folder in ours if not _words(folder) & (TARGETS | INPUTS)]
    if len(plain) == 1:
        return _place(plain[0])
    return _by_roles(root, ours)


def _place(folder: Path) -> tuple[Path, Path | None]:
    """The folders of targets and inputs inside one folder; the folder itself, where its images lie there."""
    if not folder.is_dir():
        hint = did_you_mean(folder.name, [other.name for other in _subfolders(folder.parent)] or ["(no folders)"])
        raise DataError("there is no such folder", file=folder, hint=hint)
    if any(_words(sub) & TARGETS for sub in _subfolders(folder)):
        return _by_roles(folder, _subfolders(folder))
    if not any(entry.name.lower().endswith(SUFFIXES) for entry in os.scandir(folder)):
        names = ", ".join(sub.name for sub in _subfolders(folder)) or "nothing"
        problem = "no image lies in this folder itself"
        raise DataError(problem, file=folder, value=names, hint=EXPECTED)
    return folder, None


def _by_roles(root: Path, folders: Sequence[Path]) -> tuple[Path, Path | None]:
    targets = [folder for folder in folders if _words(folder) & TARGETS]
    inputs = [folder for folder in folders if _words(folder) & INPUTS and folder not in targets]
    if len(inputs) > 1:
        inputs = [folder for folder in inputs if USUAL in _words(folder)] or inputs
    for role, found in (("targets", targets), ("inputs", inputs)):
        if len(found) > 1 or (role == "targets" and not found):
            names = ", ".join(folder.name for folder in found or folders)
            problem = f"several folders could hold the {role}" if found else f"no folder holds the {role}"
            raise DataError(problem, file=root, value=names, hint=EXPECTED)
    return targets[0], inputs[0] if inputs else None


def _paired(targets: Path, inputs: Path | None, scale: int, findings: Findings) -> tuple[list[Path], list[Path] | None]:
    """The targets of a folder, each with its input where there is a folder of inputs."""
    wanted = [targets / name for name in list_images(targets)]
    if inputs is None:
        return wanted, None
    folder = _of_scale(inputs, scale)
    given = [folder / name for name in list_images(folder)]
    partners = _partners((targets, wanted), (folder, given))
    told = set(partners.values())
    for path in (*wanted, *given):
        if path not in partners and path not in told:
            findings.add(Kind.PARTNER_MISSING, path, None, path.name)
    both = [path for path in wanted if path in partners]
    return both, [partners[path] for path in both]


def _partners(targets: tuple[Path, list[Path]], inputs: tuple[Path, list[Path]]) -> dict[Path, Path]:
    """Target -> input: those of one name, then those whose names are one but for what tells role and scale."""
    found: dict[Path, Path] = {}
    for mine, theirs in ((_plain, _plain), (_plain, _short), (_short, _short)):
        told = set(found.values())
        wanted = _by_key(targets[0], [path for path in targets[1] if path not in found], mine)
        given = _by_key(inputs[0], [path for path in inputs[1] if path not in told], theirs)
        for key in wanted.keys() & given.keys():
            for folder, paths in ((targets[0], wanted[key]), (inputs[0], given[key])):
                if len(paths) > 1:
                    problem = f"two images share one name, {paths[0].name} and {paths[1].name}"
                    raise DataError(problem, file=folder, hint="Rename one.")
            found[wanted[key][0]] = given[key][0]
    return found


def _of_scale(folder: Path, scale: int) -> Path:
    """The folder of inputs, or its own subfolder for the scale: X2, x2, 2."""
    scaled = {sub.name.lower().lstrip("x"): sub for sub in _subfolders(folder) if re.fullmatch(r"[xX]?\d+", sub.name)}
    if not scaled:
        return folder
    if str(scale) not in scaled:
        names = ", ".join(sub.name for sub in scaled.values())
        raise DataError(
            "there are no inputs at this scale", file=folder, field="scale", value=scale, hint=f"Known: {names}."
        )
    return scaled[str(scale)]


def _by_key(folder: Path, paths: Iterable[Path], key: Callable[[str], str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(key(path.relative_to(folder).with_suffix("").as_posix().lower()), []).append(path)
    return found


def _plain(name: str) -> str:
    return name


def _short(name: str) -> str:
    """The name without what tells its scale or role: 0801x2 is of 0801, a_lr of a_hr."""
    stem = re.sub(r"[_-]?x\d+$", "", name)
    return "_".join(word for word in re.split(r"[^a-z0-9/]+", stem) if word not in TARGETS | INPUTS)


def _words(folder: Path) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", folder.name.lower()))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())


def _folders(paths: Iterable[Path], root: Path) -> str:
    return ", ".join(sorted({os.path.relpath(path.parent, root) for path in paths}))
