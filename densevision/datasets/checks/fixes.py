"""The cleaned copy of a dataset: some files are left out, some are rewritten, all others are copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from densevision.errors import UsageError
from densevision.io.atomic_write import atomic_folder

__all__ = ["Edit", "FixPlan"]

MAX_LISTED = 20
"""File names that the summary of one kind of change lists."""


class Edit(Protocol):
    """An edit of files that list other files or hold labels, applied when all findings are known."""

    def apply(self, plan: FixPlan) -> None:
        """Adds exclusions and rewritten files to the plan."""


E = TypeVar("E", bound=Edit)


class FixPlan:
    """What `--fix` does, collected while a dataset is checked.

    Attributes:
        exclusions: File that the copy lacks -> the reason.
    """

    def __init__(self) -> None:
        self.exclusions: dict[Path, str] = {}
        self._writers: dict[Path, tuple[Callable[[Path], None], str]] = {}
        self._edits: dict[Any, Edit] = {}
        self._partners: dict[Path, list[Path]] = {}

    def exclude(self, file: str | os.PathLike[str], reason: str) -> None:
        """Leaves a file out of the copy."""
        self.exclusions.setdefault(Path(file).absolute(), reason)

    def exclude_together(self, file: str | os.PathLike[str], *partners: str | os.PathLike[str] | None) -> None:
        """Leaves partners out if the file is left out: a mask with its image, the right image with the left one."""
        paths = [Path(partner).absolute() for partner in partners if partner is not None]
        self._partners.setdefault(Path(file).absolute(), []).extend(paths)

    def rewrite(self, file: str | os.PathLike[str], write: Callable[[Path], None], description: str) -> None:
        """Replaces a file in the copy.

        Args:
            file: The file in the dataset.
            write: Writes the new file at the path that it is given.
            description: The change, as reported.
        """
        self._writers[Path(file).absolute()] = (write, description)

    def get_edit(self, key: Any, factory: Callable[[], E]) -> E:
        """Returns the edit with a key, created on first use: several splits may be in one file."""
        return cast(E, self._edits.setdefault(key, factory()))

    def is_excluded(self, file: str | os.PathLike[str]) -> bool:
        """Whether a file is left out."""
        return Path(file).absolute() in self.exclusions

    def write_copy(self, root: str | os.PathLike[str], out: str | os.PathLike[str]) -> list[str]:
        """Writes the cleaned copy.

        Args:
            root: The folder of the dataset.
            out: The new folder.

        Returns:
            The changes, one line each.

        Raises:
            UsageError: `out` exists or is inside the dataset.
            DenseVisionError: The copy cannot be written; no part of it remains.
        """
        root, out = Path(root).absolute(), Path(out).absolute()
        if out == root or root in out.parents:
            hint = "Name a new folder outside the dataset: nothing is changed in place."
            raise UsageError("is inside the dataset", field="--fix", value=str(out), hint=hint)
        for file, partners in self._partners.items():
            for partner in partners if file in self.exclusions else ():
                self.exclusions.setdefault(partner, self.exclusions[file])
        for edit in self._edits.values():
            edit.apply(self)
        outside = [path for path in (*self.exclusions, *self._writers) if root not in path.parents and path.exists()]
        if outside:
            hint = "Give the folder above all files of the dataset."
            raise UsageError(
                "is outside the folder of the dataset, so a copy cannot fix it", file=outside[0], hint=hint
            )
        with atomic_folder(out) as temporary:
            self._copy(root, temporary)
        return self._list_changes(root)

    def _copy(self, root: Path, target: Path) -> None:
        for folder, _, names in os.walk(root, followlinks=True):
            target_folder = target / os.path.relpath(folder, root)
            target_folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                source = Path(folder, name)
                if source in self.exclusions:
                    continue
                if source in self._writers:
                    self._writers[source][0](target_folder / name)
                else:
                    shutil.copy2(source, target_folder / name)

    def _list_changes(self, root: Path) -> list[str]:
        files_by_change: dict[str, list[str]] = {}
        for path, reason in self.exclusions.items():
            if path.exists():
                files_by_change.setdefault(f"left out, {reason}", []).append(os.path.relpath(path, root))
        for path, (_, description) in self._writers.items():
            if path not in self.exclusions:
                files_by_change.setdefault(description, []).append(os.path.relpath(path, root))
        lines = []
        for change, files in files_by_change.items():
            more = f", and {len(files) - MAX_LISTED} more" if len(files) > MAX_LISTED else ""
            noun = "file" if len(files) == 1 else "files"
            lines.append(f"{len(files)} {noun} {change}: {', '.join(files[:MAX_LISTED])}{more}")
        return lines
