"""What is wrong with a dataset's labels, and what is done about it: each problem is counted and named."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from densevision.errors import DataError

OnError = Literal["fail", "fix", "skip"]
LEFT_OUT = "left out"
KEPT = "kept"
EXAMPLES = 100
"""Findings of one kind that are remembered one by one; beyond, they are only counted."""
PUBLISHED = 3
"""Names that a note lists."""


class Kind(Enum):
    """The problems that readers know: one, several, what is wrong, how a person fixes it, and what `fix` does.

    Where `fix` has no word, there is nothing to fix: the label or the image is left out, as under `skip`.
    """

    BOX_OUTSIDE = ("a box", "boxes", "reaching outside the image", "Clip it to the image.", "clipped")
    BOX_AWAY = ("a box", "boxes", "lying outside the image", "Remove it, or look for a mistaken unit or image.")
    BOX_REVERSED = ("a box", "boxes", "of negative width or height", "Order its corners.", "with their corners sorted")
    BOX_FLAT = ("a box", "boxes", "without width or height", "Remove it.")
    BOX_NOT_FINITE = ("a box", "boxes", "with a coordinate that is not a finite number", "Remove it.")
    BOX_TWICE = ("a box", "boxes", "given twice", "Remove one of the two.")
    AREA_IMPOSSIBLE = ("an area", "areas", "below zero or infinite", "Compute it anew.", "taken of its box")
    MASK_ABSENT = ("an object", "objects", "without a mask", "Give it polygons or run lengths.")
    MASK_EMPTY = ("a mask", "masks", "without a single pixel", "Remove the object.")
    OUTLINE_SHORT = ("a polygon", "polygons", "of fewer than 3 points", "Remove it.", "left out of its object")
    KEYPOINT_COUNT = ("an object", "objects", "with another number of keypoints than the skeleton", "Give all x, y, v.")
    CLASS_ABSENT = ("a label", "labels", "of a class that is not listed", "Add the class, or correct the label.")
    ENTRY_MALFORMED = ("an entry", "entries", "with a value missing or of a wrong type", "Write it as the format says.")
    LINE_MALFORMED = ("a line", "lines", "that cannot be read", "Write: class center-x center-y width height.")
    FILE_MALFORMED = ("a label file", "label files", "that cannot be read", "Write it anew.")
    ANNOTATION_ID_TWICE = ("an annotation id", "annotation ids", "given twice", "Number the annotations anew.", KEPT)
    IMAGE_ID_TWICE = ("an image id", "image ids", "given twice", "Give each image an id of its own.")
    IMAGE_ID_ABSENT = ("an annotation", "annotations", "of an image that is not listed", "List the image.")
    NAME_ESCAPES = ("a file name", "file names", "leading out of the folder", "Put the image into the folder.")
    IMAGE_MISSING = ("an image", "images", "listed but missing", "Bring the file, or take it off the list.")
    IMAGE_BROKEN = ("an image", "images", "that cannot be read", "Replace the file, or take it off the list.")
    IMAGE_TRUNCATED = ("an image", "images", "whose end is missing", "Fetch it again, or take it off the list.")
    IMAGE_SIZE = ("an image", "images", "of another size than stated", "Correct it.", "taken at their own size")
    LABELS_MISSING = ("an image", "images", "without a label file", "Write its label file, or take it off the list.")
    MASK_SIZE = ("a mask", "masks", "of another size than its image", "Make it anew from this image.")
    MASK_VALUE = ("a mask", "masks", "with pixels of no class", "List the value.", "with those pixels unknown")
    MASK_UNKNOWN = ("a mask", "masks", "without a known pixel", "Look whether data.unknown says too much.")
    DEPTH_SIZE = ("a depth map", "depth maps", "of another size than its image", "Resize or crop one of them.")
    DEPTH_BROKEN = ("a depth map", "depth maps", "missing or not readable", "Bring the file, or remove its image.")
    DEPTH_BITS = ("a depth map", "depth maps", "without 16 bits", "8 bits are a drawing: bring the numbers.")
    STEREO_SIZE = ("a right image", "right images", "of another size than the left one", "Crop one of them.")
    FRAME_SIZE = ("a second frame", "second frames", "of another size than the first", "Crop one of them.")
    FLOW_BROKEN = (
        "a file of motion, or of what goes with it,",
        "files of motion, or of what goes with it,",
        "that cannot be read",
        "Bring the file, or remove it.",
    )
    FLOW_SIZE = (
        "a field of motion",
        "fields of motion",
        "of another size than its frames",
        "Look whether it is of other frames; resize images and motion together.",
    )
    IMAGE_ABSENT = ("a label file", "label files", "without an image", "Bring the image, or remove the file.")
    PARTNER_MISSING = ("an image", "images", "without its partner", "Bring the partner, or remove the file.")
    PAIR_SIZE = ("a pair", "pairs", "whose sizes do not fit the scale", "Make one anew from the other.")
    PARTNER_SIZE = ("an image", "images", "of another size than its partner", "Resize or crop one of them.")
    HALVES_ODD = ("an image", "images", "of odd width, which has no halves", "Crop it, or see data.layout.")
    IMAGE_SMALL = ("an image", "images", "too small for a sample", "Lower data.crop.", "continued by its mirror")

    def __init__(self, one: str, many: str, wrong: str, hint: str, fixed: str | None = None):
        self.one, self.many, self.wrong, self.hint, self.fixed = one, many, wrong, hint, fixed


@dataclass(frozen=True)
class Finding:
    """One problem and what was done about it.

    Attributes:
        kind: Which problem.
        file: The label file or image.
        field: The key, line or row in it.
        value: What was found there.
        action: What was done: "left out", "kept", or the kind's own word.
    """

    kind: Kind
    file: str
    field: str | None
    value: Any
    action: str


class Findings:
    """Applies the policy `on_error` to each problem, counts it, and names it.

    `fail` stops at the first; `fix` fixes what can be fixed and leaves out the rest; `skip` leaves out. What is left
    out is the smallest thing that is wrong: a label before its image.

    Args:
        on_error: The policy.
        remembered: Findings of one kind that are remembered one by one.
    """

    def __init__(self, on_error: OnError = "fail", remembered: int = EXAMPLES):
        self.on_error, self.remembered = on_error, remembered
        self.counts: Counter[tuple[Kind, str]] = Counter()
        self.examples: list[Finding] = []
        self._names: dict[tuple[Kind, str], list[str]] = {}

    def add(
        self, kind: Kind, file: str | os.PathLike[str], field: str | None, value: Any, about: str | None = None
    ) -> bool:
        """Reports a problem.

        Args:
            kind: Which problem.
            file: The file in which it is.
            field: Where in the file.
            value: What was found.
            about: The name under which a note mentions it, such as the image; the file when not given.

        Returns:
            Whether the thing is fixed and stays; if not, the caller leaves it out.

        Raises:
            DataError: The policy is `fail`.
        """
        if self.on_error == "fail":
            ways = f"fix ({kind.fixed}) or skip ({LEFT_OUT})" if kind.fixed else f"skip ({LEFT_OUT})"
            hint = f"{kind.hint} Or set data.on_error to {ways}."
            raise DataError(f"{kind.one} {kind.wrong}", file=file, field=field, value=value, hint=hint)
        fixed = self.on_error == "fix" and kind.fixed is not None
        self._record(kind, file, field, value, kind.fixed if fixed and kind.fixed else LEFT_OUT, about)
        return fixed

    def mention(
        self,
        kind: Kind,
        file: str | os.PathLike[str],
        field: str | None = None,
        value: Any = None,
        about: str | None = None,
        action: str = KEPT,
    ) -> None:
        """Counts and names what is unusual but allowed, under every policy."""
        self._record(kind, file, field, value, action, about)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence per kind: how many, what was done, and the first few names."""
        return tuple(self._note(kind, action) for kind, action in self.counts)

    def _note(self, kind: Kind, action: str) -> str:
        count, names = self.counts[kind, action], self._names[kind, action]
        noun = kind.many if count > 1 else kind.one.split(" ", 1)[1]
        more = ", ..." if len(names) > PUBLISHED else ""
        return f"{count} {noun} {kind.wrong}, {action}: {', '.join(names[:PUBLISHED])}{more}"

    def _record(
        self, kind: Kind, file: str | os.PathLike[str], field: str | None, value: Any, action: str, about: str | None
    ) -> None:
        self.counts[kind, action] += 1
        if self.counts[kind, action] <= self.remembered:
            self.examples.append(Finding(kind, os.fspath(file), field, value, action))
        names = self._names.setdefault((kind, action), [])
        name = about or os.path.basename(file)
        if len(names) <= PUBLISHED and name not in names:
            names.append(name)
