"""Problems of a dataset's labels: what is wrong, what is done about it, and how often it occurred."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from densevision.errors import DataError

__all__ = ["KEPT", "SKIPPED", "IssueKind", "LabelIssue", "LabelIssues", "OnError"]

OnError = Literal["fail", "fix", "skip"]
SKIPPED = "skipped"
KEPT = "kept"
MAX_EXAMPLES = 100
"""Issues of one kind that are stored one by one; further ones are only counted."""
MAX_NAMES = 3
"""Names that a note lists."""


class IssueKind(Enum):
    """The problems that readers detect.

    Each value is (singular, plural, problem, hint[, fix_action]). A kind without a fix action cannot be fixed: the
    label or the image is skipped under `fix` as well.
    """

    BOX_OUTSIDE = ("a box", "boxes", "extending beyond the image", "Clip it to the image.", "clipped")
    BOX_AWAY = ("a box", "boxes", "lying outside the image", "Remove it, or check its unit and its image.")
    BOX_REVERSED = ("a box", "boxes", "with negative width or height", "Swap its corners.", "corners sorted")
    BOX_FLAT = ("a box", "boxes", "with zero width or height", "Remove it.")
    BOX_NOT_FINITE = ("a box", "boxes", "with a coordinate that is not a finite number", "Remove it.")
    BOX_DUPLICATE = ("a box", "boxes", "given twice", "Remove one of them.")
    AREA_IMPOSSIBLE = ("an area", "areas", "negative or infinite", "Recompute it.", "replaced by the area of the box")
    MASK_ABSENT = ("an object", "objects", "without a mask", "Add polygons or run lengths.")
    MASK_EMPTY = ("a mask", "masks", "without any pixel", "Remove the object.")
    OUTLINE_SHORT = ("a polygon", "polygons", "with fewer than 3 points", "Remove it.", "removed from the object")
    KEYPOINT_COUNT = (
        "an object",
        "objects",
        "whose number of keypoints differs from the skeleton",
        "Give x, y, v for each.",
    )
    CLASS_ABSENT = ("a label", "labels", "of a class that is not listed", "Add the class, or fix the label.")
    ENTRY_MALFORMED = ("an entry", "entries", "with a missing value or a value of the wrong type", "Follow the format.")
    LINE_MALFORMED = ("a line", "lines", "that cannot be read", "Write: class center-x center-y width height.")
    FILE_MALFORMED = ("a label file", "label files", "that cannot be read", "Export it again.")
    ANNOTATION_ID_DUPLICATE = ("an annotation id", "annotation ids", "given twice", "Renumber the annotations.", KEPT)
    IMAGE_ID_DUPLICATE = ("an image id", "image ids", "given twice", "Give each image a unique id.")
    IMAGE_ID_ABSENT = ("an annotation", "annotations", "of an image that is not listed", "List the image.")
    NAME_ESCAPES = ("a file name", "file names", "pointing outside the folder", "Move the image into the folder.")
    IMAGE_MISSING = ("an image", "images", "listed but missing", "Add the file, or remove it from the list.")
    IMAGE_BROKEN = ("an image", "images", "that cannot be read", "Replace the file, or remove it from the list.")
    IMAGE_TRUNCATED = ("an image", "images", "that is truncated", "Copy it again, or remove it from the list.")
    IMAGE_SIZE = (
        "an image",
        "images",
        "whose size differs from the stated one",
        "Correct the stated size.",
        "read at the size of the file",
    )
    LABELS_TURNED = (
        "an image",
        "images",
        "whose labels are for the stored pixels, before its EXIF orientation is applied",
        "Apply the orientation to the image and its labels: other tools may read them differently.",
    )
    ORIENTATION_UNCLEAR = (
        "an image",
        "images",
        "whose labels may or may not follow its EXIF orientation",
        "Apply the orientation to the image file, and correct the stated size.",
    )
    LABELS_MISSING = ("an image", "images", "without a label file", "Add a label file, or remove it from the list.")
    MASK_SIZE = ("a mask", "masks", "whose size differs from its image", "Export it again for this image.")
    MASK_VALUE = ("a mask", "masks", "with pixels of no class", "List the value.", "those pixels set to unknown")
    MASK_UNKNOWN = ("a mask", "masks", "without a known pixel", "Check data.unknown.")
    DEPTH_SIZE = ("a depth map", "depth maps", "whose size differs from its image", "Resize or crop one of them.")
    DEPTH_BROKEN = ("a depth map", "depth maps", "missing or unreadable", "Add the file, or remove its image.")
    DEPTH_BITS = (
        "a depth map",
        "depth maps",
        "with 8 bits per pixel",
        "8 bits are a visualization: provide the values.",
    )
    DEPTH_NEGATIVE = (
        "a depth map",
        "depth maps",
        "with negative numbers",
        "Write 0 where depth is unknown, and disparity as positive numbers.",
        "those pixels set to unknown",
    )
    STEREO_SIZE = ("a right image", "right images", "whose size differs from the left one", "Crop one of them.")
    FRAME_SIZE = ("a second frame", "second frames", "whose size differs from the first", "Crop one of them.")
    FLOW_BROKEN = (
        "a flow file, or an occlusion or validity mask,",
        "flow files, or occlusion or validity masks,",
        "that cannot be read",
        "Replace the file, or remove it.",
    )
    FLOW_SIZE = (
        "a flow field",
        "flow fields",
        "whose size differs from its frames",
        "Check that it belongs to these frames; resize images and flow together.",
    )
    IMAGE_ABSENT = ("a label file", "label files", "without an image", "Add the image, or remove the file.")
    FILE_HIDDEN = ("a hidden file", "hidden files", "of the operating system or a program", "Remove it.")
    FILE_IGNORED = ("a file", "files", "that is not part of the dataset", "Move it out of the folder.")
    IMAGE_FRAMES = (
        "an image",
        "images",
        "with several frames or pages",
        "Only the first one is read: extract the others.",
    )
    SHAPE_WITHOUT_AREA = ("a shape", "shapes", "without area, such as a line or a point", "Remove it.")
    PARTNER_MISSING = ("an image", "images", "without its partner", "Add the partner, or remove the file.")
    PAIR_SIZE = ("a pair", "pairs", "whose sizes do not match the scale", "Recreate one from the other.")
    PARTNER_SIZE = ("an image", "images", "whose size differs from its partner", "Resize or crop one of them.")
    HALVES_ODD = ("an image", "images", "of odd width, which has no halves", "Crop it, or set data.layout.")
    IMAGE_SMALL = ("an image", "images", "smaller than the crop", "Lower data.crop.", "padded by reflection")

    def __init__(self, singular: str, plural: str, problem: str, hint: str, fix_action: str | None = None):
        self.singular, self.plural, self.problem = singular, plural, problem
        self.hint, self.fix_action = hint, fix_action


@dataclass(frozen=True)
class LabelIssue:
    """One problem and what was done about it.

    Attributes:
        kind: Which problem.
        file: The label file or image.
        field: The key, line or row in the file.
        value: The value there.
        action: What was done: "skipped", "kept", or the fix action of the kind.
    """

    kind: IssueKind
    file: str
    field: str | None
    value: Any
    action: str


class LabelIssues:
    """Applies the policy `on_error` to each problem and counts it.

    `fail` raises at the first problem; `fix` fixes what can be fixed and skips the rest; `skip` skips. The smallest
    unit that is wrong is skipped: a label before its image.

    Args:
        on_error: The policy.
        max_examples: Issues of one kind that are stored one by one.

    Attributes:
        counts: (kind, action) -> number of issues.
        examples: The stored issues, in the order of their detection.
    """

    def __init__(self, on_error: OnError = "fail", max_examples: int = MAX_EXAMPLES):
        self.on_error, self.max_examples = on_error, max_examples
        self.counts: Counter[tuple[IssueKind, str]] = Counter()
        self.examples: list[LabelIssue] = []
        self._names: dict[tuple[IssueKind, str], list[str]] = {}
        self._notes: list[str] = []

    def add(
        self, kind: IssueKind, file: str | os.PathLike[str], field: str | None, value: Any, subject: str | None = None
    ) -> bool:
        """Reports a problem and applies the policy.

        Args:
            kind: Which problem.
            file: The file that has it.
            field: The place in the file.
            value: The value there.
            subject: Name that notes list, such as the image; the file's name by default.

        Returns:
            Whether the item is fixed and stays; otherwise the caller skips it.

        Raises:
            DataError: The policy is `fail`.
        """
        if self.on_error == "fail":
            policies = f"fix ({kind.fix_action}) or skip" if kind.fix_action else "skip"
            hint = f"{kind.hint} Or set data.on_error to {policies}."
            raise DataError(f"{kind.singular} {kind.problem}", file=file, field=field, value=value, hint=hint)
        is_fixed = self.on_error == "fix" and kind.fix_action is not None
        action = kind.fix_action if is_fixed and kind.fix_action else SKIPPED
        self._record(LabelIssue(kind, os.fspath(file), field, value, action), subject)
        return is_fixed

    def warn(
        self,
        kind: IssueKind,
        file: str | os.PathLike[str],
        field: str | None = None,
        value: Any = None,
        subject: str | None = None,
        action: str = KEPT,
    ) -> None:
        """Counts something unusual that is allowed under every policy."""
        self._record(LabelIssue(kind, os.fspath(file), field, value, action), subject)

    def add_note(self, note: str) -> None:
        """Adds a sentence about the dataset that is not an issue of single items."""
        if note not in self._notes:
            self._notes.append(note)

    @property
    def notes(self) -> tuple[str, ...]:
        """The added notes, then one sentence per kind and action: the count, the action, and the first few names."""
        return (*self._notes, *(self._format_note(kind, action) for kind, action in self.counts))

    def _format_note(self, kind: IssueKind, action: str) -> str:
        count, names = self.counts[kind, action], self._names[kind, action]
        noun = kind.plural if count > 1 else kind.singular.split(" ", 1)[1]
        ellipsis = ", ..." if len(names) > MAX_NAMES else ""
        return f"{count} {noun} {kind.problem}, {action}: {', '.join(names[:MAX_NAMES])}{ellipsis}"

    def _record(self, issue: LabelIssue, subject: str | None) -> None:
        key = issue.kind, issue.action
        self.counts[key] += 1
        if self.counts[key] <= self.max_examples:
            self.examples.append(issue)
        names = self._names.setdefault(key, [])
        name = subject or os.path.basename(issue.file)
        if len(names) <= MAX_NAMES and name not in names:
            names.append(name)
