"""A cleaned copy of a dataset: everything but what is left out, with some files written anew; whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from densevision.errors import UsageError
from densevision.io.atomic_write import whole_folder

LISTED = 20
"""Changes of one kind that are said one by one."""


class Edit(Protocol):
    """A file, or several, that list others or hold labels, and are written anew when all is known."""

    def apply(self, repair: Repair) -> None:
        """Says what it leaves out and rewrites, by `leave_out` and `rewrite`."""


E = TypeVar("E", bound=Edit)


class Repair:
    """What `--fix` does, gathered while a dataset is checked.

    Attributes:
        left_out: File -> why.
    """

    def __init__(self) -> None:
        self.left_out: dict[Path, str] = {}
        self._rewritten: dict[Path, tuple[Callable[[Path], None], str]] = {}
        self._edits: dict[Any, Edit] = {}
        self._followers: dict[Path, list[Path]] = {}

    def leave_out(self, file: str | os.PathLike[str], why: str) -> None:
        """The copy has no such file."""
        self.left_out.setdefault(Path(file).absolute(), why)

    def follow(self, file: str | os.PathLike[str], *partners: str | os.PathLike[str] | None) -> None:
        """Partners leave when the file does: a mask with its image, the right image with the left one."""
        found = [Path(partner).absolute() for partner in partners if partner is not None]
        self._followers.setdefault(Path(file).absolute(), []).extend(found)

    def rewrite(self, file: str | os.PathLike[str], write: Callable[[Path], None], what: str) -> None:
        """The copy's file is written by a function that is given its path."""
        self._rewritten[Path(file).absolute()] = (write, what)

    def edit(self, key: Any, make: Callable[[], E]) -> E:
        """The edit of this key; several splits may lie in one file."""
        return self._edits.setdefault(key, make())  # type: ignore[return-value]

    def is_left_out(self, file: str | os.PathLike[str]) -> bool:
        """Whether a file is left out."""
        return Path(file).absolute() in self.left_out

    def write(self, root: str | os.PathLike[str], out: str | os.PathLike[str]) -> list[str]:
        """Writes the copy.

        Args:
            root: The dataset's folder.
            out: The new folder.

        Returns:
            What was changed, a line each.

        Raises:
            UsageError: `out` exists, or lies in the dataset.
            DenseVisionError: The copy cannot be written; nothing is left of it.
        """
        root, out = Path(root).absolute(), Path(out).absolute()
        if out == root or root in out.parents:
            hint = "Name a new folder outside the dataset: nothing is changed in place."
            raise UsageError("lies in the dataset", field="--fix", value=str(out), hint=hint)
        for file, partners in self._followers.items():
            for partner in partners if file in self.left_out else ():
                self.left_out.setdefault(partner, self.left_out[file])
        for edit in self._edits.values():
            edit.apply(self)
        outside = [path for path in (*self.left_out, *self._rewritten) if root not in path.parents and path.exists()]
        if outside:
            hint = "Give the folder above all files of the dataset."
            raise UsageError("does not lie in the dataset's folder, so no copy can fix it", file=outside[0], hint=hint)
        with whole_folder(out) as temporary:
            self._copy(root, temporary)
        return self._changes(root)

    def _copy(self, root: Path, target: Path) -> None:
        for folder, _, names in os.walk(root, followlinks=True):
            inside = target / os.path.relpath(folder, root)
            inside.mkdir(parents=True, exist_ok=True)
            for name in names:
                source = Path(folder, name)
                if source in self.left_out:
                    continue
                if source in self._rewritten:
                    self._rewritten[source][0](inside / name)
                else:
                    shutil.copy2(source, inside / name)

    def _changes(self, root: Path) -> list[str]:
        by_reason: dict[str, list[str]] = {}
        for path, why in self.left_out.items():
            if path.exists():
                by_reason.setdefault(f"left out, {why}", []).append(os.path.relpath(path, root))
        for path, (_, what) in self._rewritten.items():
            if path not in self.left_out:
                by_reason.setdefault(what, []).append(os.path.relpath(path, root))
        lines = []
        for reason, files in by_reason.items():
            more = f", and {len(files) - LISTED} more" if len(files) > LISTED else ""
            noun = "file" if len(files) == 1 else "files"
            lines.append(f"{len(files)} {noun} {reason}: {', '.join(files[:LISTED])}{more}")
        return lines
